"""The judgement at its boundaries: one byte decides, and the smallest change that betters an answer is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

import fitcheck
from fitcheck.hardware.budget import ram_budget, visible_total
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Budget, Machine, machine_for
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase
from fitcheck.memory.weighing import Constraint, Verdict, weigh, weigh_host
from fitcheck.models import catalog
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask, Change, Runtime, Support, Wanted
from fitcheck.runtimes.level import level_with
from fitcheck.runtimes.sensenova.card_seen import view_of
from fitcheck.runtimes.sensenova.runtime import RUNTIME
from fitcheck.runtimes.sensenova.streaming import placement_of, streaming_of, upstream
from fitcheck.units import GIB, MIB, Interval
from fitcheck.verdict.cell import Flip
from fitcheck.verdict.changes import more_memory, smallest_change
from fitcheck.verdict.judge import judge, judged


def footprint(
    card: int = 100, required: int = 80, host: tuple[int, int, int] = (50, 60, 70), disk: int = 10, slack: int = 5
) -> Footprint:
    exact = Interval.exactly
    memory = CardMemory(
        phases=(Phase("denoise", card, 0, 0, 0, 0),),
        allocated=exact(required),
        reserved=exact(card),
        card=Interval(card - slack, card, card + slack),
        required=Interval(required - slack, required, required + slack),
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
        (105, 120, Verdict.FITS),  # the largest footprint goes into the smallest budget, to the byte
        (104, 120, Verdict.TIGHT),
        (70, 80, Verdict.TIGHT),  # what must be there goes into the expected budget, to the byte
        (79, 79, Verdict.NO),
    ],
)
def test_card_memory_at_the_byte(low: int, best: int, expected: Verdict) -> None:
    assert verdict(footprint(), Budget(Interval(low, best, 500), None, None, "")) is expected


@pytest.mark.parametrize(
    ("ram", "expected"),
    [
        ((70, 75, 80), Verdict.FITS),
        ((69, 75, 80), Verdict.TIGHT),  # the high end of the need may not go in
        ((60, 65, 70), Verdict.TIGHT),
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
    need = footprint(card=100, host=(50, 60, 60), slack=0)
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


class _Fixed:
    """A runtime that needs the same everywhere and knows these changes; it does not say what that hangs on."""

    name = "fixed"

    def weighs(self, machine: Machine) -> None:
        return None

    def at_least(self, ask: Ask) -> None:
        return None

    def foreseen(self, ask: Ask) -> None:
        return None

    def __init__(self, need: Footprint, *changes: Change):
        self.need, self.known = need, changes

    def footprint(self, ask: Ask) -> Footprint:
        return self.need

    def spread(self, ask: Ask, footprint: Footprint) -> Footprint:
        return footprint

    def duration(self, ask: Ask, footprint: Footprint, calibration: object = None) -> None:
        return None

    def platform(self, ask: Ask) -> Support | None:
        return None

    def changes(self, ask: Ask, wanted: Wanted) -> Iterator[Change]:
        yield from self.known


def fixed(need: Footprint, *changes: Change) -> Runtime:
    return cast(Runtime, _Fixed(need, *changes))


def flipped(need: Footprint, one: Ask, *changes: Change) -> Flip | None:
    runtime = fixed(need, *changes)
    return smallest_change(runtime, one, Wanted(), judge(runtime, one, need))


def on_card(best: int, required: int | None = None, host: int = 1, disk: int = 10) -> Footprint:
    """Amounts in GiB, the disk's in bytes."""
    least = best if required is None else required
    return footprint(best * GIB, least * GIB, (host * GIB, host * GIB, host * GIB), disk, slack=0)


@pytest.mark.parametrize(
    ("best", "required", "reason"),
    [
        (15, 15, "The card must hold 15.0 GiB at the peak (denoise) of 20.0 GiB: 5.0 GiB to spare."),
        (20, 20, "The card must hold 20.0 GiB at the peak (denoise) of 20.0 GiB: 0.0 GiB to spare."),
        (
            22,
            18,
            "The card must hold 22.0 GiB at the peak (denoise) of 20.0 GiB: 2.0 GiB over, absorbed by giving cache "
            "back.",
        ),
        (30, 30, "The card must hold 30.0 GiB at the peak (denoise); 20.0 GiB can be used: short by 10.0 GiB."),
        (30, 28, "The card must hold 28.0 GiB at the peak (denoise); 20.0 GiB can be used: short by 8.0 GiB."),
        (  # tables show 30
            30,
            25,
            "The card must hold at least 25.0 GiB at the peak (denoise), 30.0 GiB where there is room for a cache; "
            "20.0 GiB can be used: short by 5.0 GiB.",
        ),
    ],
)
def test_the_reason_says_by_how_much(best: int, required: int, reason: str) -> None:
    need = on_card(best, required)
    one = with_free(asked("RTX 4090"), 20)
    assert judge(fixed(need), one, need).reason_for(one) == reason


def test_of_two_cards_the_shorter_one_is_spoken_of() -> None:
    small, large = on_card(4), on_card(30)
    phases = (replace(large.cards[0].phases[0], name="decode"),)
    need = replace(small, cards=(small.cards[0], replace(large.cards[0], phases=phases)))
    one = with_free(asked("RTX 4090"), 20)
    one = replace(one, machine=replace(one.machine, gpus=one.machine.gpus * 2))
    found = judge(fixed(need), one, need)
    assert (found.verdict, found.gpu) == (Verdict.NO, 1)
    assert found.reason_for(one).startswith("The card must hold 30.0 GiB at the peak (decode);")
    assert flipped(need, one) is None  # which of them would be another one is not said


