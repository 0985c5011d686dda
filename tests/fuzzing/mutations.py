"""Input that somebody damaged on purpose: bytes, JSON and GGUF headers that are nearly sound."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any

INTEGERS = [0, 1, 2, 7, 31, 127, 255, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 53,
            1 << 62, 1 << 63, (1 << 64) - 1]  # fmt: skip
VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 0.5, 1.5, 64, 4096, 10**6, 2**31, 2**53, 2**63, 10**30, 10**400),
    *(1e308, -1e-300, float("nan"), float("inf"), "", "x", "12", "nan", "1e999", "x" * 5000, "\u202e\x1b[31m"),
    *("\ud800", "\x00", "é"),
    *("constructor", "__proto__", "../../etc/passwd", "/dev/zero", "con", "int8", "float16", "bfloat16", "fp8"),
    *([], {}, [[]], [0], [1, 2, 3], [None] * 9, {"a": {"b": []}}, ["x"] * 300, [[1] * 9] * 9, {"x" * 300: 1}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def damaged_json(chance: random.Random, value: Any, extra: Sequence[Any] = ()) -> bytes:
    """``value`` with one to four places replaced, left out, swapped or doubled, as text that may be no JSON."""
    document = json.loads(json.dumps(value))
    for _ in range(chance.randint(1, 4)):
        ways = list(places(document))
        if not ways:
            break
        *above, last = chance.choice(ways)
        at = document
        for key in above:
            at = at[key]
        move = chance.random()
        if move < 0.15:
            del at[last]
        elif move < 0.25:
            at[last] = [copy.deepcopy(at[last])] * chance.choice([0, 1, 2, 300])
        elif move < 0.35 and isinstance(at[last], int | float) and not isinstance(at[last], bool):
            at[last] = at[last] * chance.choice([-1, 2, 1000, 10**9, 0.5]) + chance.choice([0, 1, 0.5])
        elif move < 0.45 and isinstance(at, dict):
            at[str(chance.choice(VALUES))[:99]] = at[last]
        else:
            at[last] = copy.deepcopy(chance.choice([*VALUES, *extra]))
    text = json.dumps(document)
    if chance.random() < 0.05:
        text = text.replace(": ", f": {'[' * 3000}", 1)
    if chance.random() < 0.05:
        text = text.replace("1", "9" * 5000, 1)
    raw = text.encode("utf-8", "surrogatepass")
    return damaged(chance, [raw]) if chance.random() < 0.1 else raw


def damaged(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` with bytes flipped, overwritten, cut, doubled, or joined to a part of another."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        move = chance.randrange(7)
        if move == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif move == 1:
            data[at : at + 8] = struct.pack("<Q", chance.choice(INTEGERS))
        elif move == 2:
            data[at : at + 4] = struct.pack("<I", chance.choice(INTEGERS) & 0xFFFFFFFF)
        elif move == 3:
            del data[at : at + chance.choice([1, 4, 8, 100])]
        elif move == 4:
            data[at:at] = data[at : at + chance.choice([1, 8, 64, 512])]
        elif move == 5:
            other = chance.choice(seeds)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            del data[at:]
        if not data:
            break
    return bytes(data)


def damaged_text(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` with words replaced or lines moved; now and then as ``damaged`` does."""
    if chance.random() < 0.3:
        return damaged(chance, seeds)
    lines = chance.choice(seeds).decode("utf-8", "replace").splitlines(keepends=True)
    for _ in range(chance.randint(1, 4)):
        if not lines:
            break
        at = chance.randrange(len(lines))
        words = lines[at].replace(",", " , ").split(" ")
        words[chance.randrange(len(words))] = str(chance.choice(VALUES))[:6000]
        lines[at] = "".join(words) if "," in words else " ".join(words)
        if chance.random() < 0.2:
            lines[at:at] = lines[:9] * chance.choice([1, 50])
        if chance.random() < 0.1:
            del lines[at]
    return "".join(lines).encode("utf-8", "surrogatepass")
