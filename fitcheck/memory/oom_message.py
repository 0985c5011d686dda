"""Messages of programs that ran out of memory: what was full, in bytes, and what to try next.

Pure. The forms stand in ``data/out_of_memory.json``; a text is searched form by form in time that grows with its
length alone, and its length is bounded by whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError

MAX_CHARACTERS = 1 << 20
# how far behind its first words the numbers of a message stand, terminal escapes and line numbers included
_WINDOW, _BEFORE = 4000, 400
_AMOUNT = r"(\d{1,15}(?:\.\d{0,9})? ?(?:bytes|[KMGT]i?B))"
_POWERS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_PROCESS = re.compile(rf"Process \d{{1,10}} has {_AMOUNT} memory in use")
_ESCAPES = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
_MOST_PROCESSES = 64
# what PyTorch prints for "not known": the largest count of 64 bits, 17179869184.00 GiB once it is rounded
_NOT_KNOWN = 1 << 63


@dataclass(frozen=True, slots=True)
class OomMessage:
    """One message, read. ``cause`` is a key of the data file's causes; ``amounts`` are bytes by name: ``tried``,
    ``total`` and ``free`` of the card, ``own`` (held by this process) and ``processes`` (by those that are listed),
    ``allocated``, ``unallocated`` and ``reserved`` of PyTorch's, ``allowed``, ``used``. ``device`` is its number.
    """

    form: str
    program: str
    cause: str
    amounts: Mapping[str, int] = field(default_factory=dict)
    device: int | None = None
    words: str = ""

    @property
    def what(self) -> str:
        """What was full, as a clause."""
        found: str = _data()["causes"][self.cause]["what"]
        return found

    @property
    def step(self) -> str:
        """What to try next, whatever the model."""
        found: str = _data()["causes"][self.cause]["step"]
        return found

    @property
    def on_host(self) -> bool:
        """Whether system memory was full and not a card's."""
        return self.cause in ("host", "commit", "pinned")

    @property
    def claims_share(self) -> bool:
        """Whether what was asked for is a share of the card that a server takes whatever the model."""
        return self.cause == "claimed"

    @property
    def lacks_cache(self) -> bool:
        """Whether a server's share of the card left too little for keys and values: of that share no estimate of
        another program tells."""
        return self.cause in ("cache", "no cache")

    @property
    def short(self) -> int | None:
        """Bytes by which the last allocation missed; None where the message does not tell."""
        tried, free = self.amounts.get("tried"), self.amounts.get("free")
        if tried is None or self.claims_share or self.cause in ("not the amount", "limit", "fragmentation"):
            return None
        return max(0, tried - free) if free is not None else tried


def read_message(text: str) -> OomMessage:
    """The message in ``text``, the last one where a form stands there several times. Raises OptionError with the reason
    where there is none."""
    if len(text) > MAX_CHARACTERS:
        raise OptionError(f"--oom: more than {MAX_CHARACTERS} characters; give the lines around the error alone.")
    if not text.strip():
        raise OptionError("--oom: nothing was handed in; paste the error message, or name a file that holds it.")
    text = _ESCAPES.sub("", text)
    for form in _data()["forms"]:
        found = _last(form["signature"], text)
        if found is None or ("also" in form and not _compiled(form["also"]).search(text)):
            continue
        if form["where"] == "unknown" and _other_trouble(text):
            continue
        return _read(form, *_windows(text, found))
    trouble = _other_trouble(text)
    raise OptionError(
        f"--oom: {trouble}."
        if trouble
        else "--oom: no message of a program that ran out of memory is in this text; paste the lines with the error "
        "itself, like 'CUDA out of memory. Tried to allocate …'."
    )


def _last(signature: str, text: str) -> re.Match[str] | None:
    found = None
    for found in _compiled(signature).finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return found


def _windows(text: str, found: re.Match[str]) -> tuple[str, str]:
    """A little of what stands before the message, and the message; each on one line: they are wrapped and numbered."""
    before, after = text[max(0, found.start() - _BEFORE) : found.start()], text[found.start() : found.start() + _WINDOW]
    return " ".join(before.split()), " ".join(after.split())


def _other_trouble(text: str) -> str | None:
    """Errors that people take for want of memory; None where it is none of them."""
    return next((one["words"] for one in _data()["not_memory"] if _compiled(one["signature"]).search(text)), None)


def _read(form: Mapping[str, Any], before: str, message: str) -> OomMessage:
    amounts: dict[str, int] = {}
    device = None
    for name, patterns in form["fields"].items():
        value = _field(patterns, before, message)
        if value is None:
            continue
        if name == "device":
            device = int(value)
        elif name == "used_kb":
            amounts["used"] = int(value) << 10
        elif (count := _bytes(value, form.get("bare", "bytes"))) < _NOT_KNOWN:
            amounts[name] = count
    listed = [_bytes(one) for one in _PROCESS.findall(message)[:_MOST_PROCESSES]]
    if listed:
        amounts["processes"] = sum(listed)
    cause = _cause(form["where"], amounts)
    return OomMessage(form["id"], form["program"], cause, amounts, device, form.get("words", ""))


def _field(patterns: list[str], before: str, message: str) -> str | None:
    """A number of the message: the first that is there, else the last before it."""
    for pattern in patterns:
        if (found := _compiled(pattern).search(message)) is not None:
            return found.group(1)
    for pattern in patterns:
        if earlier := _compiled(pattern).findall(before):
            return str(earlier[-1])
    return None


def _bytes(text: str, bare: str = "bytes") -> int:
    """``"1.65 GiB"`` -> bytes; GB is binary too, as the programs that print it compute it."""
    number, unit = text.rstrip("bytesKMGTiB "), text.lstrip("0123456789. ")
    return round(float(number) * 1024.0 ** _POWERS[(unit or bare)[0].lower()])


def _cause(where: str, amounts: Mapping[str, int]) -> str:
    """What was full, from the numbers of a card's message; other forms say it themselves."""
    if where != "card":
        return where
    if "allowed" in amounts:
        return "limit"
    tried, total, free = (amounts.get(name) for name in ("tried", "total", "free"))
    held, unused = amounts.get("allocated", 0), _unused(amounts)
    if total is None or tried is None:
        return "card full"
    if tried > total:
        return "one tensor"
    if held + unused > total:
        return "spilled"
    shares = _data()["shares"]
    if free is not None and free - tried > shares["spare"] * total:
        return "not the amount"
    if unused >= max(tried, shares["spare"] * total):
        return "fragmentation"
    return "others" if _held_by_others(amounts, total, free) > shares["others"] * total else "card full"


def _unused(amounts: Mapping[str, int]) -> int:
    """Bytes that PyTorch has reserved and not handed out."""
    reserved = amounts.get("reserved", 0) - amounts.get("allocated", 0)
    return amounts.get("unallocated", max(0, reserved))


def _held_by_others(amounts: Mapping[str, int], total: int, free: int | None) -> int:
    """Bytes of the card that other processes hold; 0 where the message does not tell them apart."""
    if "own" in amounts and free is not None:
        return max(0, total - free - amounts["own"])
    return 0


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("{A}", _AMOUNT))


@cache
def _data() -> dict[str, Any]:
    return load("memory", "out_of_memory")
