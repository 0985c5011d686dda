"""Ask ``fitcheck check`` every kept question and compare with the answers of an earlier version.

``questions.json`` holds the command lines, ``answers.jsonl.gz`` what the code said before its modules moved, reduced to
what a person or a program would act on. As a script, from the root of the repository:

    python tests/answers/ask.py --compare    differences, grouped by field
    python tests/answers/ask.py --write      keep today's answers (only where a change is meant)
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import math
import os
import shlex
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))

from fitcheck.cli.main import main  # noqa: E402 - found through the line above when this file is run as a script
from tests.answers import fixtures  # noqa: E402

QUESTIONS, ANSWERS, ALLOWED = HERE / "questions.json", HERE / "answers.jsonl.gz", HERE / "allowed.json"
REFUSED = 2
DIGITS = 9
# two numbers that agree in nine digits may be rounded to either side
TOLERANCE = 2e-9

Answer = dict[str, Any]


def questions() -> list[str]:
    """The command lines after ``fitcheck check``, as they would be typed in a shell."""
    groups = json.loads(QUESTIONS.read_bytes())
    return [shlex.join(arguments) for lists in groups.values() for arguments in lists]


# asking


@contextmanager
def surroundings() -> Iterator[None]:
    """A folder with the fixtures as the working folder, no records but the packed ones, no hub, no colours."""
    with tempfile.TemporaryDirectory() as place:
        models = Path(place) / "models"
        models.mkdir()
        fixtures.write(models)
        own = {
            "FITCHECK_RECORDS": str(Path(place) / "records"),
            "FITCHECK_CACHE": str(Path(place) / "cache"),
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
            "COLUMNS": "240",
        }
        before, where = {name: os.environ.get(name) for name in own}, Path.cwd()
        os.environ.update(own)
        os.chdir(models)
        try:
            yield
        finally:
            os.chdir(where)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def ask(question: str) -> Answer:
    """The answer to one command line, in this process; a refusal is its exit code and its sentence.

    A crash is an answer too: what the command says today, until somebody mends it.
    """
    words, kept = ["fitcheck", "check", *shlex.split(question), "--json"], sys.argv
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = words
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    except Exception as error:  # what a shell would show as a traceback
        return {"exit": 1, "crashed": f"{type(error).__name__}: {error}"}
    finally:
        sys.argv = kept
    if code == REFUSED:
        return {"exit": code, "refused": err.getvalue().strip(), "printed": out.getvalue()}
    return {"exit": code, **project(json.loads(out.getvalue()))}


def ask_all(asked: Iterable[str]) -> dict[str, Answer]:
    """Every answer by its question."""
    with surroundings():
        return {question: ask(question) for question in asked}


# what is kept of an answer


def project(document: Mapping[str, Any]) -> Answer:
    """What is kept of ``fitcheck check --json``; the one place that knows the document's schema.

    Bytes stay integers, floats have nine significant digits, intervals are [low, best, high].
    """
    machine = document["machine"]
    kept = {
        "machine": {
            **{name: machine[name] for name in ("card", "memory", "pcie_generation", "pcie_lanes", "display")},
            **{name: machine[name] for name in ("ram", "disk_free", "basis")},
            "usable_vram": _interval(machine["usable_vram"]),
            "usable_ram": _interval(machine["usable_ram"]),
        },
        "model": {name: document["model"][name] for name in ("slug", "name", "licence", "repository")},
        "workload": {name: value for name, value in document["workload"].items() if name != "batch"},
        "notes": document["notes"],
        "cells": [_cell(cell) for cell in document["cells"]],
    }
    rounded: Answer = _rounded(kept)
    return rounded


_PLAIN = ("tier", "mode", "runtime", "revision", "verdict", "binding", "reason", "flip")
_INTERVALS = ("allocated", "reserved", "card", "required", "seconds")
_CATEGORIES = ("resident", "window", "kv_cache", "activations", "scratch", "allocated")


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    host, evidence, workload = cell["host"], cell["evidence"], cell["workload"]
    return {
        **{name: cell[name] for name in _PLAIN},
        "policy": cell["settings"].get("policy"),
        **({name: workload[name] for name in ("steps", "cfg") if name in workload}),
        "evidence": {name: evidence[name] for name in ("level", "records", "note")},
        **{name: _interval(cell[name]) for name in _INTERVALS},
        "host": _interval(host),
        **{name: host[name] for name in ("pinned", "pageable", "process")},
        "disk": cell["disk"],
        "peak": cell["peak"],
        "phases": [[phase["name"], *(phase[name] for name in _CATEGORIES)] for phase in cell["phases"]],
        "time": _time(cell),
        "commands": cell["commands"],
        "assumptions": cell["assumptions"],
        **(_text(cell) if "context" in workload else {}),
    }


def _time(cell: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parts of the seconds by the names they were kept under; none where seconds are unknown."""
    time_ = cell["time"]
    if time_ is None or cell["seconds"] is None:
        return None
    names = {"streaming": "stream"}
    streamed = {"streamed_bytes": time_["amounts"]["streamed"]} if "streamed" in time_["amounts"] else {}
    parts = {names.get(name, name): value for name, value in time_["parts"].items()}
    return {**parts, **streamed, "binding": time_["binding"]}


def _text(cell: Mapping[str, Any]) -> dict[str, Any]:
    """What only cells of language models have."""
    details, rates = cell["details"], (cell["time"] or {}).get("rates", {})
    buffers = details.get("buffers")
    return {
        "context": cell["workload"]["context"],
        "prompt_rate": _interval(rates.get("prompt")),
        "generation_rate": _interval(rates.get("generation")),
        "options": details.get("options"),
        "cards": buffers and buffers["cards"],
        "host_buffers": buffers and buffers["host"],
    }


