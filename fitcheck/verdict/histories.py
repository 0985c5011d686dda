"""Every series with a history, as the pages under ``/regressions/`` show it: changes, what the estimator expects, pins
and acknowledgements. Pure: nothing hangs on the day on which it is asked."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
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
from fitcheck.verdict.promise import Promises

DAY = 86_400


def history_document(documents: Sequence[Mapping[str, Any]], kept: KeptDecisions) -> dict[str, Any]:
    """The histories of the series that have more than one run, as JSON values: ``series`` (the latest change first),
    ``entries`` of the feed, ``notes``, and how many series have one run. Acknowledgements count as of the day of the
    newest record. Raises InputError without the libraries that this needs."""
    newest = max((int(document["created"]) for document in documents), default=0)
    taken = take_documents(documents, float(newest + DAY))
    runs = [run_of(record) for record in taken.records]
    several = {series: found for series, found in by_series(runs).items() if len(found) > 1}
    chosen = [run for found in several.values() for run in found]
    if chosen:
        require()
    noise, expectation = Noise(runs), Promises(taken.records)
    found = [_settled(track, kept, newest) for track in tracks(chosen, noise, Limits(), expectation)]
    page = regression_report.page_document(found, taken.notes)
    against = {one.id: kept.settle(_against_pins(several[one], kept, noise), _day(newest)) for one in several}
    return {
        "notes": page["notes"],
        "single": len(by_series(runs)) - len(several),
        "series": [_series(one, page["tracks"], several[one], kept, against[one.id]) for one in _ordered(found)],
        "entries": page["entries"],
    }


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
