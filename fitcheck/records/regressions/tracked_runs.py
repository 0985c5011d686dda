"""A record as regression tracking sees it: its series, its state and what it measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from fitcheck.dataclass_later import dataclass
from fitcheck.records.regressions.metrics import MetricValues, measured
from fitcheck.records.regressions.tracked_series import Series, State, series_of, state_of
from fitcheck.records.schema import AnyRecord
from fitcheck.records.store import document_id, document_of
from fitcheck.units import Interval

# with fewer other records of a program nothing speaks against what is expected of it; of more, so large a share that
# missed it says that the expectation is wrong: choices, no fits
_TOO_FEW, _MOST_MISSED = 3, 0.1


@dataclass(frozen=True, slots=True)
class Promise:
    """What a version should do: ``span`` of the metric in its unit. ``kept`` of ``known`` other records of the same
    program did what was expected of them."""

    span: Interval[float]
    kept: int = 0
    known: int = 0

    @property
    def binding(self) -> bool:
        """Whether missing it says something of the version, not of the expectation."""
        return self.known < _TOO_FEW or self.known - self.kept <= _MOST_MISSED * self.known

    def missed(self, value: float, higher: bool, slack: float) -> bool:
        """Whether the value is worse than the pessimistic end by more than ``slack``, as a fraction."""
        return value * (1 + slack) < self.span.low if higher else value > self.span.high * (1 + slack)


# What the estimator expects of a record's metric; None where it has nothing to say. Records know no estimator: whoever
# calls hands one in.
Expectation = Callable[[AnyRecord, str], Promise | None]


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """One record in regression tracking; ``measured`` holds its metrics by name."""

    record: AnyRecord
    id: str
    series: Series
    state: State
    measured: Mapping[str, MetricValues]

    @property
    def created(self) -> int:
        """When it was measured, in UTC seconds since 1970."""
        return self.record.created


def run_of(record: AnyRecord, across: Sequence[str] = ()) -> TrackedRun:
    """``record`` as a run of its series; see ``series_of`` for ``across``."""
    name = record.id or document_id(document_of(record))
    return TrackedRun(record, name, series_of(record, across), state_of(record, across), measured(record))


def by_series(runs: Iterable[TrackedRun]) -> dict[Series, list[TrackedRun]]:
    """Each series' runs, oldest first."""
    found: dict[Series, list[TrackedRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.created, run.id)):
        found[run.series].append(run)
    return dict(found)
