"""What records change in a check: their own card is calibrated, no other card is, and real runs become measured."""

from __future__ import annotations

from dataclasses import replace

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.records.evidence import Index, accepted
from fitcheck.verdict.check import check
from fitcheck.verdict.evidence import calibration_for
from fitcheck.verdict.report import Cell, Report

MODEL = catalog.get("sensenova-u1-8b-mot")


def report(card: str, index: Index | None) -> Report:
    return check(MODEL, machine_for(find_card(card)), index=index, advise=False)


def cell(found: Report, tier: str, mode: str) -> Cell:
    return next(one for one in found.cells if (one.tier.name, one.placement.mode) == (tier, mode))


def test_records_of_a_card_calibrate_that_card_alone() -> None:
    index = accepted()
    assert {one.evidence.level for one in report("H100 SXM", index).cells} == {"calibrated"}
    assert {one.evidence.level for one in report("RTX 4070", index).cells} == {"estimated"}
    assert report("RTX 4070", index).to_json() == report("RTX 4070", None).to_json()


def test_a_calibrated_full_mode_predicts_its_own_record() -> None:
    found = cell(report("H100 SXM", accepted()), "Q4_K_S", "full")
    row = next(row for row in accepted().rows if (row.cell.tier, row.cell.mode) == ("Q4_K_S", "full"))
    assert found.duration is not None
    assert row.seconds is not None
    assert abs(found.duration.seconds.best / row.seconds - 1) < 0.01


def test_synthetic_weights_never_count_as_measured_but_real_ones_do() -> None:
    index = accepted()
    assert all(row.weights == "synthetic" for row in index.rows)
    real = Index(tuple(replace(row, weights="real") for row in index.rows), index.links)
    found = cell(report("H100 SXM", real), "Q8_0", "full")
    assert found.evidence.level == "measured"
    assert found.evidence.records == 1
    assert "on the card" in found.evidence.note


def test_the_link_record_gives_the_streaming_rate() -> None:
    tier = MODEL.tier("Q4_K_S")
    assert tier is not None
    calibration, records = calibration_for(find_card("H100 SXM"), tier, accepted())
    assert calibration is not None
    assert records == calibration.records == 2
    assert calibration.pinned is not None
    assert 50e9 < calibration.pinned < 60e9
    assert calibration_for(find_card("RTX 4090"), tier, accepted()) == (None, 0)
