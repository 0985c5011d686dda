"""A planned series of measurements inside a time budget: ``python -m bench.series PLAN --out FOLDER --budget SECONDS``.

PLAN is a JSON list in order of priority; each entry is an object with ``do`` ("run", "limit" or "link") and the options
of the command of that name, e.g. ``{"do": "run", "model": "sensenova-u1-8b-mot", "tier": "BF16", "mode": "full,low",
"size": "2048x2048", "steps": 8, "cfg": 1, "seconds": 60}``; ``seconds`` is what one cell should take, and with less
time left it is not begun. Each record is appended to FOLDER/records.jsonl as soon as it is done, and
FOLDER/summary.json says what ran, what did not and why. ``python -m bench.unpack FOLDER/records.jsonl results`` files
the records. Few files, because a rented machine may hand back few.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from bench.engines import registry
from bench.job import Request
from bench.jobs import jobs_of, label
from bench.limit import default_runner, find_limit
from bench.link_test import run_link
from bench.predict import machine_seen, predict
from bench.results_table import TableRow, error_percent, on_card, print_table
from bench.runner import MeasuringProtocol, Stopped
from bench.suite import Setting, bench_card, require_room, run_suite
from fitcheck.errors import InputError, OptionError
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
NOT_RUN = "not run"


class SeriesUnderWay:
    """One series as it goes: what was done, the rows of its table, and the moment (monotonic seconds) it must end."""

    def __init__(self, out: Path, budget: float, ram: int | None, force: bool, console: Console) -> None:
        self.out = out
        self.ram = ram
        self.force = force
        self.console = console
        self.started = time.monotonic()
        self.deadline = self.started + budget - MARGIN
        self.done: list[dict[str, Any]] = []
        self.rows: list[TableRow] = []

    def keep(self, record: AnyRecord, label: str, **facts: Any) -> None:
        """Writes a record before anything else can go wrong."""
        with (self.out / RECORDS).open("ab") as file:
            file.write(store.encode(record))
            file.flush()
            os.fsync(file.fileno())
        self.done.append({"cell": label, "outcome": record.outcome.result, **facts})
        self.summarize()

    def summarize(self) -> None:
        """Writes summary.json in one step, so that a killed series leaves a whole one."""
        temporary = self.out / ".summary.json"
        content = {"seconds": round(time.monotonic() - self.started, 1), "entries": self.done}
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        temporary.replace(self.out / "summary.json")

    def leave(self, label: str, why: str) -> None:
        """Notes that a cell was not run, and why."""
        self.done.append({"cell": label, "outcome": NOT_RUN, "message": why})
        self.summarize()

    def entry(self, entry: dict[str, Any]) -> None:
        """Measures the cells of one entry. Raises InputError for unknown options or an unknown ``do``."""
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
        doing[do](entry)

    def _protocol(self, entry: dict[str, Any]) -> MeasuringProtocol:
        cap = parse_memory(str(entry["vram"]), "vram") if "vram" in entry else None
        return MeasuringProtocol(
            repeats=_number(entry, "repeats", 3, least=1), warmup=_number(entry, "warmup", 1), cap=cap
        )

    def _run(self, entry: dict[str, Any]) -> None:
        request = request_of(entry)
        # this series keeps the records itself
        expected = _number(entry, "seconds", 0.0)
        setting = Setting(None, self._protocol(entry), request.device, self.ram, self.force, self.deadline, expected)

        def finished(row: TableRow, path: Path | None) -> None:
            self.rows.append(row)
            self.keep(row.record, label(row.run.cell), **facts_of(row))
            if row.run.outcome in ("error", "killed", "hang"):
                self.console.print("\n".join(row.run.output[-30:]), markup=False, highlight=False)

        summary = run_suite(jobs_of(request), setting, self.console, finished)
        for cell, why in summary.skipped:
            self.leave(label(cell), why)

    def _limit(self, entry: dict[str, Any]) -> None:
        from bench.assemble import record_of

        request = request_of(entry)
        with bench_card(request.device, self.console) as card:
            for cell in jobs_of(request):
                runner = default_runner(card, lambda event: None, self.deadline)
                try:
                    require_room(cell, card, self.ram, self.force)
                    found = find_limit(
                        cell, self._protocol(entry), card, runner, _number(entry, "resolution_mib", 128) * MIB
                    )
                except (Stopped, InputError) as stopped:
                    self.leave(f"limit {label(cell)}", str(stopped))
                    continue
                record = record_of(found.run, card, found.limit)
                row = TableRow(found.run, record, predict(cell, machine_seen(card, found.works), warm=False))
                probes = [{"cap": probe.cap, "outcome": probe.outcome} for probe in found.probes]
                self.keep(
                    record, f"limit {label(cell)}", works=found.works, fails=found.fails, probes=probes, **facts_of(row)
                )
                self.console.print(
                    f"limit {label(cell)}: works {found.works}, fails {found.fails}, {len(probes)} probes",
                    highlight=False,
                )

    def _link(self, entry: dict[str, Any]) -> None:
        with bench_card("cuda", self.console) as card:
            record = run_link(card, bool(entry.get("quick", False)))
        self.keep(record, "link", message=record.outcome.message)
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


def run_series(plan: list[dict[str, Any]], series: SeriesUnderWay) -> int:
    """Entries in order; one that fails is noted and the next one runs. Returns 0 when every cell left its record."""
    for entry in plan:
        try:
            series.entry(entry)
        except InputError as error:
            series.leave(json.dumps(entry), str(error))
            series.console.print(f"not run: {error}", markup=False, highlight=False, soft_wrap=True)
        except Exception as error:  # a bug in one entry must not cost the machine time of all the others
            traceback.print_exc()
            series.leave(json.dumps(entry), f"{type(error).__name__}: {error}")
        if time.monotonic() >= series.deadline:
            series.console.print("the time budget is used up", highlight=False)
    return int(any(entry["outcome"] == NOT_RUN for entry in series.done))


def main(arguments: list[str] | None = None) -> int:
    """0 when every cell left its record, 1 when one did not, 2 for a plan that cannot be used."""
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
        console.print(str(error), markup=False)
        return 2
    series = SeriesUnderWay(given.out, given.budget, ram, given.force, console)
    code = run_series(plan[given.start :], series)
    series.summarize()
    if series.rows:
        print_table(series.rows, Console(width=160))
    return code


if __name__ == "__main__":
    sys.exit(main())
