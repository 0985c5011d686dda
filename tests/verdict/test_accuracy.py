"""No row tests itself, and the bars hold. That nothing gets worse is ``fitcheck accuracy --check`` in ``make test``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from fitcheck.records.run import Run
from fitcheck.records.run_index import Index, accepted, build
from fitcheck.records.schema import PassRecord
from fitcheck.records.validate import publishable
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.sensenova.card_seen import architecture_of
from fitcheck.runtimes.sensenova.pass_work import passes_of
from fitcheck.runtimes.sensenova.published import published_rows as measured_rows
from fitcheck.runtimes.sensenova.streaming import streaming_of
from fitcheck.speed.rates import Calibration
from fitcheck.verdict.accuracy import AccuracyRow, Leave, Part, indexed_rows, published_rows, recorded_rows, together
from fitcheck.verdict.accuracy_summary import AccuracySummary, by_cell_kind, kept, summarize, worse
from fitcheck.verdict.evidence import ask_of
from fitcheck.verdict.known_records import calibration_of, known_of
from fitcheck.verdict.left_out import left_out

RESULTS = Path(__file__).parents[2] / "results"


def recorded() -> list[tuple[Run, Ask]]:
    """Every finished record with the ask that it measured."""
    runs = build(record.model_dump(mode="json", exclude_none=True) for record in publishable(RESULTS)).rows
    passes = [run for run in runs if run.outcome == "ok" and run.cell.runtime == "sensenova"]
    return [(run, ask) for run in passes if (ask := ask_of(run)) is not None]


Summaries = dict[tuple[str, str, str, str], AccuracySummary]


@pytest.fixture(scope="module")
def rows() -> list[AccuracyRow]:
    published = [row for leave in Leave for row in published_rows(leave)]
    found = published + [row for leave in Leave for row in recorded_rows(RESULTS, leave)]
    return [row for row in found if row.runtime == "sensenova"]


@pytest.fixture(scope="module")
def summaries(rows: list[AccuracyRow]) -> Summaries:
    return {(one.origin, one.quantity, one.part, one.left_out): one for one in summarize(rows)}


def test_every_task_mode_vendor_and_revision_that_others_published_is_scored(rows: list[AccuracyRow]) -> None:
    published = [row for row in rows if row.origin == "published"]
    assert {row.task for row in published} == {"t2i", "t2i-think", "editing", "interleave"}
    assert {row.mode for row in published} == {"full", "fast", "balanced", "low"}
    assert {row.vendor for row in published} == {"NVIDIA", "AMD"}
    measured = [one for one in measured_rows() if one.seconds is not None]
    scored = {(row.machine, row.cell) for row in published if row.quantity == "seconds"}
    assert scored == {(one.machine, one.name) for one in measured}, "no task is left out"
    groups = {one.quantity for one in by_cell_kind(rows)}
    assert {"AMD sensenova t2i low", "NVIDIA sensenova interleave fast", "NVIDIA sensenova t2i-think full"} <= groups


@pytest.mark.parametrize("leave", list(Leave))
@pytest.mark.parametrize("quantity", ["allocated", "reserved", "host RSS", "seconds"])
def test_nine_of_ten_published_rows_lie_inside_their_interval(
    rows: list[AccuracyRow], quantity: str, leave: Leave
) -> None:
    """All of them, and the blind ones apart; with the cell left out, and with its whole machine."""
    chosen = [row for row in rows if (row.origin, row.quantity, row.left_out) == ("published", quantity, leave)]
    blind = [row for row in chosen if row.part == Part.BLIND]
    bar = 0.89 if (quantity, leave) == ("reserved", Leave.MACHINE) else 0.9
    for part in (chosen, blind):
        assert len(part) >= 4
        assert sum(row.covered for row in part) >= bar * len(part)


def test_rows_of_a_vendor_or_generation_that_is_left_out_lie_inside(rows: list[AccuracyRow]) -> None:
    """Nobody measured an AMD card, or a Blackwell one: the intervals are as wide as that."""
    chosen = [row for row in rows if row.machine in ("Radeon PRO W7900", "RTX 5090") and row.left_out == Leave.MACHINE]
    assert len(chosen) >= 20
    assert all(row.covered for row in chosen)
    seconds = [row for row in chosen if row.quantity == "seconds" and row.vendor == "AMD"]
    assert all(row.error < -0.3 for row in seconds), "the best estimate knows nothing of AMD"


def test_reserved_bytes_of_nvidia_cards_other_than_the_h100(rows: list[AccuracyRow]) -> None:
    chosen = [row for row in rows if row.machine == "RTX 5090" and row.quantity == "reserved"]
    assert len(chosen) == 8
    assert median(abs(row.error) for row in chosen) <= 0.06


def test_records_hold_their_bars(summaries: Summaries) -> None:
    for quantity, part, error in (
        ("allocated", Part.BLIND, 0.003),
        ("reserved", Part.BLIND, 0.004),
        ("seconds", Part.WIDTH, 0.06),
        ("allocated under a cap", Part.WIDTH, 0.003),
        ("smallest card", Part.FITTED, 0.001),
    ):
        found = summaries["record", f"sensenova {quantity}", part, Leave.CELL]
        assert found.median <= error, quantity
        assert found.covered is not None
        assert found.covered >= 0.9 * found.rows, quantity


def test_replays_of_the_default_revisions_editing_are_close(rows: list[AccuracyRow]) -> None:
    """12.7 % under in balanced until the replica gave the newest of equal free blocks, as the card does."""
    chosen = [row for row in rows if row.origin == "record" and row.quantity == "reserved"]
    editing = [row for row in chosen if "phase-aware editing" in row.cell]
    assert editing
    assert max(abs(row.error) for row in editing) < 0.03
    assert sum(not row.covered for row in chosen) <= 1  # 39 of 40


def test_layers_that_mode_fast_keeps_under_a_cap_follow_from_upstreams_rule(rows: list[AccuracyRow]) -> None:
    capped = [row for row in rows if row.quantity == "allocated under a cap" and row.left_out == Leave.CELL]
    fast = [row for row in capped if row.mode == "fast"]
    assert len(fast) >= 9
    assert max(abs(row.error) for row in fast) < 0.025
    assert all(row.covered for row in fast)


def test_a_row_knows_nothing_of_its_own_cell_nor_machine(rows: list[AccuracyRow]) -> None:
    """What a machine's own records narrow, a card without records does not have."""
    seconds = [row for row in rows if (row.origin, row.quantity) == ("record", "seconds")]
    by_cell = {row.cell: row for row in seconds if row.left_out == Leave.CELL}
    by_machine = {row.cell: row for row in seconds if row.left_out == Leave.MACHINE}
    assert by_cell.keys() == by_machine.keys()
    assert median(row.width or 0 for row in by_cell.values()) < median(row.width or 0 for row in by_machine.values())
    for row in by_cell.values():
        assert row.predicted != pytest.approx(row.published, rel=1e-6)


