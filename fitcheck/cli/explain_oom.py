"""``fitcheck explain --oom``: a pasted out-of-memory message, what was full, and the next step down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.options import Question, answer
from fitcheck.cli.printable import json_text, one_line
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError

if TYPE_CHECKING:
    from fitcheck.memory.oom_message import OomMessage
    from fitcheck.verdict.oom_explained import Explained

OomOption = Annotated[
    Path | None,
    typer.Option(
        "--oom",
        metavar="FILE",
        help="Explain the out-of-memory message in FILE (- reads it from standard input); with a TARGET beside what "
        "the estimate says.",
    ),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Explaining(Question):
    """A question whose model may be left out: a message explains itself."""

    model: Annotated[
        str,
        typer.Argument(metavar="TARGET", show_default=False, help="As for `fitcheck check`; not needed with --oom."),
    ] = ""


def explain_message(question: Explaining, source: Path, *, as_json: bool) -> None:
    """Print what the message says and, where a model is named, what the estimate says. Raises InputError."""
    from fitcheck.memory.oom_message import read_message
    from fitcheck.verdict.oom_explained import explained

    message = read_message(_text(source))
    found = explained(message) if not question.model else _beside(question, message)
    if as_json:
        print(json_text(found.to_json()))
        return
    print(found.headline)
    for words, amount in found.amounts:
        print(f"  {words:30} {amount}")
    for line in (found.message.words, found.estimate, found.contradiction):
        if line:
            print(one_line(line))
    print(one_line(f"Next: {found.next}"))


def _beside(question: Explaining, message: OomMessage) -> Explained:
    from fitcheck.verdict.oom_explained import explained

    return explained(message, answer(question), question.wanted)


def _text(source: Path) -> str:
    """At most a megabyte of text. Raises OptionError."""
    from fitcheck.memory.oom_message import MAX_CHARACTERS
    from fitcheck.records.bounded import read_bounded

    most = 4 * MAX_CHARACTERS
    if str(source) == "-":
        if sys.stdin.isatty():
            print("Paste the message, then end it with Ctrl-D (Ctrl-Z and Enter on Windows).", file=sys.stderr)
        # a character takes at most four bytes, and one more than is allowed is refused by whoever reads the message
        return sys.stdin.buffer.read(most + 4).decode("utf-8", "replace")
    if not source.exists():
        raise OptionError(f"--oom: there is no file {source}; paste the message to standard input with --oom -.")
    if source.is_file() and source.stat().st_size > most:
        raise OptionError(f"--oom: {source} is larger than {most >> 20} MiB; give the lines around the error alone.")
    return read_bounded(source, most).decode("utf-8", "replace")
