"""The judgement at its boundaries: one byte decides, and the order of answers is the documented one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

import fitcheck
from fitcheck.hardware.budget import visible_total
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Budget, machine_for
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase
from fitcheck.memory.weighing import Constraint, Verdict, weigh
from fitcheck.models import catalog
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.sensenova.runtime import RUNTIME, view_of
from fitcheck.runtimes.sensenova.streaming import placement_of, streaming_of, upstream
from fitcheck.units import GIB, MIB, Interval
from fitcheck.verdict.judge import judge
from fitcheck.verdict.order import headline, order
from fitcheck.verdict.report import Cell


def footprint(
    card: int = 100, required: int = 80, host: tuple[int, int, int] = (50, 60, 70), disk: int = 10
) -> Footprint:
    exact = Interval.exactly
    memory = CardMemory(
        phases=(Phase("denoise", card, 0, 0, 0, 0),),
        allocated=exact(required),
        reserved=exact(card),
        card=Interval(card - 5, card, card + 5),
        required=Interval(required - 5, required, required + 5),
    )
    return Footprint(
        cards=(memory,),
        host=HostMemory(0, 0, host[1], Interval(*host)),
        disk=disk,
    )  # fmt: skip


def verdict(need: Footprint, have: Budget) -> Verdict:
    return weigh(need, (have,)).verdict


@pytest.mark.parametrize(
    ("low", "best", "expected"),
    [
        (100, 120, Verdict.FITS),  # the usual footprint goes into the pessimistic budget, to the byte
        (99, 120, Verdict.TIGHT),
        (70, 80, Verdict.TIGHT),  # what must be there goes into the expected budget, to the byte
        (79, 79, Verdict.NO),
    ],
)
def test_card_memory_at_the_byte(low: int, best: int, expected: Verdict) -> None:
    assert verdict(footprint(), Budget(Interval(low, best, 500), None, None, "")) is expected


@pytest.mark.parametrize(
    ("ram", "expected"),
    [
        ((60, 65, 70), Verdict.FITS),
        ((60, 65, 69), Verdict.TIGHT),  # the high end of the need may not go in
        ((59, 65, 70), Verdict.TIGHT),
        ((40, 60, 65), Verdict.TIGHT),
        ((40, 59, 90), Verdict.NO),
    ],
)
def test_host_memory_at_the_byte(ram: tuple[int, int, int], expected: Verdict) -> None:
    assert verdict(footprint(), Budget(Interval.exactly(1000), Interval(*ram), None, "")) is expected


@pytest.mark.parametrize(("disk", "expected"), [(10, Verdict.FITS), (9, Verdict.NO)])
def test_disk_at_the_byte(disk: int, expected: Verdict) -> None:
    assert verdict(footprint(), Budget(Interval.exactly(1000), None, disk, "")) is expected


def test_what_binds_is_what_has_least_to_spare() -> None:
    need = footprint(card=100, host=(50, 60, 60))
    for vram, ram, binding in ((110, 200, Constraint.VRAM), (1000, 61, Constraint.RAM)):
        found = weigh(need, (Budget(Interval.exactly(vram), Interval.exactly(ram), None, ""),))
        assert (found.verdict, found.binding.constraint) == (Verdict.FITS, binding)


def test_unknown_ranks_between_tight_and_no() -> None:
    assert [one.rank for one in (Verdict.FITS, Verdict.TIGHT, Verdict.UNKNOWN, Verdict.NO)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("card", "allowed"), [("GTX 1080 Ti", False), ("V100 16GB PCIe", True), ("RTX 2080 Ti", True), ("RTX 3090", True)]
)
def test_the_wheels_minimum_compute_capability_runs(card: str, allowed: bool) -> None:
    one = asked(card, "full", vram=1000 * GIB)
    found = judge(RUNTIME, one, RUNTIME.footprint(one))
    assert (found.verdict is not Verdict.NO) == allowed
    slow = found.binding is Constraint.DTYPE
    assert slow == (card in ("V100 16GB PCIe", "RTX 2080 Ti"))


def cell(
    name: str, seconds: float | None, bits: float, memory: int = 100, *, published: bool = True,
    verdict: Verdict = Verdict.FITS, steps: int = 8,
) -> Cell:  # fmt: skip
    made: Any = SimpleNamespace(
        name=name,
        verdict=verdict,
        tier=SimpleNamespace(published=published, tensors=SimpleNamespace(nbytes=bits * 1000 / 8, elements=1000)),
        seconds=None if seconds is None else Interval.exactly(seconds),
        workload=Workload(Task.T2I, steps=steps, cfg=1.0),
        need=memory,
    )
    return cast(Cell, made)


def names(*cells: Cell) -> list[str]:
    return [cast(Any, one).name for one in order(cells)]


def test_near_the_fastest_the_finer_tier_leads_and_beyond_it_does_not() -> None:
    assert names(cell("fast", 10.0, 4.5), cell("fine", 11.4, 16)) == ["fine", "fast"]
    assert names(cell("fast", 10.0, 4.5), cell("fine", 11.6, 16)) == ["fast", "fine"]


def test_of_equal_times_less_card_memory_leads_and_a_slower_mode_does_not() -> None:
    assert names(cell("full", 10.0, 8, 200), cell("fast", 10.05, 8, 100)) == ["fast", "full"]
    assert names(cell("full", 10.0, 8, 200), cell("low", 11.0, 8, 10)) == ["full", "low"]


def test_published_tiers_come_before_what_nobody_offers_and_verdicts_before_all() -> None:
    assert names(cell("made up", 5.0, 8, published=False), cell("real", 20.0, 8)) == ["real", "made up"]
    tight = cell("tight", 1.0, 16, verdict=Verdict.TIGHT)
    assert names(tight, cell("fits", 100.0, 2)) == ["fits", "tight"]


def test_without_seconds_fewer_steps_come_first() -> None:
    assert names(cell("many", None, 16, steps=50), cell("few", None, 4.5)) == ["few", "many"]


def test_where_nothing_runs_the_published_cell_least_short_is_spoken_of() -> None:
    def short(name: str, left: int, *, published: bool = True) -> Cell:
        made: Any = cell(name, None, 4, published=published, verdict=Verdict.NO)
        made.judgement = SimpleNamespace(margins=tuple(SimpleNamespace(left=one, available=10) for one in (5, left)))
        return cast(Cell, made)

    cells = [short("a", -9), short("b", -2, published=False), short("c", -4), short("d", -6)]
    assert headline(cells) == 2
    assert headline([cell("tight", 1.0, 4, verdict=Verdict.TIGHT), *cells]) == 0


def test_changes_that_are_offered_give_a_better_verdict_with_a_tier_that_exists() -> None:
    for slug in ("sensenova-u1-8b-mot", "sensenova-u1.5-8b-mot"):
        published = {tier.name for tier in catalog.get(slug).tiers if tier.published}
        for card, ram in (("RTX 4060", 16), ("RTX 4070", 32), ("RTX 4090", 32)):
            report = fitcheck.check(slug, card, ram=ram * GIB)
            flips = [(one, one.flip) for one in report.cells if one.flip is not None]
            assert flips
            for one, flip in flips:
                assert flip.verdict.rank < one.verdict.rank
                if flip.change.startswith("tier "):
                    assert flip.change.removeprefix("tier ") in published


def asked(card: str, mode: str = "fast", vram: int | None = None) -> Ask:
    model = catalog.get("sensenova-u1-8b-mot")
    machine = machine_for(find_card(card), ram=64 * GIB, vram_override=vram)
    return Ask(model, model.tier_named("BF16"), placement_of(upstream(mode)), Workload(Task.T2I), machine)


def with_free(one: Ask, free: int) -> Ask:
    """The same card with ``free`` GiB to give."""
    gpu = replace(one.machine.gpus[0], usable=Interval.exactly(free * GIB))
    return replace(one, machine=replace(one.machine, gpus=(gpu,)))


def test_a_program_sees_less_than_the_box_says() -> None:
    one = with_free(asked("RTX 4090"), 20)
    view = view_of(one, streaming_of(one.placement))
    assert (view.total, view.free) == ((24564 - 400) * MIB, 20 * GIB)
    assert visible_total(asked("RTX 4090", vram=10 * GIB).card) == 10 * GIB
    assert visible_total(machine_for(find_card("M2 Max"), ram=64 * GIB).gpus[0]) == 64 * GIB
    assert visible_total(machine_for(find_card("M2 Max")).gpus[0]) is None


def test_layers_that_fast_keeps_are_not_streamed_again() -> None:
    """PCIe 3.0 x4 hides behind nothing: seconds fall with the layers that stay."""
    took = []
    for free in (10, 14, 18, 22):
        one = with_free(asked("RTX 4090"), free)
        gpu = one.card
        slow = replace(gpu, link=replace(gpu.link, pcie_generation=3, pcie_lanes=4))
        one = replace(one, machine=replace(one.machine, gpus=(slow,)))
        found = RUNTIME.duration(one, RUNTIME.footprint(one))
        assert found is not None
        assert found.seconds is not None
        took.append(found.seconds.best)
    assert took == sorted(took, reverse=True)
    assert took[0] > 1.5 * took[-1]
