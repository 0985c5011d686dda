"""What a project keeps beside its records: pinned baselines and acknowledged changes, in one TOML file.

[[pinned]]
series = "3f2a9c0d1b7e"              # as `fitcheck regress` prints it; or "*"
records = ["03e33515a2df"]           # ids or their first digits: these are the baseline, and nothing else
reason = "release 1.4"

[[acknowledged]]
series = "3f2a9c0d1b7e"
metric = "seconds"                   # or "*"
ratio = 1.08                         # up to here it is accepted; for rates that fell, down to here, like 0.92
reason = "exact attention is worth it"
until = 2027-06-30                   # optional, the last day
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import RecordError
from fitcheck.records.reading import read_bounded
from fitcheck.records.regressions.judgement import SeriesJudgement, SeriesVerdict
from fitcheck.records.regressions.tracked_runs import TrackedRun
from fitcheck.records.regressions.tracked_series import Series

NAME = "regressions.toml"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A change that was accepted: candidate to baseline up to ``ratio`` (for rates down to it), through ``until``."""

    series: str
    metric: str
    ratio: float
    reason: str
    until: datetime.date | None = None


@dataclass(frozen=True, slots=True)
class PinnedBaseline:
    """Records, by the beginnings of their ids, that alone are the baseline of a series ("*" for all)."""

    series: str
    records: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class KeptDecisions:
    """What the file says: pins and acknowledgements in its order. Without a file it is empty and changes nothing."""

    pinned: tuple[PinnedBaseline, ...] = ()
    acknowledged: tuple[Acknowledged, ...] = ()

    def baseline(self, runs: Sequence[TrackedRun]) -> list[TrackedRun]:
        """``runs`` less those whose series is pinned to others. Raises InputError when a pinned record is missing."""
        chosen = list(runs)
        for pin in self.pinned:
            mine = [run for run in chosen if _names(pin.series, run.series)]
            keep = [run for run in mine if any(run.id.startswith(name) for name in pin.records)]
            if mine and not keep:
                raise RecordError(
                    f"{NAME}: none of the records pinned for series {pin.series} is among the baseline's."
                )
            chosen = [run for run in chosen if run not in mine or run in keep]
        return chosen

    def of(self, series: Series) -> tuple[list[PinnedBaseline], list[Acknowledged]]:
        """What is kept of one series, entries for all series among it."""
        return (
            [pin for pin in self.pinned if _names(pin.series, series)],
            [note for note in self.acknowledged if _names(note.series, series)],
        )

    def settle(self, found: Sequence[SeriesJudgement], today: datetime.date) -> list[SeriesJudgement]:
        """Regressions that were acknowledged, and no further than that, are marked so."""
        return [self._settled(judgement, today) for judgement in found]

    def _settled(self, judgement: SeriesJudgement, today: datetime.date) -> SeriesJudgement:
        if not judgement.alarm or judgement.ratio is None:
            return judgement
        for note in self.acknowledged:
            here = _names(note.series, judgement.series) and note.metric in ("*", judgement.metric.name)
            within = judgement.ratio >= note.ratio if judgement.metric.higher else judgement.ratio <= note.ratio
            if here and within and (note.until is None or today <= note.until):
                reason = f"acknowledged: {note.reason} ({judgement.reason})"
                return replace(judgement, verdict=SeriesVerdict.ACKNOWLEDGED, reason=reason)
        return judgement


def _names(name: str, series: Series) -> bool:
    return name in ("*", series.id)


def read_kept(path: Path) -> KeptDecisions:
    """The file's pins and acknowledgements. Raises InputError naming the first entry that cannot be used."""
    try:
        document = tomllib.loads(read_bounded(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: is not valid TOML ({str(error)[:200]}).") from error
    unknown = sorted(set(document) - {"pinned", "acknowledged"})
    if unknown:
        raise RecordError(f"{path}: {unknown[0]!r} is unknown; [[pinned]] and [[acknowledged]] are what it holds.")
    pins = tuple(_pinned(entry, path) for entry in _tables(document, "pinned", path))
    notes = tuple(_acknowledged(entry, path) for entry in _tables(document, "acknowledged", path))
    return KeptDecisions(pins, notes)


def _tables(document: Mapping[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise RecordError(f"{path}: {name} is a list of tables; write [[{name}]].")
    return found


def _pinned(entry: dict[str, Any], path: Path) -> PinnedBaseline:
    _only(entry, {"series", "records", "reason"}, "pinned", path)
    records = entry.get("records")
    if not isinstance(records, list) or not records or not all(isinstance(name, str) and name for name in records):
        raise RecordError(f'{path}: pinned.records is a list of record ids, like ["03e33515a2df"].')
    return PinnedBaseline(
        _word(entry, "series", "pinned", path), tuple(records), _word(entry, "reason", "pinned", path)
    )


def _acknowledged(entry: dict[str, Any], path: Path) -> Acknowledged:
    kind = "acknowledged"
    _only(entry, {"series", "metric", "ratio", "reason", "until"}, kind, path)
    ratio, until = entry.get("ratio"), entry.get("until")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio < 1e6:
        raise RecordError(f"{path}: acknowledged.ratio is how far it may go, candidate to baseline, like 1.08.")
    if until is not None and type(until) is not datetime.date:
        raise RecordError(f"{path}: acknowledged.until is a date without quotes, like 2027-06-30.")
    series, metric = _word(entry, "series", kind, path), _word(entry, "metric", kind, path)
    return Acknowledged(series, metric, float(ratio), _word(entry, "reason", kind, path), until)


def _only(entry: dict[str, Any], known: set[str], kind: str, path: Path) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise RecordError(f"{path}: {kind}.{unknown[0]} is unknown; it has {', '.join(sorted(known))}.")


def _word(entry: dict[str, Any], name: str, kind: str, path: Path) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise RecordError(f"{path}: {kind}.{name} is missing; every entry of [[{kind}]] states it as text.")
    return value
