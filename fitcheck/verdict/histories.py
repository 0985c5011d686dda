"""Every series with a history, as the pages under ``/regressions/`` show it: changes, what the estimator expects, pins
and acknowledgements. Pure: nothing hangs on the day on which it is asked."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

from fitcheck.records.regressions import regression_report
from fitcheck.records.regressions.comparison import compare
from fitcheck.records.regressions.history import Track, tracks
from fitcheck.records.regressions.intake import take_documents
from fitcheck.records.regressions.judgement import Limits, SeriesJudgement
from fitcheck.records.regressions.kept import KeptDecisions
from fitcheck.records.regressions.noise import Noise
from fitcheck.records.regressions.statistics import require
from fitcheck.records.regressions.tracked_runs import TrackedRun, by_series, run_of
from fitcheck.records.regressions.tracked_series import Series
from fitcheck.units import Interval
from fitcheck.verdict.promise import Promises

DAY = 86_400


class Histories:
    """The histories of the series of ``documents`` that have more than one run. Acknowledgements count as of the day of
    the newest record; ``told`` is what the estimator is known to say of records, by id."""

    def __init__(
        self,
        documents: Sequence[Mapping[str, Any]],
        kept: KeptDecisions,
        told: Mapping[str, Mapping[str, Interval[float]]] | None = None,
    ) -> None:
        self._kept = kept
        self._newest = max((int(document["created"]) for document in documents), default=0)
        taken = take_documents(documents, float(self._newest + DAY))
        runs = [run_of(record) for record in taken.records]
        all_ = by_series(runs)
        self._several = {series: found for series, found in all_.items() if len(found) > 1}
        self._noise, self._expectation = Noise(runs), Promises(taken.records, told)
        # what other records change without any history of theirs
        self._beside = {"notes": list(taken.notes), "single": len(all_) - len(self._several)}

    @property
    def key(self) -> str:
        """64 hex digits that change with all that ``document`` says of series: their runs, how much runs scatter, what
        is expected of each, and what people decided."""
        day = str(_day(self._newest)) if self._kept != KeptDecisions() else ""
        said = sha256(f"{self._kept!r}{day}".encode())
        for series, runs in self._several.items():
            for run in runs:
                known = [self._known_of(series, run, name) for name in run.measured]
                said.update(repr((series.id, run.id, known)).encode())
        return said.hexdigest()

    def _known_of(self, series: Series, run: TrackedRun, name: str) -> tuple[object, ...]:
        metric = run.measured[name].metric
        scatter = self._noise.tolerance(series, metric) if metric.exact else self._noise.spread(series, metric)
        return name, scatter, self._expectation(run.record, name)

    def said(self) -> dict[str, Mapping[str, Interval[float]]]:
        """What the estimator says of the records that count here, by id."""
        return dict(self._expectation.said())

    def renewed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A document with the same ``key``, as it would be worked out now."""
        return {**document, **self._beside}

    def document(self) -> dict[str, Any]:
        """As JSON values: ``series`` (the latest change first), ``entries`` of the feed, ``notes``, and how many series
        have one run. Raises InputError without the libraries that this needs."""
        chosen = [run for found in self._several.values() for run in found]
        if chosen:
            require()
        judged = tracks(chosen, self._noise, Limits(), self._expectation)
        found = [_settled(track, self._kept, self._newest) for track in judged]
        page = regression_report.page_document(found, ())
        series = [self._one(one, page["tracks"]) for one in _ordered(found)]
        return {**self._beside, "series": series, "entries": page["entries"]}

    def _one(self, series: Series, listed: Iterable[dict[str, Any]]) -> dict[str, Any]:
        runs = self._several[series]
        against = self._kept.settle(_against_pins(runs, self._kept, self._noise), _day(self._newest))
        return _series(series, listed, runs, self._kept, against)


def _ordered(found: Sequence[Track]) -> list[Series]:
    """The series with the latest change first, those without any by title."""

    def key(series: Series) -> tuple[int, str]:
        mine = [track for track in found if track.series == series]
        return -max((track.points[cut].created for track in mine for cut, _ in track.changes), default=0), series.title

    return sorted(dict.fromkeys(track.series for track in found), key=key)


def _settled(track: Track, kept: KeptDecisions, newest: int) -> Track:
    settled = kept.settle([one for _, one in track.changes], _day(newest))
    return replace(track, changes=tuple((cut, one) for (cut, _), one in zip(track.changes, settled, strict=True)))


def _day(created: int) -> datetime.date:
    return datetime.datetime.fromtimestamp(created, datetime.UTC).date()


def _against_pins(runs: Sequence[TrackedRun], kept: KeptDecisions, noise: Noise) -> list[SeriesJudgement]:
    """The newest versions against the pinned baseline; nothing where none is pinned or nothing else was measured."""
    names = tuple(name for pin in kept.of(runs[0].series)[0] for name in pin.records)
    pinned = [run for run in runs if names and run.id.startswith(names)]
    rest = [run for run in runs if run not in pinned]
    if not pinned or not rest:
        return []
    return compare(pinned, [run for run in rest if run.state.versions == rest[-1].state.versions], noise)


def _series(
    series: Series,
    listed: Iterable[dict[str, Any]],
    runs: Sequence[TrackedRun],
    kept: KeptDecisions,
    against: Sequence[SeriesJudgement],
) -> dict[str, Any]:
    pins, notes = kept.of(series)
    mine = [{name: value for name, value in one.items() if name != "series"} for one in _of(series, listed)]
    return {
        "id": series.id,
        "title": series.title,
        "parts": dict(series.parts),
        "runs": len(runs),
        "first": runs[0].created,
        "last": runs[-1].created,
        "tracks": mine,
        "pinned": [asdict(pin) for pin in pins],
        "acknowledged": [asdict(note) | {"until": note.until and note.until.isoformat()} for note in notes],
        "against_pinned": [regression_report.judgement_document(one) for one in regression_report.ordered(against)],
    }


def _of(series: Series, listed: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (one for one in listed if one["series"]["id"] == series.id)
