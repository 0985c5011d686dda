"""Machines as they are: one memory counted once, a carve-out beside it, no card at all."""

from __future__ import annotations

import pytest

import fitcheck
from fitcheck.errors import CardError
from fitcheck.hardware.budget import has_many_channels
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.units import GIB
from fitcheck.verdict.changes import more_memory


def test_shared_memory_is_counted_once() -> None:
    shared = fitcheck.check("qwen3-8b", "Apple M4 Pro", ram=48 * GIB, tier="Q4_K_M").best
    apart = fitcheck.check("qwen3-8b", "RTX 4090", ram=48 * GIB, tier="Q4_K_M").best
    assert shared.footprint.host.total.best == apart.footprint.host.total.best + shared.need


def test_a_carve_out_is_not_taken_from_the_system() -> None:
    carved = fitcheck.check("qwen3-30b-a3b", "Radeon 8060S", ram=16 * GIB, vram=48 * GIB, tier="Q4_K_M").best
    assert carved.verdict is Verdict.FITS
    assert carved.footprint.host.total.best < 4 * GIB
    limit = fitcheck.check("qwen3-30b-a3b", "Radeon 8060S", ram=64 * GIB, vram=48 * GIB, tier="Q4_K_M").best
    assert limit.footprint.host.total.best > limit.need


def test_what_is_larger_than_a_gb10_has_left_does_not_run() -> None:
    """122B at Q8_0 needs 121.7 GiB of the 121.69 that such a machine has in all."""
    best = fitcheck.check("qwen3.5-122b-a10b", "DGX Spark", tier="Q8_0", ctx=8192, sequences=1).best
    assert best.verdict is Verdict.NO


def test_a_machine_without_a_card_runs_on_the_processor() -> None:
    best = fitcheck.check("qwen3-8b", "none", ram=32 * GIB, tier="Q4_K_M").best
    assert best.verdict is Verdict.FITS
    assert best.judgement.binding is Constraint.RAM
    assert best.footprint.cards == ()
    rate = best.rate("generation")
    assert rate is not None
    assert 0 < rate.low < rate.high
    quick = fitcheck.check("qwen3-8b", "none", ram=32 * GIB, tier="Q4_K_M", host_bandwidth=400.0).best
    faster = quick.rate("generation")
    assert faster is not None
    assert faster.best > rate.best


def test_what_runs_on_cards_alone_is_refused_without_one() -> None:
    with pytest.raises(CardError, match="runs on a graphics card, and this machine has none"):
        fitcheck.check("sensenova-u1-8b-mot", "none", ram=64 * GIB)


def test_a_small_machine_without_a_card_is_offered_more_memory() -> None:
    best = fitcheck.check("qwen3-32b", "none", ram=8 * GIB, tier="Q4_K_M").best
    assert best.verdict is Verdict.NO
    assert best.flip is not None
    assert "system memory" in best.flip.change


def test_where_nobody_says_which_build_the_interval_spans_those_in_use() -> None:
    """613 MiB of compute buffer in December 2025 where 248 are reserved now, for one file: both must lie within."""
    open_ = fitcheck.check("llama-3.1-8b", "RTX 3090", ram=32 * GIB, tier="Q4_K_M").best
    named = fitcheck.check("llama-3.1-8b", "RTX 3090", ram=32 * GIB, tier="Q4_K_M", build="2025-12-20").best
    assert open_.memory.card.low <= named.memory.card.best <= open_.memory.card.high
    assert named.memory.card.best > open_.memory.card.best
    assert named.memory.card.high - named.memory.card.low < open_.memory.card.high - open_.memory.card.low
    assert any("newest known, 20" in one and "December 2025" in one for one in open_.footprint.assumptions)
    assert open_.memory.required.best == open_.memory.card.best


def test_a_build_that_is_named_spans_nothing_else() -> None:
    cell = fitcheck.check("llama-3.1-8b", "RTX 3090", ram=32 * GIB, tier="Q4_K_M", build="b9272").best
    assert not any("spans builds" in one for one in cell.footprint.assumptions)


@pytest.mark.parametrize(
    ("card", "ram", "server"),
    [
        ("RTX 4090", 192, False),
        ("RTX 4090", 256, False),  # four modules of 64 GB on a desktop board
        ("RTX 4090", 384, True),
        ("H100 SXM5 80 GB", 64, True),
        ("none", 512, True),
        ("RTX 4090 Laptop", 512, False),  # no laptop has more than two channels, whatever somebody types
    ],
)
def test_more_memory_than_desktop_boards_take_lies_on_more_than_two_channels(card: str, ram: int, server: bool) -> None:
    report = fitcheck.check("deepseek-v3", card, tier="IQ1_S", ram=ram * GIB)
    assert has_many_channels(report.machine) == server
    usual = "200 GB/s" if server else "60 GB/s"
    assert f"system memory of {usual}" in report.assumed_line


@pytest.mark.parametrize(("vram", "kind"), [(8 * GIB, "system"), (None, "shared")])
def test_memory_beside_a_carve_out_is_the_systems(vram: int | None, kind: str) -> None:
    """What the firmware set aside does not grow with it; a shared pool does."""
    ask = fitcheck.check("qwen3-32b", "Strix Halo", ram=8 * GIB, vram=vram, tier="Q4_K_M").best.ask
    change = next(more_memory(ask))
    assert change.words == f"16 GB of {kind} memory"
    assert change.eases is not None
    assert (Constraint.VRAM in change.eases) is (kind == "shared")
