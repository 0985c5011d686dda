"""What ``fitcheck regress bisect`` runs: revisions from git or a file, a command at each, and the records it writes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fitcheck.cli.printable import json_text, one_line
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError, MeasurementError, OptionError, RecordError
from fitcheck.records.reading import read_bounded
from fitcheck.records.regressions.bisection import SURE, Bisection
from fitcheck.records.regressions.intake import read_records
from fitcheck.records.regressions.metrics import Metric
from fitcheck.records.regressions.noise import default
from fitcheck.records.regressions.statistics import Scale
from fitcheck.records.regressions.tracked_runs import run_of

MOST_REVISIONS = 100_000
# where every run says the same, like memory: still no division by nothing
_EXACT = Scale(1e-9, 4.0)


@dataclass(frozen=True, slots=True)
class BisectOutcome:
    """``first_bad`` is the likeliest; ``candidates`` hold the change with 95 %. ``before`` and ``after``: medians on
    either side, in the metric's unit."""

    metric: Metric
    first_bad: str
    last_good: str
    probability: float
    candidates: tuple[str, ...]
    before: float
    after: float
    steps: int
    runs: int
    skipped: tuple[str, ...]


def revisions_in(path: Path) -> list[str]:
    """Revisions of a file, one a line. Raises InputError when they are fewer than two or any is twice there."""
    try:
        lines = [line.strip() for line in read_bounded(path).decode("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: is not a text file; write one revision a line, oldest first.") from error
    return _checked([line for line in lines if line and not line.startswith("#")], str(path))


def revisions_between(repository: Path, good: str, bad: str) -> list[str]:
    """Commits from ``good`` to ``bad``, both included, oldest first along the first parents."""
    if good.startswith("-") or bad.startswith("-"):
        raise OptionError("a revision does not begin with a dash; give tags, branches or commits.")
    first = _git(repository, "rev-parse", "--verify", f"{good}^{{commit}}")
    listed = _git(repository, "rev-list", "--first-parent", "--ancestry-path", "--reverse", f"{good}..{bad}")
    if not listed:
        raise OptionError(f"{repository}: no commit lies between {good} and {bad}; the good one has to be the older.")
    return _checked([first[0], *listed], str(repository))


def _git(repository: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["git failed"])[-1]
        raise OptionError(f"{repository}: {why}; give the runtime's repository with --repository.")
    return done.stdout.split()


def _checked(row: list[str], where: str) -> list[str]:
    if not 2 <= len(row) <= MOST_REVISIONS:
        raise OptionError(f"{where}: has {len(row)} revisions; a bisection needs from 2 to {MOST_REVISIONS}.")
    if len(set(row)) != len(row):
        raise OptionError(f"{where}: names a revision twice; each is listed once, oldest first.")
    return row


def search(
    row: Sequence[str], command: Sequence[str], metric: str, steps: int, runs: int, timeout: float
) -> BisectOutcome:
    """Measure revisions until the first bad one is known. Raises InputError when an end cannot be measured."""
    bisection: Bisection | None = None
    kind: Metric | None = None
    index: int | None = 0
    skipped: list[int] = []
    while index is not None:
        found = _measure(row[index], command, metric, timeout)
        if found is None:
            if bisection is None or index in (0, len(row) - 1):
                raise MeasurementError(
                    f"{row[index]}: the command gave no record with {metric}; both ends have to run."
                )
            bisection.skip(index)
            skipped.append(index)
        else:
            kind, values = found
            if bisection is None:
                prior = _EXACT if kind.exact else default(kind.unit).value
                bisection = Bisection(len(row), prior if prior.sd else default(kind.unit).run, steps, runs)
            bisection.add(index, values)
            print(f"{one_line(row[index])}: {_shown(values)} {kind.unit}", file=sys.stderr)
        index = bisection.next()
    if bisection is None or kind is None:
        raise MeasurementError("nothing was measured.")
    return _outcome(row, bisection, kind, skipped)


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values[:8])


def _outcome(row: Sequence[str], bisection: Bisection, metric: Metric, skipped: Sequence[int]) -> BisectOutcome:
    place, probability = bisection.found()
    before, after = bisection.medians()
    return BisectOutcome(
        metric,
        row[place],
        row[place - 1],
        probability,
        tuple(row[index] for index in bisection.candidates()),
        before,
        after,
        bisection.steps,
        len(bisection.measured),
        tuple(row[index] for index in skipped),
    )


def _measure(revision: str, command: Sequence[str], metric: str, timeout: float) -> tuple[Metric, list[float]] | None:
    """Run the command at one revision; the metric with its timed values, or None when there is none."""
    with tempfile.TemporaryDirectory(prefix="fitcheck-bisect-") as folder:
        words = [word.replace("{revision}", revision).replace("{out}", folder) for word in command]
        environment = os.environ | {"FITCHECK_REVISION": revision, "FITCHECK_RECORDS": folder}
        try:
            done = subprocess.run(words, env=environment, stdout=sys.stderr, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return None
        except OSError as error:
            raise MeasurementError(f"{words[0]}: cannot be run ({error.strerror or error}).") from error
        if done.returncode != 0:
            return None
        try:
            records = read_records([Path(folder)], time.time(), flagged=True).records
        except InputError as error:
            print(f"fitcheck: {one_line(str(error))}", file=sys.stderr)
            return None
    found = [one for record in records if (one := run_of(record).measured.get(metric)) is not None]
    if not found:
        return None
    if len({run_of(record).series for record in records}) > 1:
        raise RecordError(f"{revision}: the command wrote records of several cells; bisect one cell at a time.")
    return found[0].metric, [value for one in found for value in one.values]


def print_outcome(outcome: BisectOutcome, as_json: bool) -> None:
    """The first bad revision, the change and its probability on standard output; what was skipped on standard error."""
    from fitcheck.records.regressions.metrics import amount
    from fitcheck.records.regressions.regression_report import percent

    ratio = outcome.after / outcome.before
    if as_json:
        fields = {name: getattr(outcome, name) for name in BisectOutcome.__slots__ if name != "metric"}
        print(json_text(fields | {"metric": outcome.metric.name, "unit": outcome.metric.unit, "ratio": ratio}))
        return
    sure = "" if outcome.probability >= SURE else f"; not sure: it lies among {', '.join(outcome.candidates)}"
    change = f"{amount(outcome.metric, outcome.before)} to {amount(outcome.metric, outcome.after)} ({percent(ratio)})"
    effort = f"{outcome.steps} revisions and {outcome.runs} runs"
    print(
        one_line(
            f"{outcome.first_bad} is the first bad one: {outcome.metric.name} {change}, with a probability of "
            f"{outcome.probability:.0%} after {effort}{sure}."
        )
    )
    if outcome.skipped:
        print(one_line(f"Could not be measured: {', '.join(outcome.skipped)}."), file=sys.stderr)