def _interval(value: Mapping[str, Any] | None) -> list[Any] | None:
    return None if value is None else [value["low"], value["best"], value["high"]]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


# keeping


def kept_answers() -> dict[str, Answer]:
    """The answers of the earlier version by question."""
    with gzip.open(ANSWERS, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {row["question"]: row["answer"] for row in rows}


def keep(answers: Mapping[str, Answer]) -> None:
    """Writes ``answers`` in the order of the questions; the same answers give the same bytes."""
    with ANSWERS.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        for question, answer in answers.items():
            row = json.dumps({"question": question, "answer": answer}, ensure_ascii=False, separators=(",", ":"))
            file.write(row.encode() + b"\n")


# comparing


@dataclass(frozen=True)
class Difference:
    """One value that is another than it was. ``cell`` is "" for what the whole answer shares."""

    question: str
    cell: str
    field: str
    before: Any
    now: Any

    def __str__(self) -> str:
        where = f" [{self.cell}]" if self.cell else ""
        return f"{self.question}{where} {self.field}: {_short(self.before)} -> {_short(self.now)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:100]} … {text[-50:]}"


def compare(before: Mapping[str, Answer], now: Mapping[str, Answer]) -> list[Difference]:
    """Every difference, in the order of the questions."""
    found = []
    for question in dict.fromkeys([*before, *now]):
        if question not in now or question not in before:
            found.append(Difference(question, "", "question", question in before, question in now))
        else:
            found += _answer_differences(question, before[question], now[question])
    return found


def _answer_differences(question: str, before: Answer, now: Answer) -> Iterator[Difference]:
    old, new = _by_name(before.get("cells", [])), _by_name(now.get("cells", []))
    shared = ({key: value for key, value in answer.items() if key != "cells"} for answer in (before, now))
    for field, one, other in _leaves("", *shared):
        yield Difference(question, "", field, one, other)
    if list(old) != list(new):
        yield Difference(question, "", "cells", list(old), list(new))
    for name in (name for name in old if name in new):
        for field, one, other in _leaves("", old[name], new[name]):
            yield Difference(question, name, field, one, other)


def _by_name(cells: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Cells by tier and mode, so that a change of their order does not show as a change of everything."""
    named: dict[str, Mapping[str, Any]] = {}
    for cell in cells:
        name = f"{cell['tier']}, {cell['mode']}, {cell['runtime']}"
        same = sum(1 for other in named if other == name or other.startswith(f"{name} #"))
        named[f"{name} #{same + 1}" if same else name] = cell
    return named


def _leaves(field: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The innermost values that differ, with a dotted name; lists of another length count as one value."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _leaves(f"{field}.{key}".lstrip("."), before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _leaves(f"{field}.{number}", one, other)
    elif not _same(before, now):
        yield field, before, now


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=TOLERANCE)
    return type(before) is type(now) and bool(before == now)


@dataclass(frozen=True)
class Allowance:
    """A change that is meant: where it may be seen and why it is right. Patterns are those of a shell."""

    question: str
    field: str
    why: str

    def covers(self, difference: Difference) -> bool:
        return fnmatchcase(difference.question, self.question) and fnmatchcase(difference.field, self.field)


def allowances() -> list[Allowance]:
    """The meant changes. Raises ValueError for one without a reason or that would let everything pass."""
    found = [Allowance(**row) for row in json.loads(ALLOWED.read_bytes())]
    for one in found:
        if not one.why.strip() or not one.field.strip("*"):
            raise ValueError(f"{ALLOWED.name}: {one} needs a reason and the name of a field.")
    return found


def unexpected(differences: Iterable[Difference], allowed: Sequence[Allowance]) -> list[Difference]:
    return [one for one in differences if not any(allowance.covers(one) for allowance in allowed)]


def summary(differences: Sequence[Difference], examples: int = 3) -> str:
    """The differences grouped by field, the most frequent first, with a few examples of each."""
    groups: dict[str, list[Difference]] = defaultdict(list)
    for one in differences:
        groups[one.field].append(one)
    lines = []
    for field, found in sorted(groups.items(), key=lambda pair: -len(pair[1])):
        asked = len({one.question for one in found})
        lines.append(f"{field}: {len(found)} differences in {asked} questions")
        lines += [f"    {one}" for one in found[:examples]]
    return "\n".join(lines)


def _run(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Ask every kept question; compare or keep the answers.")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--compare", action="store_true", help="show differences from the kept answers, by field")
    wanted.add_argument("--write", action="store_true", help="keep today's answers")
    parser.add_argument("--only", default="*", help="questions like this pattern, such as '*--task editing*'")
    parser.add_argument("--examples", type=int, default=3, help="differences shown of each field")
    chosen = parser.parse_args(arguments)
    if chosen.write and chosen.only != "*":
        parser.error("--write keeps the answers to all questions; leave --only out.")
    asked = [question for question in questions() if fnmatchcase(question, chosen.only)]
    start = time.process_time()
    answers = ask_all(asked)
    print(f"{len(asked)} questions, {sum(len(a.get('cells', [])) for a in answers.values())} cells, "
          f"{time.process_time() - start:.1f} s of processor time.")  # fmt: skip
    if chosen.write:
        keep(answers)
        return 0
    before = {question: answer for question, answer in kept_answers().items() if fnmatchcase(question, chosen.only)}
    differences = compare(before, answers)
    left = unexpected(differences, allowances())
    print(f"{len(differences)} differences, {len(differences) - len(left)} of them allowed.")
    if left:
        print(summary(left, chosen.examples))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(_run())
