"""What records change in a check: their own card is calibrated, no other card is, and real runs become measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.records.evidence import Index, LinkRow, accepted
from fitcheck.records.run import Run
from fitcheck.verdict.check import check
from fitcheck.verdict.evidence import calibration_for
from fitcheck.verdict.report import Cell, Report

MODEL = catalog.get("sensenova-u1-8b-mot")


def report(card: str, index: Index | None) -> Report:
    return check(MODEL, machine_for(find_card(card)), index=index, advise=False)


def cell(found: Report, tier: str, mode: str) -> Cell:
    return next(one for one in found.cells if (one.tier.name, one.placement.mode) == (tier, mode))


def record(tier: str, mode: str = "full", **changes: Any) -> Run:
    """An accepted run of plain t2i at 2048x2048 on the H100, changed; which of several is the same on every day."""
    found = [row for row in accepted().rows if (row.cell.tier, row.cell.mode, row.cell.task) == (tier, mode, "t2i")]
    usual = [row for row in found if ("width", 2048) in row.cell.sizes and row.outcome == "ok"]
    return replace(min(usual, key=lambda row: row.id), cap=None, **changes)


def link(number: int, rate: float) -> LinkRow:
    blocks = tuple((size << 20, rate) for size in (1, 1024))
    return LinkRow(str(number), "h100-sxm5-80gb", number, blocks, tuple((size, each / 5) for size, each in blocks))


def test_records_of_a_card_calibrate_that_card_alone() -> None:
    index = accepted()
    assert {one.evidence.level for one in report("H100 SXM", index).cells} == {"calibrated"}
    assert {one.evidence.level for one in report("RTX 4070", index).cells} == {"estimated"}
    assert report("RTX 4070", index).to_json() == report("RTX 4070", None).to_json()


def test_a_calibrated_full_mode_predicts_its_own_record() -> None:
    row = record("Q4_K_S", seconds=12.5)
    found = cell(report("H100 SXM", Index((row,))), "Q4_K_S", "full")
    assert found.seconds is not None
    assert found.seconds.best == pytest.approx(12.5, rel=1e-12)
    assert (found.evidence.level, found.evidence.records) == ("calibrated", 1)


def test_of_several_runs_in_mode_full_the_median_counts() -> None:
    runs = [record("Q4_K_S", id=str(took), seconds=took) for took in (30.0, 10.0, 11.0)]
    found = cell(report("H100 SXM", Index(tuple(runs))), "Q4_K_S", "full")
    assert found.seconds is not None
    assert found.seconds.best == pytest.approx(11.0, rel=1e-12)


def test_runs_of_the_tier_itself_calibrate_it_others_only_where_it_has_none() -> None:
    card, tier = find_card("H100 SXM"), "Q4_K_S"
    own, other = record("Q4_K_S", seconds=10.0), record("BF16", seconds=10.0)
    both, alone, foreign = (calibration_for(card, tier, Index(rows)) for rows in ((own, other), (own,), (other,)))
    assert both == alone
    assert foreign is not None
    assert foreign != alone
    capped = replace(own, cap=24 << 30)
    failed = replace(own, outcome="oom-gpu")
    streamed = record("Q4_K_S", "low")
    assert calibration_for(card, tier, Index((capped, failed, streamed))) is None


def test_synthetic_weights_never_count_as_measured_but_real_ones_do() -> None:
    index = accepted()
    assert all(row.weights == "synthetic" for row in index.rows)
    row = record("Q8_0")
    for weights, level in (("synthetic", "calibrated"), ("real", "measured")):
        found = cell(report("H100 SXM", Index((replace(row, weights=weights),))), "Q8_0", "full")
        assert (found.evidence.level, found.evidence.records) == (level, 1)
    assert "on the card" in found.evidence.note


def test_every_link_record_of_the_card_counts() -> None:
    """Three machines: copies go by the median one, and may go as fast and as slowly as on any of them."""
    tier = "BF16"
    links = (link(1, 50e9), link(2, 54e9), link(3, 40e9))
    index = Index((record("BF16"),), links)
    calibration = calibration_for(find_card("H100 SXM"), tier, index)
    assert calibration is not None
    assert calibration.records == 4
    assert calibration.pinned == tuple(one.pinned for one in links)
    assert calibration.pageable == tuple(one.pageable[1:] for one in links)  # what a host cache holds does not count
    assert calibration_for(find_card("RTX 4090"), tier, index) is None
    alone, all_three = (
        cell(report("H100 SXM", Index(index.rows, some)), "BF16", "low").duration for some in (links[:1], links)
    )
    assert alone is not None
    assert all_three is not None
    assert all_three.part("streaming") == pytest.approx(alone.part("streaming"))  # both 50 GB/s
    assert all_three.seconds is not None
    assert alone.seconds is not None
    wider = all_three.seconds.high - alone.seconds.high
    assert wider == pytest.approx(alone.part("streaming") * (50 / 40 - 1 / 0.95))


def test_link_records_alone_leave_compute_as_it_was() -> None:
    tier = "BF16"
    calibration = calibration_for(find_card("H100 SXM"), tier, Index((), (link(1, 50e9),)))
    assert calibration is not None
    assert (calibration.compute, calibration.spread) == (1.0, None)
    linked, plain = (report("H100 SXM", index) for index in (Index((), (link(1, 50e9),)), None))
    assert cell(linked, "BF16", "full").duration == cell(plain, "BF16", "full").duration
    assert cell(linked, "BF16", "low").duration != cell(plain, "BF16", "low").duration


def spread(*runs: Run, tier: str = "Q4_K_S") -> float | None:
    calibration = calibration_for(find_card("H100 SXM"), tier, Index(runs))
    assert calibration is not None
    return calibration.spread


def test_the_spread_left_is_that_of_runs_of_one_tier() -> None:
    """Deviations of ±1 % on four runs and ±4 % on two: (4 × 1² + 2 × 4²) / (3 + 1) degrees of freedom is 3² %."""
    four = [record("Q4_K_S", id=f"a{number}", seconds=took) for number, took in enumerate((9.9, 10.1, 9.9, 10.1))]
    two = [record("BF16", id=f"b{number}", seconds=took) for number, took in enumerate((4.8, 5.2))]
    assert spread(*four, *two) == pytest.approx(2.132 * 0.03 * (1 + 1 / 4) ** 0.5)
    assert spread(*four, *two, tier="BF16") == pytest.approx(2.132 * 0.03 * (1 + 1 / 2) ** 0.5)
    lone = record("Q8_0", id="c")
    assert spread(*four, *two, lone, tier="Q8_0") == pytest.approx(2.132 * 0.03 * 2**0.5)


def test_a_tier_without_runs_keeps_how_the_other_tiers_differ() -> None:
    """Factors of 0.9 and 1.1 of their mean, each measured twice: 4 × 10² / 3 degrees of freedom."""
    rows = [record(tier, id=f"{tier}{number}") for tier in ("BF16", "Q4_K_S") for number in range(2)]
    card = find_card("H100 SXM")
    changed = []
    for row, factor in zip(rows, (0.09, 0.09, 0.11, 0.11), strict=True):
        now = calibration_for(card, row.cell.tier, Index((row,)))
        assert now is not None
        assert row.seconds is not None
        changed.append(replace(row, seconds=row.seconds / now.compute * factor))
    assert spread(*changed, tier="BF16") == pytest.approx(0, abs=1e-12)
    assert spread(*changed, tier="Q8_0") == 0.15  # 2.353 × 11.5 % × 1.12 would be 30 %


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_run_of_no_time_calibrates_nothing(seconds: float) -> None:
    tier = "BF16"
    assert calibration_for(find_card("H100 SXM"), tier, Index((record("BF16", seconds=seconds),))) is None


def test_few_runs_leave_what_other_cards_left_but_never_less_than_was_seen() -> None:
    def pair(off: float) -> tuple[Run, Run]:
        return record("Q4_K_S", id="a", seconds=10 * (1 - off)), record("Q4_K_S", id="b", seconds=10 * (1 + off))

    assert spread(record("Q4_K_S")) == 0.15
    assert spread(record("Q4_K_S"), record("BF16")) == 0.15
    assert spread(*pair(0.05)) == 0.15  # 6.314 × 7.1 % × 1.22 would be 55 %
    assert spread(*pair(0.2)) == pytest.approx(0.2)


def test_wildly_different_runs_never_predict_less_than_nothing() -> None:
    runs = [record("BF16", id=str(took), seconds=took) for took in (1.0, 1.1, 1.2, 1.3, 90.0)]
    found = cell(report("H100 SXM", Index(tuple(runs))), "BF16", "full")
    assert found.seconds is not None
    assert 0 <= found.seconds.low < found.seconds.best < found.seconds.high
