"""Judgements as JSON, as Markdown for a pull request and as the document of a page. Versions of the JSON only grow."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fitcheck.records.regressions.history import Track
from fitcheck.records.regressions.judgement import Expected, Limits, SeriesJudgement, SeriesVerdict, Side
from fitcheck.records.regressions.metrics import Metric, amount, amounts
from fitcheck.records.regressions.tracked_series import VersionChange, causes
from fitcheck.units import format_change

FORMAT = 1
_ORDER = list(SeriesVerdict)
# Markdown and HTML that a name or a version could carry
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|~"})


def ordered(found: Sequence[SeriesJudgement]) -> list[SeriesJudgement]:
    """The worst first."""
    return sorted(found, key=lambda one: (_ORDER.index(one.verdict), one.series.title, one.metric.name))


def summary(found: Sequence[SeriesJudgement]) -> dict[str, int]:
    """How many judgements there are of each verdict, zeros included."""
    return {verdict.value: sum(one.verdict is verdict for one in found) for verdict in SeriesVerdict}


def sentence(found: Sequence[SeriesJudgement]) -> str:
    """The outcome in one sentence."""
    counts = {name: count for name, count in summary(found).items() if count}
    if not counts:
        return "Nothing was compared."
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    cells = len({one.series for one in found})
    first = "REGRESSION" if counts.get(SeriesVerdict.REGRESSION) else "No regression"
    return f"{first}: {listed}, in {cells if cells != 1 else 'one'} series."


def document(found: Sequence[SeriesJudgement], notes: Sequence[str], limits: Limits) -> dict[str, Any]:
    """The comparison as JSON values; see docs/regressions.md."""
    return {
        "format": FORMAT,
        "regression": any(one.alarm for one in found),
        "summary": summary(found),
        "limits": asdict(limits),
        "notes": list(notes),
        "judgements": [judgement_document(one) for one in ordered(found)],
    }


def judgement_document(one: SeriesJudgement) -> dict[str, Any]:
    """One judgement as JSON values; what is unknown is left out."""
    expected = one.expected
    values: dict[str, Any] = {
        "series": {"id": one.series.id, "title": one.series.title, "parts": dict(one.series.parts)},
        "metric": one.metric.name,
        "unit": one.metric.unit,
        "exact": one.metric.exact,
        "higher_is_better": one.metric.higher,
        "verdict": one.verdict.value,
        "reason": one.reason,
        "baseline": _side(one.baseline),
        "candidate": _side(one.candidate),
        "ratio": one.ratio,
        "low": one.low,
        "high": one.high,
        "p": one.p,
        "q": one.q,
        "rank_p": one.rank,
        "repeats_needed": one.repeats,
        "changes": [_change(change) for change in one.changes],
        "causes": list(causes(one.changes)),
        "confounded": one.confounded,
        "explanations": [{"text": reason.text, "covers": reason.covers} for reason in one.explanations],
        "notes": list(one.notes),
    }
    if expected is not None:
        values["expected"] = expected_document(expected)
    return {name: value for name, value in values.items() if value is not None}


def _side(side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {
        "runs": side.runs,
        "values": side.values,
        "value": side.value,
        "first": side.first,
        "last": side.last,
        "ids": list(side.ids),
    }


def _change(change: VersionChange) -> dict[str, Any]:
    kind = "version" if change.version else "condition"
    return {"name": change.name, "kind": kind, "before": list(change.before), "after": list(change.after)}


def track_document(track: Track) -> dict[str, Any]:
    """A metric's history as JSON values."""
    values: dict[str, Any] = {
        "series": {"id": track.series.id, "title": track.series.title, "parts": dict(track.series.parts)},
        "metric": track.metric.name,
        "unit": track.metric.unit,
        "points": [{"created": p.created, "value": p.value, "id": p.id} for p in track.points],
        "changes": [
            {"index": cut, "date": day(track.points[cut].created), "judgement": judgement_document(one)}
            for cut, one in track.changes
        ],
        "notes": list(track.notes),
    }
    return values if track.expected is None else values | {"expected": expected_document(track.expected)}