def test_a_change_that_betters_nothing_is_passed_over_and_the_next_size_sold_is_named() -> None:
    """Of an RTX 4090 with 12 of its 24 GB to give, as much is taken of any other size: 20 GiB need 32 GB, 12 GiB
    need no change."""
    one = with_free(asked("RTX 4090"), 12)
    nothing, other = Change("nothing", one), Change("another card", with_free(one, 30))
    assert flipped(on_card(20), one, nothing) == Flip("a card with 32 GB", Verdict.FITS, bought=True)
    assert flipped(on_card(20), one, nothing, other) == Flip("another card", Verdict.FITS)
    assert flipped(on_card(21), one) == Flip("a card with 40 GB", Verdict.FITS, bought=True)
    assert flipped(on_card(277), one) is None  # 288 with 12 taken give 276
    assert flipped(on_card(12), one) is None
    assert flipped(on_card(14, 11), one, nothing) == Flip("a card with 32 GB", Verdict.FITS, bought=True)


@pytest.mark.parametrize("available", [None, 8 * GIB])
def test_the_smallest_amount_of_system_memory_that_is_enough_is_named(available: int | None) -> None:
    one = with_free(asked("RTX 4090"), 20)
    one = replace(one, machine=replace(one.machine, ram_total=32 * GIB, ram_available=available))
    for host, size in ((40, 48), (55, 64), (100, 128)):
        budget = ram_budget(replace(one.machine, ram_total=size * GIB, ram_available=None))
        assert budget is not None
        assert budget.best >= host * GIB
        found = flipped(on_card(4, host=host), one)
        assert found is not None
        assert found.change == f"{size} GB of system memory"
        assert found.verdict in (Verdict.FITS, Verdict.TIGHT)
    assert flipped(on_card(4, host=600), one) is None


def test_where_card_and_host_share_one_memory_both_grow() -> None:
    one = asked("M2 Max")
    machine = machine_for(find_card("M2 Max"), ram=32 * GIB)
    one = replace(one, machine=machine)
    found = flipped(on_card(40), one)
    assert found is not None
    assert found.change == "64 GB of shared memory"


def test_missing_disk_is_rounded_up() -> None:
    one = with_free(asked("RTX 4090"), 20)
    one = replace(one, machine=replace(one.machine, disk_free=9 * 10**9))
    for disk, change in ((10 * 10**9, 1), (10 * 10**9 + 1, 2), (9 * 10**9 + 1, 1)):
        assert flipped(on_card(4, disk=disk), one) == Flip(f"{change} GB more free disk", Verdict.FITS)


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


def test_a_change_that_is_known_to_run_comes_before_one_that_may() -> None:
    """Of LTX-2.3 beside 32 GB nobody knows how sequential offloading does; with 48 GB model offloading runs."""
    report = fitcheck.check("ltx-2.3", "RTX 4090", ram=32 * GIB)
    cell = next(one for one in report.cells if one.placement.mode == "model" and one.verdict is Verdict.NO)
    assert cell.flip is not None
    assert (cell.flip.change, cell.flip.verdict) == ("48 GB of system memory", Verdict.TIGHT)


def test_of_a_run_that_is_not_modelled_a_lack_of_system_memory_is_said_to_be_the_least() -> None:
    """Tables show all that is expected, the verdict rests on what is needed at the very least."""
    shown, least = on_card(4, host=100), on_card(4, host=80)
    one = with_free(asked("RTX 4090"), 20)
    one = replace(one, machine=replace(one.machine, ram_total=96 * GIB, ram_available=64 * GIB))
    support = Support(Verdict.UNKNOWN, Constraint.MODEL, "not modelled", least=least)
    reason = judged(level_with(support, one, shown), one, shown).reason_for(one)
    assert reason == "The host must hold at least 80.0 GiB; 64.0 GiB can be used: short by 16.0 GiB."
    exact = judged(level_with(None, one, shown), one, shown).reason_for(one)
    assert exact == "The host must hold 100.0 GiB; 64.0 GiB can be used: short by 36.0 GiB."


def test_what_is_left_once_there_is_enough_of_what_is_short_is_the_worst_of_the_rest() -> None:
    """Card memory is short, system memory tight, and disk there: with a larger card it is tight, not fits."""
    one = with_free(asked("RTX 4090"), 20)
    one = replace(one, machine=replace(one.machine, ram_total=96 * GIB, ram_available=64 * GIB, disk_free=1 << 40))
    need = replace(on_card(30), host=HostMemory(0, 0, 0, Interval(60 * GIB, 62 * GIB, 70 * GIB)))
    level = level_with(None, one, need)
    assert [margin.verdict for margin in level.weighed.margins] == [Verdict.NO, Verdict.TIGHT, Verdict.FITS]
    assert level.mended is Verdict.TIGHT
    roomy = level_with(None, one, on_card(30))
    assert (roomy.verdict, roomy.mended) == (Verdict.NO, Verdict.FITS)


def test_system_memory_that_is_there_is_not_offered_again() -> None:
    """Other programs hold most of 32 GB: they are closed first, and what to buy is more than that."""
    one = with_free(asked("RTX 4090"), 20)
    one = replace(one, machine=replace(one.machine, ram_total=32 * GIB, ram_available=10 * GIB))
    flip = flipped(on_card(4, host=20), one)
    assert flip is not None
    assert flip.change == "close what holds 19.0 GiB of system memory"
    assert next(more_memory(one)).words == "48 GB of system memory"


@pytest.mark.parametrize(("low", "sure"), [(10, False), (16, True)])
def test_no_is_sure_where_not_even_the_least_goes_into_the_most(low: int, sure: bool) -> None:
    margin = weigh_host(HostMemory(0, 0, 0, Interval(low, 20, 30)), Interval(5, 10, 15))
    assert (margin.verdict, margin.sure, margin.left, margin.worst) == (Verdict.NO, sure, -10, -25)
