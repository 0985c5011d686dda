"""What lies far from the other records of its own cell, and which records those are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from record_samples import NOW, card, make_pass, model, protocol, samples
from test_record_checks import codes, stored

from fitcheck.records import schema, store
from fitcheck.records.validate import accepted
from fitcheck.units import GIB

TIMES = (99.8, 99.9, 100.0, 100.1, 100.2)
# five measurements of one cell; the same numbers again would be one
PEERS = tuple(make_pass(created=NOW - 1000 - n, samples=samples(t, t, t)) for n, t in enumerate(TIMES))


def test_an_outlier_among_its_peers_is_flagged_fast_or_slow(tmp_path: Path) -> None:
    peers = [make_pass(created=NOW - 1000 - n, samples=samples(100 + n / 10, 100.0, 100.0)) for n in range(6)]
    slow = make_pass(samples=samples(200.0, 201.0, 202.0))
    fast = make_pass(samples=samples(50.0, 51.0, 52.0), transfer=None, power=None)
    other = make_pass(samples=samples(400.0, 401.0, 402.0), card=card(slug="rtx-3060-12gb"))
    report = stored(tmp_path, *peers, slow, fast, other)
    outliers = {problem.path.stem for problem in report.problems if problem.finding.code == "outlier"}
    assert outliers == {store.seal(slow).id, store.seal(fast).id}


def test_peers_that_scatter_widely_make_no_outlier_of_one_beside_them(tmp_path: Path) -> None:
    """Six robust deviations: 1.4826 times the median of the distances, 22.5 here, are 200."""
    peers = [make_pass(created=NOW - 1000 - n, samples=samples(t, t, t)) for n, t in enumerate((70, 85, 100, 115, 130))]
    within = make_pass(samples=samples(260.0, 260.0, 260.0))
    beyond = make_pass(samples=samples(400.0, 400.0, 400.0), created=NOW - 5)
    assert "outlier" not in codes(stored(tmp_path / "a", *peers, within))
    assert codes(stored(tmp_path / "b", *peers, beyond)).count("outlier") == 1


def test_a_slow_warm_up_makes_no_outlier(tmp_path: Path) -> None:
    cold = (schema.Sample(total=900.0, warmup=True), schema.Sample(total=100.0))
    assert "outlier" not in codes(stored(tmp_path, *PEERS, make_pass(samples=cold)))


def test_few_peers_flag_nothing(tmp_path: Path) -> None:
    report = stored(
        tmp_path, *[make_pass(created=NOW - n, samples=samples(t, t, t)) for n, t in enumerate((50.0, 100.0, 200.0))]
    )
    assert "outlier" not in codes(report)


@pytest.mark.parametrize(("odd", "flagged"), [(120.0, False), (130.0, True)])
def test_peers_that_agree_closely_make_no_outlier_of_one_a_little_off(
    tmp_path: Path, odd: float, flagged: bool
) -> None:
    found = codes(stored(tmp_path, *PEERS, make_pass(samples=samples(odd, odd, odd))))
    assert ("outlier" in found) is flagged


@pytest.mark.parametrize(("peers", "flagged"), [(3, False), (4, True)])
def test_five_peers_are_enough_to_tell_one_apart(tmp_path: Path, peers: int, flagged: bool) -> None:
    near = [make_pass(created=NOW - n, samples=samples(t, t, t)) for n, t in enumerate((99.0, 100.0, 101.0, 102.0))]
    report = stored(tmp_path, *near[:peers], make_pass(samples=samples(300.0, 300.0, 300.0)))
    assert ("outlier" in codes(report)) is flagged


STRANGERS: dict[str, dict[str, Any]] = {
    "a probe": {"protocol": protocol(steps_run=4), "transfer": None},
    "under a cap": {"protocol": protocol(cap=schema.Cap(bytes=8 * GIB, enforced_by="allocator-fraction"))},
    "synthetic weights": {"model": model(weights="synthetic")},
    "another card": {"card": card(slug="rtx-3060-12gb")},
    "another tier": {"model": model(tier="Q8_0")},
}


@pytest.mark.parametrize("name", STRANGERS)
def test_runs_of_something_else_are_no_peers(name: str, tmp_path: Path) -> None:
    """Nor are those others outliers among these."""
    other = make_pass(**STRANGERS[name], samples=samples(300.0, 300.0, 300.0))
    assert "outlier" not in codes(stored(tmp_path / "one", *PEERS, other))
    others = [make_pass(**STRANGERS[name], created=NOW - n, samples=samples(t, t, t)) for n, t in enumerate(TIMES)]
    slow = make_pass(samples=samples(300.0, 300.0, 300.0))
    assert "outlier" not in codes(stored(tmp_path / "two", *others, slow))
    assert "outlier" in codes(stored(tmp_path / "three", *PEERS, slow))


def test_a_measurement_is_published_once(tmp_path: Path) -> None:
    first, again = make_pass(), make_pass(notes="The same in other words.")
    report = stored(tmp_path, first, again, make_pass(samples=samples(99.0, 99.0, 99.0)))
    assert codes(report).count("duplicate") == 1
    records, left_out = accepted(tmp_path, NOW)
    assert len(records) == 2
    assert [problem.finding.code for problem in left_out] == ["duplicate"]
