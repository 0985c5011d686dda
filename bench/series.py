"""A planned series of measurements inside a time budget: ``python -m bench.series PLAN --out FOLDER --budget SECONDS``.

PLAN is a JSON list in order of priority; each entry is an object with ``do`` ("run", "limit" or "link") and the options
of the command of that name, e.g. ``{"do": "run", "model": "sensenova-u1-8b-mot", "tier": "BF16", "mode": "full,low",
"size": "2048x2048", "steps": 8, "cfg": 1, "seconds": 60}``; ``seconds`` is what one cell should take, and with less
time left it is not begun. Each record is appended to FOLDER/records.jsonl as soon as it is done, and
FOLDER/summary.json says what ran, what did not and why. The same command again, after the series was ended in any way,
goes on: cells that have a record in FOLDER are not run again. ``python -m bench.unpack FOLDER/records.jsonl results``
files the records. Few files, because a rented machine may hand back few.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from bench.engines import registry
from bench.going_on import append, cell_name, entry_names, replace, whole_lines
from bench.job import Job, Request
from bench.jobs import jobs_of, label
from bench.limit import default_runner, find_limit
from bench.link_test import run_link
from bench.lock import folder_lock
from bench.predict import machine_seen, predict
from bench.results_table import TableRow, error_percent, on_card, print_table
from bench.runner import MeasuringProtocol, Stopped, raw_of
from bench.suite import Setting, bench_card, require_room, run_suite
from bench.unfinished import kept_raw, rescue
from fitcheck.errors import InputError, OptionError, RecordError
from fitcheck.records import store
from fitcheck.records.schema import AnyRecord
from fitcheck.runtimes import registry as runtimes
from fitcheck.runtimes.options import Option, declared
from fitcheck.units import MIB, parse_memory

# what every entry may say, beside the options of the runtimes that the bench measures
_KEYS = {
    "do", "model", "tier", "task", "gguf", "device", "tiny", "repeats", "warmup", "vram", "quick", "resolution_mib",
    "seed", "seconds",
}  # fmt: skip
# left over at the end for the last record, the summary and the way back
MARGIN = 5.0
RECORDS = "records.jsonl"
SUMMARY = "summary.json"
NOT_RUN = "not run"


class DiskFull(Exception):
    """Nothing more can be kept in the folder of the series."""


class SeriesUnderWay:
    """One series as it goes: what was done, the rows of its table, and the moment (monotonic seconds) it must end."""

    def __init__(self, out: Path, budget: float, ram: int | None, force: bool, console: Console) -> None:
        self.out = out
        self.ram = ram
        self.force = force
        self.console = console
        self.started = time.monotonic()
        self.deadline = self.started + budget - MARGIN
        self.done = finished_before(out)
        self.names = {str(one["name"]) for one in self.done}
        self.rows: list[TableRow] = []

    def keep(self, record: AnyRecord, label: str, name: str, **facts: Any) -> None:
        """Writes a record before anything else can go wrong, behind a line of the summary that says whose it is: a
        series that was ended between the two runs the cell again. Raises DiskFull."""
        sealed = store.seal(record)
        entry = {"cell": label, "outcome": record.outcome.result, "name": name, "record": sealed.id, **facts}
        try:
            self.done.append(entry)
            self.summarize()
            append(self.out / RECORDS, store.encode(record))
        except OSError as error:
            self.done.pop()
            raise DiskFull(rescue(sealed, f"{self.out}: cannot be written ({error.strerror or error})")) from error
        self.names.add(name)

    def summarize(self) -> None:
        """Writes summary.json in one step, so that a killed series leaves a whole one."""
        content = {"seconds": round(time.monotonic() - self.started, 1), "entries": self.done}
        replace(self.out / SUMMARY, json.dumps(content, indent=1) + "\n")

    def leave(self, label: str, why: str) -> None:
        """Notes that a cell was not run, and why. Raises DiskFull."""
        self.done.append({"cell": label, "outcome": NOT_RUN, "message": why})
        try:
            self.summarize()
        except OSError as error:
            raise DiskFull(f"{self.out}: cannot be written ({error.strerror or error}).") from error

    def entry(self, entry: dict[str, Any], name: str) -> None:
        """Measures the cells of one entry, known by ``name``, that have no record yet. Raises InputError for unknown
        options or an unknown ``do``, DiskFull when a record cannot be kept."""
        known = _KEYS | set(runtime_options())
        unknown = set(entry) - known
        if unknown:
            raise OptionError(
                f"plan: unknown option(s) {', '.join(sorted(unknown))} in {json.dumps(entry)}; "
                f"choose from {', '.join(sorted(known))}."
            )
        if time.monotonic() + _number(entry, "seconds", 0.0) >= self.deadline:
            self.leave(json.dumps(entry), "no time left")
            return
        doing = {"run": self._run, "limit": self._limit, "link": self._link}
        do = str(entry.get("do", "run"))
        if do not in doing:
            raise OptionError(f"plan: do: {do!r} is not a measurement; choose from {', '.join(doing)}.")
        doing[do](entry, name)

    def attempt(self, entry: dict[str, Any], name: str) -> None:
        """``entry``, and a line of the summary for one that could not be measured. Raises DiskFull."""
        try:
            self.entry(entry, name)
        except InputError as error:
            self.leave(json.dumps(entry), str(error))
            self.console.print(f"not run: {error}", markup=False, highlight=False, soft_wrap=True)
        except DiskFull:
            raise
        except Exception as error:  # a bug in one entry must not cost the machine time of all the others
            traceback.print_exc()
            self.leave(json.dumps(entry), f"{type(error).__name__}: {error}")

    def _left(self, entry: dict[str, Any], name: str) -> tuple[Request, dict[str, Job]]:
        """The request of an entry, and its jobs that have no record yet by their names."""
        request = request_of(entry)
        jobs = {cell_name(name, job): job for job in jobs_of(request)}
        return request, {one: job for one, job in jobs.items() if one not in self.names}

    def _protocol(self, entry: dict[str, Any]) -> MeasuringProtocol:
        cap = parse_memory(str(entry["vram"]), "vram") if "vram" in entry else None
        return MeasuringProtocol(
            repeats=_number(entry, "repeats", 3, least=1), warmup=_number(entry, "warmup", 1), cap=cap
        )

    def _run(self, entry: dict[str, Any], name: str) -> None:
        request, left = self._left(entry, name)
        if not left:
            return
        # this series keeps the records itself
        expected = _number(entry, "seconds", 0.0)
        setting = Setting(
            None, self._protocol(entry), request.device, self.ram, self.force, self.deadline, expected, self.out
        )

        def finished(row: TableRow, path: Path | None) -> None:
            self.rows.append(row)
            self.keep(row.record, label(row.run.cell), cell_name(name, row.run.cell), **facts_of(row))
            if row.run.outcome in ("error", "killed", "hang"):
                self.console.print("\n".join(row.run.output[-30:]), markup=False, highlight=False)

        summary = run_suite(list(left.values()), setting, self.console, finished)
        if summary.interrupted:
            raise KeyboardInterrupt
        for cell, why in summary.skipped:
            self.leave(label(cell), why)

    def _limit(self, entry: dict[str, Any], name: str) -> None:
        from bench.assemble import record_of

        request, left = self._left(entry, name)
        # what the entry says is read whether there is room or not
        protocol, resolution = self._protocol(entry), _number(entry, "resolution_mib", 128) * MIB
        if not left:
            return
        with bench_card(request.device, self.console) as card:
            for one, cell in left.items():
                runner = default_runner(card, lambda event: None, self.deadline)
                try:
                    require_room(cell, card, self.ram, self.force)
                    found = find_limit(cell, protocol, card, runner, resolution)
                except (Stopped, InputError) as stopped:
                    self.leave(f"limit {label(cell)}", str(stopped))
                    continue
                with kept_raw(raw_of(found.run), self.out, "bench", importer=False):
                    record = record_of(found.run, card, found.limit)
                row = TableRow(found.run, record, predict(cell, machine_seen(card, found.works), warm=False))
                probes = [{"cap": probe.cap, "outcome": probe.outcome} for probe in found.probes]
                self.keep(
                    record, f"limit {label(cell)}", one, works=found.works, fails=found.fails, probes=probes,
                    **facts_of(row),
                )  # fmt: skip
                self.console.print(
                    f"limit {label(cell)}: works {found.works}, fails {found.fails}, {len(probes)} probes",
                    highlight=False,
                )

    def _link(self, entry: dict[str, Any], name: str) -> None:
        if name in self.names:
            return
        with bench_card("cuda", self.console) as card:
            record = run_link(card, bool(entry.get("quick", False)))
        self.keep(record, "link", name, message=record.outcome.message)
        self.console.print(f"link: {record.outcome.result} {record.outcome.message or ''}", highlight=False)


def facts_of(row: TableRow) -> dict[str, Any]:
    """What a reader of summary.json wants at a glance; the record has everything."""
    memory, predicted = row.record.memory, row.predicted_card
    values: dict[str, Any] = {
        "message": row.run.message,
        "seconds": row.run.seconds,
        "load_seconds": row.run.loaded.get("seconds"),
        "first_timed_pass": row.run.first_timed_pass,
        "wall_seconds": round(row.run.wall_seconds, 1),
        "allocated": memory.allocated,
        "reserved": memory.reserved,
        "card": on_card(row.record),
        "rss": memory.rss,
        "context": memory.context,
    }
    if predicted is not None:
        pairs = {"allocated": predicted.allocated, "reserved": predicted.reserved, "card": predicted.card}
        for name, interval in pairs.items():
            if values[name]:
                values[f"{name}_error_percent"] = round(error_percent(interval.best, values[name]), 2)
    return values


def runtime_options() -> dict[str, Option]:
    """The options of the runtimes that the bench measures, by name."""
    return {name: one for runtime in registry.names() for name, one in declared(runtimes.get(runtime).options).items()}


def request_of(entry: dict[str, Any]) -> Request:
    """What an entry asks for, in the words of the command line."""
    given = {name: _typed(entry, name, one) for name, one in runtime_options().items() if name in entry}
    return Request.of(
        str(entry.get("model", "")),
        tiers=_names(entry, "tier"),
        tasks=_names(entry, "task") if "task" in entry else None,
        gguf=entry.get("gguf"),
        device=str(entry.get("device", "cuda")),
        tiny=bool(entry.get("tiny", False)),
        seed=_number(entry, "seed", 0),
        search=entry.get("do") == "limit",
        **given,
    )


def _names(entry: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(name for name in str(entry.get(key, "")).split(",") if name)


def _typed(entry: dict[str, Any], name: str, one: Option) -> Any:
    """The value as a command line would hand it over. Raises InputError for a number that is none."""
    if one.type in (int, float):
        return _number(entry, name, one.type())
    return list(_names(entry, name)) if one.many else str(entry[name])


_Number = TypeVar("_Number", int, float)


def _number(entry: dict[str, Any], key: str, default: _Number, least: int = 0) -> _Number:
    """An option of an entry, a number of the default's kind. Raises InputError for what is none or below ``least``."""
    try:
        value = type(default)(entry.get(key, default))
    except (TypeError, ValueError, OverflowError):
        value = type(default)(-1)
    if not least <= value < 1 << 40:
        raise OptionError(
            f"plan: {key}: {json.dumps(entry.get(key))} is no number of this option in {json.dumps(entry)}."
        )
    return value


