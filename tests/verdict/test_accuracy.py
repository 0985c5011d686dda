"""CI fails when the estimator gets worse than the README says. Bounds are today's figures, rounded up."""

from __future__ import annotations

from pathlib import Path

import pytest

from fitcheck.records.evidence import build
from fitcheck.records.run import Run
from fitcheck.records.schema import PassRecord
from fitcheck.records.validate import publishable
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.sensenova.passes import passes_of
from fitcheck.runtimes.sensenova.published import published_rows as measured_rows
from fitcheck.runtimes.sensenova.runtime import architecture_of
from fitcheck.runtimes.sensenova.streaming import streaming_of
from fitcheck.verdict.accuracy import AccuracySummary, published_rows, recorded_rows, summarize
from fitcheck.verdict.evidence import ask_of

RESULTS = Path(__file__).parents[2] / "results"


def recorded() -> list[tuple[Run, Ask]]:
    """Every finished record with the ask that it measured."""
    runs = build(record.model_dump(mode="json", exclude_none=True) for record in publishable(RESULTS)).rows
    return [(run, ask) for run in runs if run.outcome == "ok" and (ask := ask_of(run)) is not None]


@pytest.fixture(scope="module")
def summaries() -> dict[tuple[str, str, bool], AccuracySummary]:
    rows = published_rows() + recorded_rows(RESULTS)
    return {(one.origin, one.quantity, one.fitted): one for one in summarize(rows)}


@pytest.mark.parametrize(
    ("key", "median", "worst"),
    [
        (("published", "allocated", False), 0.002, 0.006),
        (("published", "reserved", False), 0.01, 0.06),
        (("published", "host RSS", True), 0.005, 0.11),
        (("record", "allocated", False), 0.003, 0.004),
        (("record", "reserved", False), 0.004, 0.13),
        (("record", "on the card", True), 0.004, 0.13),
        (("record", "smallest card", True), 0.001, 0.02),
        (("record", "allocated under a cap", True), 0.003, 0.09),
        (("record", "seconds", False), 0.04, 0.15),
        (("published", "seconds", False), 0.025, 0.46),
    ],
)
def test_errors_do_not_grow(
    summaries: dict[tuple[str, str, bool], AccuracySummary], key: tuple[str, str, bool], median: float, worst: float
) -> None:
    found = summaries[key]
    assert found.median <= median
    assert found.worst <= worst


def test_layers_that_mode_fast_may_keep_beyond_its_rule_lie_inside_the_interval() -> None:
    rows = [row for row in recorded_rows(RESULTS) if row.quantity == "allocated under a cap" and "fast" in row.cell]
    assert len(rows) >= 9
    assert sum(row.error < -0.05 for row in rows) >= 6, "the rule alone would be off by more than any other row"
    assert all(row.covered for row in rows)


def test_every_unfitted_published_peak_lies_inside_its_interval(
    summaries: dict[tuple[str, str, bool], AccuracySummary],
) -> None:
    found = summaries["published", "allocated", False]
    assert (found.rows, found.covered) == (22, 22)


def test_every_smallest_card_lies_inside_its_interval(summaries: dict[tuple[str, str, bool], AccuracySummary]) -> None:
    found = summaries["record", "smallest card", True]
    assert found.covered == found.rows
    assert found.rows >= 3


def test_nine_of_ten_recorded_seconds_lie_inside_their_interval(
    summaries: dict[tuple[str, str, bool], AccuracySummary],
) -> None:
    found = summaries["record", "seconds", False]
    assert found.covered is not None
    assert found.covered >= 0.9 * found.rows


def test_no_recorded_second_is_predicted_from_itself() -> None:
    """A run in mode full calibrates its tier; it is fitted where no other run does, else the others predict it."""
    rows = [row for row in recorded_rows(RESULTS) if row.quantity == "seconds"]
    timed = [run for run, _ in recorded() if run.seconds is not None and run.cap is None]
    assert sorted(row.source for row in rows) == sorted(run.id for run in timed)
    assert {row.cell.split()[-1] for row in rows if row.fitted} <= {"full"}
    assert all(row.predicted == pytest.approx(row.published, rel=1e-9) for row in rows if row.fitted)
    full = [row for row in rows if row.cell.endswith("full") and not row.fitted]
    assert full
    assert all(row.predicted != pytest.approx(row.published, rel=1e-6) for row in full)


def test_pr_241_seconds_follow_from_mode_full_alone() -> None:
    rows = [row for row in published_rows() if row.quantity == "seconds" and " pr241 " in row.cell]
    checked = [row for row in rows if row.cell.endswith(("balanced", "low"))]
    assert len(checked) == 4
    assert all(abs(row.error) <= 0.05 for row in checked)


def test_offload_host_memory_of_pr_241_within_three_per_cent() -> None:
    rows = [row for row in published_rows() if row.quantity == "host RSS" and " pr241 " in row.cell]
    assert len(rows) == 4
    assert all(abs(row.error) <= 0.03 for row in rows)


def test_rows_whose_inputs_were_inferred_never_test_the_estimator() -> None:
    inferred = {one.name for one in measured_rows() if one.fitted}
    assert inferred
    assert all(row.fitted for row in published_rows() if row.cell in inferred and row.quantity == "allocated")


def test_records_are_read_back_as_the_cells_they_measured() -> None:
    cells = recorded()
    assert len(cells) >= 54
    assert {ask.tier.name for _, ask in cells} == {"BF16", "Q8_0", "Q6_K", "Q4_K_S"}
    assert all(ask.card.vram_override and run.allocated and ask.process.bench for run, ask in cells)
    assert sum(run.works is not None and run.fails is not None for run, _ in cells) >= 3


def test_the_bytes_that_a_run_streams_are_counted_exactly() -> None:
    """Passes, layers copied ahead and dropped, embedding and head: as many bytes as the bench counted at its copies."""
    counted = {
        record.id: record.transfer
        for record in publishable(RESULTS)
        if isinstance(record, PassRecord) and record.transfer is not None
    }
    checked = 0
    for run, ask in recorded():
        transfer = counted.get(run.id)
        if transfer is None or run.cap is not None or run.seconds is None:
            continue
        architecture = architecture_of(ask)
        kept = (transfer.resident_layers or 0) / architecture.layers
        passes = passes_of(architecture, ask.tier.tensors, ask.workload, streaming_of(ask.placement), kept)
        streamed = sum(one.count * (one.ahead.nbytes + one.waited.nbytes) for one in passes)
        # a ring aligns tensors to 512 bytes, and rotary frequencies travel with a layer
        assert streamed == pytest.approx(transfer.bytes_streamed, rel=1e-4)
        checked += 1
    assert checked >= 40
