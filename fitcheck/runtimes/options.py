"""How a runtime declares its options: once, as fields of a frozen dataclass that commands, API and records read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, fields
from functools import cache
from typing import Any, TypeVar

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.runtimes.base import Wanted

T = TypeVar("T")
BARE = "usual"  # what an option that was named without a value stands for


@dataclass(frozen=True, slots=True)
class Option:
    """One option as people type it. ``parse`` turns what was typed into the value; ``type`` is what a command line
    takes; ``many`` that it may be repeated, ``bare`` that it may be named without a value, which then is ``BARE``.
    ``role`` says that it names a file that goes beside the model, and as what: whoever asks the runtime reads it
    before, unless ``told`` says of the value that it names none. ``also`` are other flags by which the program itself
    knows it."""

    help: str
    type: type = str
    parse: Callable[[Any], Any] | None = None
    many: bool = False
    short: str | None = None
    role: str | None = None
    bare: bool = False
    also: tuple[str, ...] = ()
    told: Callable[[str], bool] | None = None

    def read(self, value: Any) -> Any:
        """The value of what was typed or handed in; typed values of the API pass as they are."""
        if self.parse is None or not _is_text(value):
            return tuple(value) if isinstance(value, list) else value
        return self.parse(value)

    def file(self, value: Any) -> str | None:
        """The file that the value names; ``None`` where it names none."""
        if self.role is None or (self.told is not None and self.told(str(value))):
            return None
        return str(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)
    )


def option(
    default: Any,
    help: str,
    *,
    type: type = str,
    parse: Callable[[Any], Any] | None = None,
    many: bool = False,
    short: str | None = None,
    role: str | None = None,
    bare: bool = False,
    also: tuple[str, ...] = (),
    told: Callable[[str], bool] | None = None,
) -> Any:
    """A field of an options dataclass. ``help`` ends with the default where it is not ``None``."""
    return field(default=default, metadata={"option": Option(help, type, parse, many, short, role, bare, also, told)})


def declared(options: type) -> Mapping[str, Option]:
    """The options of a dataclass by field name, in order."""
    return _declared(options)


@cache
def _declared(options: type) -> Mapping[str, Option]:
    return {one.name: one.metadata["option"] for one in fields(options)}


def usual(options: type, name: str) -> Any:
    """The default of an option; ``None`` where there is no such option."""
    return next((one.default for one in fields(options) if one.name == name), None)


def flag(name: str) -> str:
    """``"n_cpu_moe"`` → ``"--n-cpu-moe"``."""
    return f"--{name.replace('_', '-')}"


def read(options: type[T], wanted: Wanted) -> T:
    """The options that were given as a value of their dataclass, the rest by default. Raises InputError."""
    known = declared(options)
    return options(**{name: _value(name, known[name], value) for name, value in wanted.options if name in known})


def _value(name: str, one: Option, value: Any) -> Any:
    """The value of an option; what is wrong with it is said with its flag."""
    try:
        return one.read(value)
    except OptionError as problem:
        text = str(problem)
        raise OptionError(text if text.startswith("--") else f"{flag(name)}: {text}") from None


def refuse_foreign(wanted: Wanted, in_play: Sequence[Any], others: Iterable[Any], what: str) -> None:
    """Raises OptionError for an option that no runtime in play has: it would change nothing, and saying so is better
    than an answer beside it. ``others`` are the remaining runtimes, named where they have it."""
    known = {name for runtime in in_play for name in declared(runtime.options)}
    for name, _ in wanted.options:
        if name in known:
            continue
        owners = [runtime.name for runtime in others if name in declared(runtime.options)]
        whose = f"is an option of {_listed(owners)}" if owners else "is not an option"
        by = " or ".join(runtime.name for runtime in in_play) or "nothing here"
        raise OptionError(f"{flag(name)} {whose}; {what} runs with {by}.")


def _listed(words: Sequence[str]) -> str:
    """``"a, b and c"``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def names(text: str | Sequence[str]) -> tuple[str, ...]:
    """Comma-separated names in lower case."""
    parts = text.split(",") if isinstance(text, str) else text
    return tuple(part.strip().lower() for part in parts if part.strip())


_TOKENS = re.compile(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*([km]?)\s*", re.IGNORECASE)
_TIMES = {"": 1, "k": 1 << 10, "m": 1 << 20}


def tokens(text: str) -> int:
    """A count of tokens as people write it: ``"32768"``, ``"32k"``, ``"1M"``. Raises OptionError."""
    found = _TOKENS.fullmatch(text)
    count = None if found is None else float(found[1]) * _TIMES[found[2].lower()]
    if count is None or not count.is_integer():
        raise OptionError(f"{text[:40]!r} is not a number of tokens; write it like 32768 or 32k.")
    return int(count)


LONGEST = -1  # a context as long as fits


def context_tokens(text: str) -> int:
    """Tokens of context, or ``LONGEST`` for "max"."""
    return LONGEST if text.strip().lower() in ("max", "longest") else tokens(text)


def lower(text: str) -> str:
    """A name without capitals of its own: "ComfyUI" and "PR243" are what people write."""
    return text.lower()


def between(name: str, value: int | None, least: int, most: int) -> None:
    """Raises OptionError when a number that was given is out of range."""
    if value is not None and not least <= value <= most:
        raise OptionError(f"{flag(name)}: {value} is out of range; give {least} to {most}.")