def test_repeats_of_a_cell_are_one_row(rows: list[AccuracyRow]) -> None:
    keys = [(row.origin, row.machine, row.model, row.cell, row.quantity, row.left_out) for row in rows]
    assert len(keys) == len(set(keys))
    assert max(row.runs for row in rows) >= 3
    one = replace(rows[0], published=3.0, part=Part.BLIND, fitted=False)
    (both,) = together([one, replace(one, published=5.0, part=Part.FITTED, fitted=True)])
    assert (both.published, both.runs, both.part, both.fitted) == (4.0, 2 * one.runs, Part.FITTED, True)


def test_rows_whose_inputs_were_inferred_never_test_the_estimator() -> None:
    inferred = {one.name for one in measured_rows() if one.inferred_text}
    assert inferred
    assert all(row.fitted for row in published_rows() if row.cell in inferred and row.quantity == "allocated")


def summary(**changes: object) -> AccuracySummary:
    found = AccuracySummary("published", "seconds", 10, 0.05, 0.2, 9, False, Part.BLIND, Leave.CELL, 1.5)
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"median": 0.06}, "median error 6.00%, 5.00% before"),
        ({"worst": 0.21}, "worst error 21.00%, 20.00% before"),
        ({"covered": 8}, "80.0% inside the interval, 90.0% before"),
        ({"rows": 9, "covered": 9}, "9 rows, 10 before"),
        ({"width": 1.6}, "median width 1.60, 1.50 before"),
        ({"covered": None}, "0.0% inside the interval, 90.0% before"),
    ],
)
def test_what_gets_worse_is_a_fault_and_says_by_how_much(changes: dict[str, object], words: str) -> None:
    faults = worse([summary(**changes)], kept([summary()]))
    assert faults == [f"published | seconds | blind | cell: {words}"]


