"""The question after the first screen, for those who typed no arguments: a line of theirs becomes a command."""

from __future__ import annotations

import shlex
from collections.abc import Collection

CARD = "Which card, like RTX 4070 or M3 Max 64GB? (none: this processor alone; Enter: leave) "
WHAT = "What would you like to run: a model's name or file, or chat, code, image, video, edit, vision? (Enter: leave) "


def guided(commands: Collection[str]) -> list[str]:
    """The arguments of the command that the answers mean; none where somebody only presses Enter."""
    machine = [] if _card_here() else _asked(CARD)
    if machine is None:
        return []
    what = _asked(WHAT)
    return [] if what is None else command(" ".join(what), " ".join(machine), commands)


def command(what: str, card: str = "", commands: Collection[str] = ()) -> list[str]:
    """The arguments for what was typed: a purpose lists what runs, one of ``commands`` with its own words is taken
    as it stands, all else is checked."""
    from fitcheck.verdict.purposes import purposes

    machine = ["--gpu", card] if card else []
    words = _split(what)
    if words[0] == "fitcheck":
        return words[1:]
    if words[0] in commands and len(words) > 1:
        return words
    if what.lower() in {one.name for one in purposes()}:
        return ["runs", "--for", what.lower(), *machine]
    return ["check", what, *machine]


def _card_here() -> bool:
    from fitcheck.errors import CardError
    from fitcheck.hardware.asked import asked_machine

    try:
        return bool(asked_machine().gpus)
    except CardError:
        return False


def _asked(question: str) -> list[str] | None:
    """The words of an answer; ``None`` for none, at the end of the input too."""
    try:
        return input(question).split() or None
    except EOFError:
        print()
        return None


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text) or [text]
    except ValueError:  # a quote that is never closed
        return text.split()
