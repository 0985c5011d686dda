"""What records change in a check: their own card is calibrated, no other card is, and real runs become measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.records.evidence import Index, LinkRow, Row, accepted
from fitcheck.verdict.check import check
from fitcheck.verdict.evidence import calibration_for
from fitcheck.verdict.report import Cell, Report

MODEL = catalog.get("sensenova-u1-8b-mot")


def report(card: str, index: Index | None) -> Report:
    return check(MODEL, machine_for(find_card(card)), index=index, advise=False)


def cell(found: Report, tier: str, mode: str) -> Cell:
    return next(one for one in found.cells if (one.tier.name, one.placement.mode) == (tier, mode))


def record(tier: str, mode: str = "full", **changes: object) -> Row:
    """An accepted run of plain t2i at 2048x2048 on the H100, changed; which of several is the same on every day."""
    found = [row for row in accepted().rows if (row.cell.tier, row.cell.mode, row.cell.task) == (tier, mode, "t2i")]
    usual = [row for row in found if ("width", 2048) in row.cell.sizes and row.outcome == "ok"]
    return replace(min(usual, key=lambda row: row.id), cap=None, **changes)  # type: ignore[arg-type]


def link(number: int, rate: float) -> LinkRow:
    return LinkRow(str(number), "h100-sxm5-80gb", number, rate, rate / 5)


def test_records_of_a_card_calibrate_that_card_alone() -> None:
    index = accepted()
    assert {one.evidence.level for one in report("H100 SXM", index).cells} == {"calibrated"}
    assert {one.evidence.level for one in report("RTX 4070", index).cells} == {"estimated"}
    assert report("RTX 4070", index).to_json() == report("RTX 4070", None).to_json()


def test_a_calibrated_full_mode_predicts_its_own_record() -> None:
    row = record("Q4_K_S", seconds=12.5)
    found = cell(report("H100 SXM", Index((row,))), "Q4_K_S", "full")
    assert found.duration is not None
    assert found.duration.seconds.best == pytest.approx(12.5, rel=1e-12)
    assert (found.evidence.level, found.evidence.records) == ("calibrated", 1)


def test_of_several_runs_in_mode_full_the_median_counts() -> None:
    runs = [record("Q4_K_S", id=str(took), seconds=took) for took in (30.0, 10.0, 11.0)]
    found = cell(report("H100 SXM", Index(tuple(runs))), "Q4_K_S", "full")
    assert found.duration is not None
    assert found.duration.seconds.best == pytest.approx(11.0, rel=1e-12)


def test_runs_of_the_tier_itself_calibrate_it_others_only_where_it_has_none() -> None:
    card, tier = find_card("H100 SXM"), MODEL.tier("Q4_K_S")
    assert tier is not None
    own, other = record("Q4_K_S", seconds=10.0), record("BF16", seconds=10.0)
    both, alone, foreign = (calibration_for(card, tier, Index(rows)) for rows in ((own, other), (own,), (other,)))
    assert both == alone
    assert foreign[0] is not None
    assert foreign != alone
    capped = replace(own, cap=24 << 30)
    failed = replace(own, outcome="oom-gpu")
    streamed = record("Q4_K_S", "low")
    assert calibration_for(card, tier, Index((capped, failed, streamed))) == (None, 0)


def test_synthetic_weights_never_count_as_measured_but_real_ones_do() -> None:
    index = accepted()
    assert all(row.weights == "synthetic" for row in index.rows)
    row = record("Q8_0")
    for weights, level in (("synthetic", "calibrated"), ("real", "measured")):
        found = cell(report("H100 SXM", Index((replace(row, weights=weights),))), "Q8_0", "full")
        assert (found.evidence.level, found.evidence.records) == (level, 1)
    assert "on the card" in found.evidence.note


def test_the_newest_link_record_gives_the_streaming_rate() -> None:
    tier = MODEL.tier("Q4_K_S")
    assert tier is not None
    index = Index((record("Q4_K_S"),), (link(2, 54e9), link(1, 50e9)))
    calibration, records = calibration_for(find_card("H100 SXM"), tier, index)
    assert calibration is not None
    assert records == calibration.records == 3
    assert (calibration.pinned, calibration.pageable) == (54e9, 54e9 / 5)
    assert calibration_for(find_card("RTX 4090"), tier, index) == (None, 0)