def test_what_stays_gets_better_or_is_new_is_no_fault_and_what_is_gone_is() -> None:
    baseline = kept([summary()])
    better = summary(median=0.01, worst=0.1, covered=10, width=1.2)
    assert worse([summary()], baseline) == worse([better, summary(quantity="new")], baseline) == []
    assert worse([], baseline) == ["published | seconds | blind | cell: no rows any more, 10 before"]


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


def test_a_reading_of_the_driver_that_missed_the_peak_is_no_measurement_of_it(rows: list[AccuracyRow]) -> None:
    runs = build(record.model_dump(mode="json", exclude_none=True) for record in publishable(RESULTS)).rows
    missed = {run.id for run in runs if run.process is not None and run.reserved and run.process < run.reserved}
    there = {row.source for row in rows if row.quantity == "on the card"}
    assert missed
    assert there
    assert not missed & there


# policies of records whose sizes are lower bounds
NOT_MODELLED = {"disk"}


def test_what_is_not_modelled_corrects_no_estimate() -> None:
    """Seconds and memory of groups in files say nothing of the pipeline alone, and those of the pipeline do."""
    runs = build(record.model_dump(mode="json", exclude_none=True) for record in publishable(RESULTS)).rows
    mine = [run for run in runs if run.outcome == "ok" and run.cell.model == "sd3.5-medium" and not run.limited]
    beside = tuple(run for run in mine if run.cell.policy in NOT_MODELLED)
    plain = next(run for run in mine if run.cell.mode == "none" and not run.cell.policy and run.cell.tier == "bf16")
    ask = ask_of(next(run for run in mine if run.cell.mode != "none" and not run.cell.policy))
    assert ask is not None
    assert beside
    assert calibration_of(ask, Index(beside, ())) == Calibration()
    assert calibration_of(ask, Index((plain,), ())) != Calibration()
    runtime, said = registry.get("diffusers"), []
    for rows in (beside, (plain,)):
        known = known_of(Index(rows, ()), ask.machine, ask.model)
        assert known is not None
        said.append(known._others(runtime))
    assert not said[0]
    assert said[1]
    modelled = tuple(run for run in mine if run not in beside)
    everything, some = (left_out(Index(rows, ())) for rows in (tuple(mine), modelled))
    assert [(row.cell, row.measured) for row in everything] == [(row.cell, row.measured) for row in some]


def test_what_is_not_modelled_has_bounds_and_no_error() -> None:
    runs = build(record.model_dump(mode="json", exclude_none=True) for record in publishable(RESULTS)).rows
    beside = [run for run in runs if run.outcome == "ok" and run.cell.policy in NOT_MODELLED]
    assert {run.cell.policy for run in beside} == NOT_MODELLED
    for run in beside:
        assert indexed_rows(Index((run,), ())) == []
        ask = ask_of(run)
        assert ask is not None
        support = registry.get(ask.placement.runtime).platform(ask)
        assert support is not None
        assert support.least is not None
        assert run.allocated is not None
        assert support.least.cards[ask.gpu].allocated.best <= run.allocated


def test_figures_are_those_of_the_records_that_checks_know() -> None:
    """Others of a cell are sampled: in whatever order files are read, as the installed index has them."""
    read = [record.model_dump(mode="json", exclude_none=True) for record in publishable(RESULTS)]
    assert build(read).rows == build(reversed(read)).rows == tuple(accepted().rows)
