"""``fitcheck regress``: did it get slower or hungrier, since when, by how much, and how sure is that."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fitcheck.cli.grouped import QuickGroup
from fitcheck.cli.printable import json_text, one_line
from fitcheck.cli.record_filters import card_slug, model_slug
from fitcheck.errors import InputError, OptionError, RecordError

if TYPE_CHECKING:
    from fitcheck.records.regressions.history import Track
    from fitcheck.records.regressions.judgement import Limits, SeriesJudgement
    from fitcheck.records.regressions.kept import KeptDecisions
    from fitcheck.records.regressions.tracked_runs import Expectation, TrackedRun

Text = str | None
From = Annotated[
    list[Path] | None,
    typer.Option(
        "--from", help="Folders of records that queries look in and noise is learnt from; results/ and yours."
    ),
]
Flagged = Annotated[bool, typer.Option("--flagged", help="Take in records that validation flags.")]
Across = Annotated[
    str,
    typer.Option(help="Settings to compare across, separated by commas, like runtime.policy; they count as versions."),
]
Effect = Annotated[float, typer.Option(help="The smallest change that matters, in percent.")]
Least = Annotated[float, typer.Option(help="No alarm for less than this, in percent.")]
KeptFile = Annotated[
    Path | None, typer.Option("--kept", help="Pins and acknowledgements; regressions.toml here by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="As Markdown, for a pull request.")]
MarkdownFile = Annotated[Path | None, typer.Option("--summary", help="Also append the Markdown to this file.")]
All = Annotated[bool, typer.Option("--all", help="Show unchanged metrics too.")]


def register(app: typer.Typer) -> None:
    """Adds the group ``fitcheck regress`` with ``compare``, ``watch``, ``history`` and ``bisect``."""
    regress = typer.Typer(
        cls=QuickGroup, no_args_is_help=True, help="Track regressions: compare, history, watch, bisect."
    )
    app.add_typer(regress, name="regress")
    regress.command()(compare)
    regress.command()(watch)
    regress.command()(history)
    regress.command()(bisect)


def compare(
    baseline: Annotated[str, typer.Argument(help="A record, a folder, or a query like revision=pr241,mode=low.")],
    candidate: Annotated[str, typer.Argument(help="The same, for what is to be judged.")],
    sources: From = None,
    across: Across = "",
    flagged: Flagged = False,
    effect: Effect = 5.0,
    least: Least = 2.0,
    kept: KeptFile = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    summary: MarkdownFile = None,
    show_all: All = False,
) -> None:
    """Is CANDIDATE slower or hungrier than BASELINE? Exit code 1 on a regression."""
    _require()
    limits, notes = _limits(effect, least), _Notes()
    old = _runs(baseline, sources, across, flagged, notes)
    new = _runs(candidate, sources, across, flagged, notes)
    shared = {run.id for run in old} & {run.id for run in new}
    if shared:
        raise RecordError(f"{len(shared)} records are on both sides; a record cannot be compared with itself.")
    _refuse_other_cells(old, new)
    others = _beside([*old, *new], sources, across, flagged)
    _judge(old, new, others, limits, _kept(kept), notes, as_json, as_markdown, summary, show_all)


def watch(
    new: Annotated[list[Path], typer.Argument(help="New records, or folders of them.")],
    against: Annotated[Path, typer.Option(help="Folder of the records so far: the baseline.")] = Path("results"),
    across: Across = "",
    flagged: Flagged = False,
    effect: Effect = 5.0,
    least: Least = 2.0,
    kept: KeptFile = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    summary: MarkdownFile = None,
    show_all: All = False,
) -> None:
    """For CI: are NEW records worse than the latest state of their series? Exit code 1 on a regression."""
    _require()
    limits, notes, pins = _limits(effect, least), _Notes(), _kept(kept)
    fresh = _take(list(new), across, flagged, notes)
    ids = {run.id for run in fresh}
    known = [run for run in _baseline(against, across, flagged, notes) if run.id not in ids]
    old = [run for runs in _latest(pins.baseline(known), pins) for run in runs]
    used = {run.id for run in old}
    _judge(
        old,
        fresh,
        [run for run in known if run.id not in used],
        limits,
        pins,
        notes,
        as_json,
        as_markdown,
        summary,
        show_all,
    )


def _baseline(folder: Path, across: str, flagged: bool, notes: _Notes) -> list[TrackedRun]:
    from fitcheck.records import store

    if folder.is_dir() and next(iter(store.record_files(folder)), None) is None:
        notes.say([f"{folder} holds no record yet: only what the estimator expects was compared with."])
        return []
    return _take([folder], across, flagged, notes)


def history(
    model: Annotated[Text, typer.Option(help="Only this model.")] = None,
    card: Annotated[Text, typer.Option(help="Only this card, like 'H100 SXM'.")] = None,
    query: Annotated[Text, typer.Option(help="Only these, like mode=low,since=2026-01-01.")] = None,
    metric: Annotated[Text, typer.Option(help="Only this metric, like seconds or reserved.")] = None,
    sources: From = None,
    across: Across = "",
    flagged: Flagged = False,
    effect: Effect = 5.0,
    least: Least = 2.0,
    kept: KeptFile = None,
    as_json: AsJson = False,
) -> None:
    """When each series changed, by how much, and what changed with it.

    Exit code 1 if the latest change of a metric is a regression.
    """
    from fitcheck.records.regressions.history import tracks
    from fitcheck.records.regressions.noise import Noise

    _require()
    notes, pins = _Notes(), _kept(kept)
    everything = _take(_sources(sources), across, flagged, notes)
    named = (("model", model_slug(model)), ("card", card_slug(card)))
    asked = ",".join(f"{name}={value}" for name, value in named if value)
    asked = ",".join(filter(None, (asked, query)))
    chosen = _select(everything, asked) if asked else everything
    found = [
        track
        for track in tracks(chosen, Noise(everything), _limits(effect, least), _expectation(everything))
        if metric is None or track.metric.name == metric
    ]
    if not found:
        raise OptionError(f"--metric {metric}: no record measured it; see the metrics of `fitcheck regress history`.")
    found = [_acknowledge(track, pins) for track in found]
    _print_history(found, notes, as_json)
    if any(track.changes and track.changes[-1][1].alarm for track in found):
        raise typer.Exit(1)


def bisect(
    command: Annotated[
        list[str], typer.Argument(help="After --: the command that measures {revision} and writes a record to {out}.")
    ],
    good: Annotated[Text, typer.Option(help="The last revision known to be good.")] = None,
    bad: Annotated[Text, typer.Option(help="The first revision known to be bad.")] = None,
    repository: Annotated[Path, typer.Option(help="The runtime's git repository.")] = Path(),
    revisions: Annotated[
        Path | None, typer.Option(help="A file of revisions or builds instead, one a line, oldest first.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What to look at.")] = "seconds",
    steps: Annotated[int, typer.Option(min=2, max=1000, help="At most so many revisions are measured.")] = 12,
    runs: Annotated[int, typer.Option(min=2, max=10_000, help="At most so many runs in all.")] = 48,
    timeout: Annotated[float, typer.Option(help="Seconds after which a run is ended.")] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Which revision changed it: runs the command at each step and stops when sure.

    The record of each run is read from the folder {out}; a command that fails, or writes none, skips its revision.
    """
    from fitcheck.cli.regress_bisect import print_outcome, revisions_between, revisions_in, search

    _require()
    if revisions is None and not (good and bad):
        raise OptionError("say which revisions are known: --good A --bad B, or --revisions FILE with the row of them.")
    row = revisions_in(revisions) if revisions else revisions_between(repository, good or "", bad or "")
    print_outcome(search(row, command, metric, steps, runs, timeout), as_json)


