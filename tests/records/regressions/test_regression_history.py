"""Change points over time, and the search for a revision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from regression_runs import a_run, common, memory, steady

from fitcheck.records.regressions.bisection import Bisection
from fitcheck.records.regressions.history import backwards, change_points, tracks
from fitcheck.records.regressions.judgement import SeriesVerdict
from fitcheck.records.regressions.noise import Noise
from fitcheck.records.regressions.regression_report import page_document
from fitcheck.records.regressions.statistics import Scale
from fitcheck.records.regressions.tracked_runs import TrackedRun
from fitcheck.units import GIB

PRIOR = Scale(0.02, 40)


def noise(count: int) -> list[float]:
    made: list[float] = np.random.default_rng(7).normal(0, 0.02, count).tolist()
    return made


@pytest.mark.parametrize("place", [5, 20, 44])
def test_a_step_is_found_where_it_is(place: int) -> None:
    logs = [value + (math.log(1.08) if at >= place else 0.0) for at, value in enumerate(noise(50))]
    (found,) = change_points(logs, PRIOR)
    assert abs(found - place) <= 1


def test_a_flat_history_and_a_lone_outlier_are_no_change() -> None:
    logs = noise(50)
    assert change_points(logs, PRIOR) == []
    logs[25] += 0.5
    assert change_points(logs, PRIOR) == []
    assert change_points(logs[:6], PRIOR) == []


def test_a_history_names_date_size_and_version() -> None:
    runs = [*steady("v1", count=10, day=-100), *steady("v2", 1.2, count=10, day=-50)]
    (track,) = [one for one in tracks(runs, Noise(runs)) if one.metric.name == "seconds"]
    ((cut, one),) = track.changes
    assert cut == 10
    assert one.verdict is SeriesVerdict.REGRESSION
    assert one.ratio == pytest.approx(1.2, rel=0.02)
    assert [str(change) for change in one.changes] == ["runtime.revision v1 -> v2"]
    page = page_document([track], [])
    assert page["tracks"][0]["changes"][0]["index"] == 10
    assert page["entries"][0]["title"].startswith("regression: sensenova-u1-8b-mot")


def test_a_few_runs_are_judged_at_their_versions() -> None:
    runs = [a_run(61.352, revision="v0"), a_run(20.0, revision="pr241", day=-50)]
    changes = [one for track in tracks(runs, Noise(runs)) if track.metric.name == "seconds" for _, one in track.changes]
    assert [one.verdict for one in changes] == [SeriesVerdict.IMPROVEMENT]


def test_memory_changes_where_it_leaves_its_value() -> None:
    sizes = (6 * GIB, 6 * GIB, 6 * GIB + 512, 5 * GIB, 5 * GIB)
    runs = [a_run(memory=memory(allocated=size), day=day, revision=f"v{day}") for day, size in enumerate(sizes, -50)]
    (track,) = [one for one in tracks(runs, Noise(runs)) if one.metric.name == "allocated"]
    assert [(cut, one.verdict) for cut, one in track.changes] == [(3, SeriesVerdict.IMPROVEMENT)]


def test_a_version_that_goes_back_is_told() -> None:
    def torch(version: str, day: int) -> TrackedRun:
        return a_run(day=day, software=common()["software"].model_copy(update={"torch": version}))

    assert list(backwards([torch("2.9.1", -3), torch("2.11.0", -2)])) == []
    (note,) = backwards([torch("2.11.0", -3), torch("2.9.1", -2), torch("2.9.1", -1)])
    assert "clock went backwards" in note


def test_versions_measured_in_turns_on_one_day_are_one_change() -> None:
    def ran(torch: str, minute: int, size: int) -> TrackedRun:
        software = common()["software"].model_copy(update={"torch": torch})
        return a_run(software=software, memory=memory(allocated=size), created=1_780_012_800 + 60 * minute)

    new, old = ("2.11.0", 6 * GIB + 4096), ("2.9.1", 6 * GIB)
    runs = [ran(*side[:1], minute, side[1]) for minute, side in enumerate((new, old, old, new))]
    (track,) = [one for one in tracks(runs, Noise(runs)) if one.metric.name == "allocated"]
    ((cut, one),) = track.changes
    assert (cut, one.verdict) == (2, SeriesVerdict.REGRESSION)
    assert [str(change) for change in one.changes] == ["torch 2.9.1 -> 2.11.0"]
    assert track.notes == ()


def search(place: int, sd: float, skip: frozenset[int] = frozenset()) -> Bisection:
    generator, bisection = np.random.default_rng(place), Bisection(64, Scale(0.03, 4))
    while (index := bisection.next()) is not None:
        if index in skip:
            bisection.skip(index)
        else:
            bisection.add(index, list((1.08 if index >= place else 1.0) * np.exp(generator.normal(0, sd, 5))))
    return bisection


@pytest.mark.parametrize("place", [1, 2, 17, 40, 62, 63])
def test_bisection_finds_the_revision_in_few_steps(place: int) -> None:
    found = search(place, 0.01)
    assert found.found()[0] == place
    assert found.found()[1] >= 0.95
    assert found.steps <= 12
    before, after = found.medians()
    assert after / before == pytest.approx(1.08, rel=0.03)


def test_a_revision_that_cannot_run_stays_a_candidate() -> None:
    found = search(30, 0.005, skip=frozenset({29, 30}))
    assert 30 in found.candidates()
    assert {29, 30}.isdisjoint(index for index, _ in found.measured)


def test_two_revisions_need_no_search() -> None:
    bisection = Bisection(2, Scale(0.03, 4))
    while (index := bisection.next()) is not None:
        bisection.add(index, [1.0 + index])
    assert bisection.found() == (1, 1.0)


def test_bisection_of_memory_sees_a_single_block() -> None:
    bisection = Bisection(64, Scale(1e-9, 4))
    while (index := bisection.next()) is not None:
        bisection.add(index, [6 * GIB + (512 if index >= 21 else 0)])
    assert bisection.found()[0] == 21
    assert bisection.steps <= 12