def expected_document(expected: Expected) -> dict[str, Any]:
    """What is expected as JSON values."""
    return asdict(expected)


def page_document(found: Sequence[Track], notes: Sequence[str]) -> dict[str, Any]:
    """What the pages under ``/regressions/`` show: every history with its changes, the latest change first, and the
    same changes as entries of a feed."""
    listed = sorted(found, key=lambda track: (-_latest(track), track.series.title, track.metric.name))
    entries = [_entry(track, cut, one) for track in listed for cut, one in track.changes]
    entries.sort(key=lambda entry: (-entry["updated"], entry["id"]))
    return {"format": FORMAT, "notes": list(notes), "tracks": [track_document(t) for t in listed], "entries": entries}


def _entry(track: Track, cut: int, one: SeriesJudgement) -> dict[str, Any]:
    point = track.points[cut]
    return {
        "id": f"{track.series.id}/{track.metric.name}/{point.id}",
        "series": track.series.id,
        "series_title": track.series.title,
        "metric": track.metric.name,
        "verdict": one.verdict.value,
        "ratio": one.ratio,
        "title": f"{one.verdict.value}: {track.series.title}, {track.metric.name} {percent(one.ratio)}",
        "updated": point.created,
        "text": one.reason,
    }


def _latest(track: Track) -> int:
    return max((track.points[cut].created for cut, _ in track.changes), default=0)


def markdown(found: Sequence[SeriesJudgement], notes: Sequence[str]) -> str:
    """For a pull request: one sentence, a table of what is not plainly unchanged, the notes."""
    lines = [f"**{_plain(sentence(found))}**", ""]
    shown = [one for one in ordered(found) if one.verdict is not SeriesVerdict.UNCHANGED]
    if shown:
        lines += [
            "| verdict | series | metric | baseline | candidate | change | why |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += ["| " + " | ".join(_plain(cell) for cell in row(one)) + " |" for one in shown]
    unchanged = len(found) - len(shown)
    if unchanged:
        lines += ["", f"{unchanged} unchanged."]
    if notes:
        lines += ["", *(f"- {_plain(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return " ".join(text.split()).translate(_MARKS).replace("@", "@\u200b")


COLUMNS = ("verdict", "series", "metric", "baseline", "candidate", "change", "why")


def row(one: SeriesJudgement) -> list[str]:
    """The cells of one line, in the order of ``COLUMNS``."""
    interval = ""
    if one.low is not None and one.high is not None and one.low != one.high:
        interval = f" ({percent(one.low)} to {percent(one.high)})"
    return [
        one.verdict.value,
        f"{one.series.title} [{one.series.id}]",
        one.metric.name,
        _amount(one.metric, one.baseline),
        _amount(one.metric, one.candidate),
        "" if one.ratio is None else f"{percent(one.ratio)}{interval}",
        "; ".join([one.reason, *(why.text for why in one.explanations), *one.notes, *_expectation(one)]),
    ]


def _expectation(one: SeriesJudgement) -> list[str]:
    expected = one.expected
    if expected is None:
        return []
    change = "" if expected.ratio is None else f", a change of {percent(expected.ratio)}"
    return [f"expected: {amounts(one.metric, expected.low, expected.high)}{change}"]


def _amount(metric: Metric, side: Side | None) -> str:
    if side is None or not side.values:
        return "" if side is None else f"n={side.runs}"
    return f"{amount(metric, side.value)} (n={side.runs})"


def percent(ratio: float | None) -> str:
    """A ratio as a signed change; empty for ``None``."""
    return "" if ratio is None else format_change(ratio)


def day(created: int) -> str:
    """The UTC date of ``created`` (seconds since 1970) as YYYY-MM-DD."""
    return datetime.datetime.fromtimestamp(created, datetime.UTC).date().isoformat()