class _Notes(list[str]):
    """Sentences about what was left out, each once."""

    def say(self, sentences: Sequence[str]) -> None:
        self.extend(sentence for sentence in sentences if sentence not in self)


def _require() -> None:
    from fitcheck.records.regressions.statistics import require

    require()


def _limits(effect: float, least: float) -> Limits:
    from fitcheck.records.regressions.judgement import Limits

    for name, value in (("--effect", effect), ("--least", least)):
        if not 0 < value <= 1000:
            raise OptionError(f"{name} {value:g}: is a percentage above 0, like 5.")
    return Limits(effect / 100, least / 100)


def _kept(path: Path | None) -> KeptDecisions:
    from fitcheck.records.regressions.kept import NAME, KeptDecisions, read_kept

    if path is None:
        return read_kept(Path(NAME)) if Path(NAME).is_file() else KeptDecisions()
    return read_kept(path)


def _sources(given: list[Path] | None) -> list[Path]:
    from fitcheck.records.places import local_root

    found = given or [path for path in (Path("results"), local_root()) if path.is_dir()]
    if not found:
        raise RecordError("there is no folder results/ here and you have no records yet; say where with --from.")
    return found


def _across(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _take(paths: Sequence[Path], across: str, flagged: bool, notes: _Notes) -> list[TrackedRun]:
    from fitcheck.records.regressions.intake import read_records
    from fitcheck.records.regressions.tracked_runs import run_of

    taken = read_records(paths, time.time(), flagged)
    notes.say(taken.notes)
    return [run_of(record, _across(across)) for record in taken.records]


def _runs(side: str, sources: list[Path] | None, across: str, flagged: bool, notes: _Notes) -> list[TrackedRun]:
    """A side as typed: a file, a folder, or a query over the sources."""
    if not side.strip():
        raise OptionError("an empty query selects nothing; give a record, a folder, or NAME=VALUE like revision=pr241.")
    if "=" in side and not Path(side).exists():
        return _select(_take(_sources(sources), across, flagged, notes), side)
    return _take([Path(side)], across, flagged, notes)


def _select(runs: Sequence[TrackedRun], query: str) -> list[TrackedRun]:
    from fitcheck.records.regressions.intake import parse_query, select

    chosen = {id(record) for record in select([run.record for run in runs], parse_query(query))}
    return [run for run in runs if id(run.record) in chosen]


def _beside(sides: Sequence[TrackedRun], sources: list[Path] | None, across: str, flagged: bool) -> list[TrackedRun]:
    """What there is besides the two sides to learn noise from."""
    try:
        more = _take(_sources(sources), across, flagged, _Notes())
    except InputError:
        if sources:
            raise
        more = []
    known = {run.id for run in sides}
    return [run for run in more if run.id not in known]


def _refuse_other_cells(old: Sequence[TrackedRun], new: Sequence[TrackedRun]) -> None:
    from fitcheck.records.regressions.comparison import nearest

    known = list(dict.fromkeys(run.series for run in old))
    if not {run.series for run in new} & set(known):
        why = nearest(new[0].series, known)
        raise RecordError(f"the baseline has no run of the candidate's cell: {why}. --across compares across settings.")


def _latest(known: Sequence[TrackedRun], pins: KeptDecisions) -> list[list[TrackedRun]]:
    """The runs of each series' newest versions; all of a pinned series."""
    from fitcheck.records.regressions.tracked_runs import by_series

    pinned = {pin.series for pin in pins.pinned}
    return [
        runs if pinned & {series.id, "*"} else [run for run in runs if run.state.versions == runs[-1].state.versions]
        for series, runs in by_series(known).items()
    ]


def _judge(
    old: Sequence[TrackedRun],
    new: Sequence[TrackedRun],
    others: Sequence[TrackedRun],
    limits: Limits,
    pins: KeptDecisions,
    notes: _Notes,
    as_json: bool,
    as_markdown: bool,
    summary: Path | None,
    show_all: bool,
) -> None:
    from fitcheck.records.regressions import regression_report
    from fitcheck.records.regressions.comparison import compare as judge
    from fitcheck.records.regressions.noise import Noise

    found = judge(pins.baseline(old), new, Noise(old, new, others), limits, _expectation([*old, *others]))
    found = pins.settle(found, datetime.datetime.now(datetime.UTC).date())
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(regression_report.markdown(found, notes))
    if as_json:
        print(json_text(regression_report.document(found, notes, limits)))
    elif as_markdown:
        print(regression_report.markdown(found, notes), end="")
    else:
        _print_table(found, notes, show_all)
    if any(one.alarm for one in found):
        raise typer.Exit(1)


def _expectation(beside: Sequence[TrackedRun]) -> Expectation:
    """What the estimator says, and how often it was right on the runs beside."""
    from fitcheck.verdict.promise import Promises

    return Promises(run.record for run in beside)


def _print_table(found: Sequence[SeriesJudgement], notes: Sequence[str], show_all: bool) -> None:
    from fitcheck.records.regressions import regression_report
    from fitcheck.records.regressions.judgement import SeriesVerdict

    shown = [one for one in regression_report.ordered(found) if show_all or one.verdict is not SeriesVerdict.UNCHANGED]
    _table(regression_report.COLUMNS, [regression_report.row(one) for one in shown])
    print(one_line(regression_report.sentence(found)))
    for note in notes:
        print(one_line(note), file=sys.stderr)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from fitcheck.cli.consoles import bare_table, console

    if not rows:
        return
    table = bare_table()
    for name in names:
        table.add_column(name, overflow="fold")
    for cells in rows:
        table.add_row(*map(one_line, cells))
    console().print(table)


def _acknowledge(track: Track, pins: KeptDecisions) -> Track:
    from dataclasses import replace

    today = datetime.datetime.now(datetime.UTC).date()
    settled = pins.settle([one for _, one in track.changes], today)
    return replace(track, changes=tuple((cut, one) for (cut, _), one in zip(track.changes, settled, strict=True)))


def _print_history(found: Sequence[Track], notes: Sequence[str], as_json: bool) -> None:
    from fitcheck.records.regressions import regression_report

    if as_json:
        tracks: list[dict[str, Any]] = [regression_report.track_document(track) for track in found]
        print(json_text({"format": regression_report.FORMAT, "notes": list(notes), "tracks": tracks}))
        return
    rows = [
        [regression_report.day(track.points[cut].created), *regression_report.row(one)]
        for track in found
        for cut, one in track.changes
    ]
    _table(("since", *regression_report.COLUMNS), sorted(rows))
    series = len({track.series for track in found})
    print(f"{len(rows)} changes in {len(found)} metrics of {series} series.")
    for note in dict.fromkeys((*notes, *(f"{track.series.title}: {note}" for track in found for note in track.notes))):
        print(one_line(note), file=sys.stderr)