def finished_before(out: Path) -> list[dict[str, Any]]:
    """The lines of a folder's summary whose records are there whole. Raises RecordError for records that no summary
    names: which cells they are of cannot be told."""
    ids = [_id_of(line, out / RECORDS) for line in whole_lines(out / RECORDS)]
    try:
        summary = json.loads((out / SUMMARY).read_bytes())
        found = [one for one in summary["entries"] if one.get("name") and one.get("record") in ids]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found = []
    if len(found) < len(ids):
        raise RecordError(
            f"{out}: {len(ids) - len(found)} of its {len(ids)} records are of no cell that its {SUMMARY} names; choose "
            "another --out."
        )
    return found


def _id_of(line: bytes, path: Path) -> str:
    try:
        return str(json.loads(line)["id"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecordError(f"{path}: holds a line that is no record; choose another --out.") from error


def run_series(plan: list[dict[str, Any]], series: SeriesUnderWay, start: int = 0) -> int:
    """Entries in order from ``start``; one that fails is noted and the next one runs. Returns 0 when every cell left
    its record, 1 when one did not."""
    for entry, name in list(zip(plan, entry_names(plan), strict=True))[start:]:
        try:
            series.attempt(entry, name)
        except DiskFull as full:
            series.console.print(f"stopped: {full}", markup=False, highlight=False, soft_wrap=True)
            return 1
        if time.monotonic() >= series.deadline:
            series.console.print("the time budget is used up", highlight=False)
    return int(any(entry["outcome"] == NOT_RUN for entry in series.done))


def main(arguments: list[str] | None = None) -> int:
    """0 when every cell left its record, 1 when one did not, 2 for a plan or folder that cannot be used, 130 after
    Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.series", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="seconds for everything")
    parser.add_argument("--ram", help="system memory to reckon with, where the system shows too little, e.g. 120GB")
    parser.add_argument("--from", dest="start", type=int, default=0, help="entry to begin with, counted from 0")
    parser.add_argument("--force", action="store_true", help="run what the preflight would refuse")
    given = parser.parse_args(arguments)
    console = Console(stderr=True, width=160)
    try:
        plan = json.loads(given.plan.read_text("utf-8"))
        if not isinstance(plan, list) or not all(isinstance(entry, dict) for entry in plan):
            raise OptionError(f"{given.plan}: a plan is a JSON list of objects.")
        given.out.mkdir(parents=True, exist_ok=True)
        ram = parse_memory(given.ram, "--ram") if given.ram else None
    except (OSError, ValueError) as error:
        console.print(f"{given.plan}: cannot be used ({error}).", markup=False)
        return 2
    except InputError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 2
    try:
        with folder_lock(given.out):
            series = SeriesUnderWay(given.out, given.budget, ram, given.force, console)
            if series.done:
                console.print(f"goes on: {len(series.done)} cells have their records", highlight=False)
            code = run_series(plan, series, given.start)
    except InputError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here", highlight=False)
        return 130
    if series.rows:
        print_table(series.rows, Console(width=160))
    return code


if __name__ == "__main__":
    sys.exit(main())
