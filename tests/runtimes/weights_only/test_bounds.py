"""What weights alone can say: beyond everything that a machine has they are a ``no``, within it nobody knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.unknown import UnknownArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.models.workload import Task
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB, Interval
from fitcheck.verdict.check import check
from fitcheck.verdict.report import Report

WEIGHTS = 8 * 8192 * 8192 * 2  # 1 GiB in bfloat16


def machine(card: int, host: int) -> Machine:
    """An RTX 4090 with so many bytes to give, and so many free beside it."""
    return replace(machine_for(find_card("RTX 4090"), vram_override=card), ram_total=64 * GIB, ram_available=host)


def judged(have: Machine, kind: str = "gguf", task: Task = Task.CHAT, components: tuple[str, ...] = ()) -> Report:
    """A model of an unknown architecture of eight square layers, the first quarter of them another component."""
    table = TensorTable(
        Tensor(f"layers.{index}.weight", (8192, 8192), "BF16", branch="text" if index < 2 else "unet")
        for index in range(8)
    )
    assert table.nbytes == WEIGHTS
    tier = Tier("BF16", table, kind, disk_bytes=table.nbytes, components=components)
    model = Model("org/odd", "odd", UnknownArchitecture("OddModel"), (tier,), (task,), ("weights only",))
    return check(model, have, Wanted(), advise=False)


@pytest.mark.parametrize("card", [1, WEIGHTS // 3, WEIGHTS - 1])
@pytest.mark.parametrize(("short", "expected"), [(1, Verdict.NO), (0, Verdict.UNKNOWN), (-1, Verdict.UNKNOWN)])
def test_a_spread_file_is_a_no_where_card_and_host_together_are_a_byte_short(
    card: int, short: int, expected: Verdict
) -> None:
    (cell,) = judged(machine(card, WEIGHTS - card - short)).cells
    assert cell.placement.mode == "spread"
    assert cell.verdict is expected
    assert cell.footprint.cards[0].required.best + cell.footprint.host.total.best == WEIGHTS
    assert cell.judgement.binding is (Constraint.RAM if expected is Verdict.NO else Constraint.MODEL)


def test_a_spread_file_fills_what_the_card_is_expected_to_give() -> None:
    have = machine(1, WEIGHTS)
    usable = Interval(WEIGHTS // 8, WEIGHTS // 4, WEIGHTS // 2)
    have = replace(have, gpus=(replace(have.gpus[0], vram_override=None, usable=usable),))
    (cell,) = judged(have).cells
    assert cell.footprint.cards[0].required == usable
    assert cell.footprint.host.total == Interval(WEIGHTS // 2, WEIGHTS - WEIGHTS // 4, WEIGHTS - WEIGHTS // 8)


@pytest.mark.parametrize(
    ("least", "usual", "most", "expected"),
    [
        (WEIGHTS // 4, WEIGHTS // 2, WEIGHTS - 1, Verdict.NO),  # not even the most that the card may give holds them
        (
            WEIGHTS // 4,
            WEIGHTS // 2,
            WEIGHTS,
            Verdict.UNKNOWN,
        ),  # they are beyond what is expected, and that is not sure
        (WEIGHTS, WEIGHTS, WEIGHTS, Verdict.UNKNOWN),
    ],
)
def test_only_what_is_certain_is_a_no(least: int, usual: int, most: int, expected: Verdict) -> None:
    have = machine(1, 64 * GIB)
    usable = Interval(least, usual, most)
    have = replace(have, gpus=(replace(have.gpus[0], vram_override=None, usable=usable),))
    (cell,) = judged(have, "safetensors", Task.T2I).cells
    assert cell.verdict is expected


@pytest.mark.parametrize(("short", "expected"), [(1, Verdict.NO), (0, Verdict.UNKNOWN), (-1, Verdict.UNKNOWN)])
def test_weights_that_only_a_card_can_hold_are_a_no_where_it_is_a_byte_short(short: int, expected: Verdict) -> None:
    (cell,) = judged(machine(WEIGHTS - short, 64 * GIB), "safetensors", Task.T2I).cells
    assert (cell.placement.mode, cell.verdict) == ("full", expected)


@pytest.mark.parametrize(
    ("card", "host", "expected"),
    [
        (WEIGHTS, WEIGHTS, {"full": Verdict.UNKNOWN, "model offload": Verdict.UNKNOWN}),
        (WEIGHTS - 1, WEIGHTS, {"full": Verdict.NO, "model offload": Verdict.UNKNOWN}),
        (WEIGHTS * 3 // 4, WEIGHTS, {"full": Verdict.NO, "model offload": Verdict.UNKNOWN}),
        (WEIGHTS * 3 // 4 - 1, WEIGHTS, {"full": Verdict.NO, "model offload": Verdict.NO}),
        (WEIGHTS * 3 // 4, WEIGHTS - 1, {"full": Verdict.NO, "model offload": Verdict.NO}),
    ],
)
def test_a_pipeline_needs_room_for_all_or_for_its_largest_component(
    card: int, host: int, expected: dict[str, Verdict]
) -> None:
    found = judged(machine(card, host), "safetensors", Task.T2I, ("text", "unet"))
    assert {cell.placement.mode: cell.verdict for cell in found.cells} == expected


def test_nothing_ever_fits_by_its_weights_alone() -> None:
    for kind, task in (("gguf", Task.CHAT), ("safetensors", Task.T2I)):
        for card in (WEIGHTS, 24 * GIB, 1024 * GIB):
            assert {cell.verdict for cell in judged(machine(card, 1024 * GIB), kind, task).cells} == {Verdict.UNKNOWN}


@pytest.mark.parametrize(("short", "expected"), [(1, Verdict.NO), (0, Verdict.UNKNOWN)])
@pytest.mark.parametrize("task", [Task.CHAT, Task.T2I])
def test_without_a_card_the_weights_lie_in_system_memory(short: int, expected: Verdict, task: Task) -> None:
    have = replace(Machine(gpus=()), ram_total=64 * GIB, ram_available=WEIGHTS - short)
    (cell,) = judged(have, task=task).cells
    assert cell.footprint.cards == ()
    assert cell.footprint.host.total.best == WEIGHTS
    assert cell.verdict is expected
    if expected is Verdict.UNKNOWN:
        assert "take 1.0 GiB of 1.0 GiB system memory" in cell.reason
    assert "card" not in cell.reason
