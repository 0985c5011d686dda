from __future__ import annotations

import pytest
from bench_fakes import CONTEXT, LIBRARIES, FakeNvml
from hypothesis import given
from hypothesis import strategies as st
from test_runner import ARGV, cell

from bench.assemble import record_of
from bench.job import Job
from bench.limit import RESOLUTION, bracket, find_limit, search
from bench.meters import NvmlCard
from bench.runner import CellRun, MeasuringProtocol, run_cell
from fitcheck.errors import InputError
from fitcheck.units import GIB, MIB

CARD = NvmlCard(FakeNvml(), "card")


@given(
    truth=st.integers(100 * MIB, 40 * GIB),
    low=st.integers(0, 40 * GIB),
    width=st.integers(0, 8 * GIB),
    resolution=st.sampled_from([16 * MIB, 64 * MIB, 128 * MIB]),
)
def test_the_search_brackets_the_truth_however_wrong_the_bracket_was(
    truth: int, low: int, width: int, resolution: int
) -> None:
    tried: list[int] = []

    def works(cap: int) -> bool:
        tried.append(cap)
        return cap >= truth

    best, fails, probes = search(low, low + width, works, resolution, ceiling=80 * GIB)
    assert best is not None
    assert best >= truth
    assert fails is None or fails < truth
    assert best - (fails or 0) <= resolution or fails is None
    assert best in tried
    assert len(tried) == len(set(tried)) == len(probes)


def test_a_good_bracket_costs_few_probes() -> None:
    truth = 5 * GIB + 300 * MIB
    _, _, probes = search(5 * GIB, 6 * GIB, lambda cap: cap >= truth)
    assert len(probes) <= 4
    # reserved close to allocated: nothing to bisect, the two ends are tried
    _, _, probes = search(5 * GIB, 5 * GIB + 100 * MIB, lambda cap: cap > 5 * GIB)
    assert [probe.outcome for probe in probes] == ["ok", "oom"]


def test_nothing_works_up_to_the_card() -> None:
    best, fails, _ = search(5 * GIB, 6 * GIB, lambda cap: False, ceiling=8 * GIB)
    assert best is None
    assert fails == 8 * GIB


def run(one: Job, protocol: MeasuringProtocol) -> CellRun:
    return run_cell(one, protocol, CARD, argv=ARGV)


def test_the_smallest_card_of_a_real_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in allocates 4000 MiB and caches 2000 MiB that it can do without."""
    monkeypatch.setenv("FAKE_SLACK", "2000")
    found = find_limit(cell(steps=8), MeasuringProtocol(), CARD, run)
    truth = 4000 * MIB + CONTEXT + LIBRARIES
    assert found.works is not None
    assert found.fails is not None
    assert found.fails < truth <= found.works
    assert found.works - found.fails <= RESOLUTION
    record = record_of(found.run, CARD, found.limit)
    assert record.limit is not None
    assert record.limit.works == found.works
    assert record.limit.attempts == len(found.probes) + 1
    assert record.protocol.cap is not None
    assert record.protocol.cap.bytes == found.works
    assert record.protocol.steps_run == 2
    assert record.workload.steps == 8
    assert "does not depend on their number" in (record.notes or "")


def test_the_bracket_is_tensors_and_context_to_everything_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SLACK", "2000")
    first = run(cell(), MeasuringProtocol(repeats=1, warmup=0))
    context = CONTEXT + LIBRARIES
    assert bracket(first, None) == (4000 * MIB + context, 6000 * MIB + context)
    first.end["allocated"] = None
    with pytest.raises(InputError, match="gave no such numbers"):
        bracket(first, None)


def test_a_cell_that_the_whole_card_cannot_hold_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "gpu-oom@denoise")
    found = find_limit(cell(), MeasuringProtocol(), CARD, run)
    assert (found.works, found.fails, found.probes) == (None, None, ())
    assert record_of(found.run, CARD, found.limit).outcome.result == "oom-gpu"


def test_probes_are_one_short_pass_each_and_the_first_has_no_cap() -> None:
    asked: list[MeasuringProtocol] = []

    def counted(one: Job, protocol: MeasuringProtocol) -> CellRun:
        asked.append(protocol)
        return run(one, protocol)

    find_limit(cell(steps=8), MeasuringProtocol(repeats=3, warmup=1, cap=9 * GIB, hang_seconds=77), CARD, counted)
    assert asked[0].cap is None
    assert all(one.cap for one in asked[1:])
    assert {(one.repeats, one.warmup, one.steps_run, one.hang_seconds) for one in asked} == {(1, 0, 2, 77)}
    asked.clear()
    find_limit(cell(steps=2), MeasuringProtocol(), CARD, counted)
    assert {one.steps_run for one in asked} == {None}, "a workload of two steps is run as it is"


@pytest.mark.parametrize("outcome", ["oom-host", "error", "hang", "killed"])
def test_a_probe_that_ends_otherwise_than_by_the_cards_memory_ends_the_search(outcome: str) -> None:
    def probe(one: Job, protocol: MeasuringProtocol) -> CellRun:
        done = run(one, protocol)
        if protocol.cap is not None:
            done.outcome, done.message = outcome, "what happened"
        return done

    with pytest.raises(InputError, match=f"a probe ended otherwise than by memory: {outcome}; what happened"):
        find_limit(cell(), MeasuringProtocol(), CARD, probe)


def test_a_cell_that_breaks_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "bug@denoise")
    with pytest.raises(InputError, match="does not run at all: error"):
        find_limit(cell(), MeasuringProtocol(), CARD, run)
