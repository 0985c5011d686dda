"""GGUF headers over a network: past long token lists without fetching them.

A header is mostly the tokenizer's lists, and the tensor table stands behind them. Their strings are stored one after
the other with a length before each, so the end of a list is not known beforehand; but it need not be walked to: a
leap into the list, far enough from its estimated end, finds a string boundary again (a length is the only place where
six zero bytes stand together), and the key that follows the list marks its end. Files of one repository share their
lists, so a length found once is tried first.

Nothing of this is believed by itself: the whole header must parse, with the stated number of entries and tensors, and
the table must fill the file to the last byte. Otherwise the header is read again in full.
"""

from __future__ import annotations

import contextlib
import re
import struct

from fitcheck.models.gguf import GgufHeader, parse_gguf
from fitcheck.models.source import ByteSource, FormatError, Window
from fitcheck.units import KIB

_U64 = struct.Struct("<Q")
_WORTH = 512 * KIB
_SAMPLE = 4096
_LEAP = 0.8
_LANDING = 8 * KIB
_CHAIN = 16
_LONGEST = 4 * KIB
_KEY = re.compile(rb"(tokenizer|general|quantize|split)\.[A-Za-z0-9_.\-]{1,100}")
_KNOWN_KINDS = range(13)


class KnownLists:
    """Bytes that a list of a key and count took in a sibling file. Shared by the readers of a repository's files."""

    def __init__(self) -> None:
        self._bytes: dict[tuple[str, int], int] = {}

    def get(self, key: str, count: int) -> int | None:
        """Bytes of the list of that key and count; ``None`` while no sibling has told."""
        return self._bytes.get((key, count))

    def learn(self, lengths: dict[tuple[str, int], int]) -> None:
        """Keeps bytes by (key, count), in place of what was known of them."""
        self._bytes.update(lengths)


def parse_remote_gguf(source: ByteSource, known: KnownLists) -> GgufHeader:
    """The header of one file, with as little of it fetched as can be. Raises InputError like ``parse_gguf``."""
    leaper = _Leaper(known)
    with contextlib.suppress(FormatError):
        header = parse_gguf(source, leaper.skip, exact=True)
        known.learn(leaper.lengths)
        return header
    walker = _Walker()
    header = parse_gguf(source, walker.skip)
    known.learn(walker.lengths)
    return header


class _Walker:
    """Reads every length, and notes how long each list was."""

    def __init__(self) -> None:
        self.lengths: dict[tuple[str, int], int] = {}

    def skip(self, window: Window, key: str, count: int) -> None:
        start = window.position
        window.skip_strings(count)
        self.lengths[key, count] = window.position - start


class _Leaper:
    """Skips a list by the length it had in a sibling, or by leaps."""

    def __init__(self, known: KnownLists) -> None:
        self._known = known
        self.lengths: dict[tuple[str, int], int] = {}

    def skip(self, window: Window, key: str, count: int) -> None:
        start = window.position
        length = self._known.get(key, count)
        if length is not None:
            window.skip(length)
        else:
            _leap(window, count)
        self.lengths[key, count] = window.position - start


def _leap(window: Window, count: int) -> None:
    """Steps over ``count`` strings that are followed by another metadata entry. Raises FormatError when it is lost."""
    sample = min(_SAMPLE, count)
    average = _mean_length(window, sample)
    left = float(count - sample)
    if _LEAP * left * average < _WORTH:
        window.skip_strings(count - sample)
        return
    while (leap := int(_LEAP * left * average)) >= _WORTH:
        window.skip(leap)
        window.skip(_boundary(window))
        before, average = average, _mean_length(window, sample)
        left -= 2 * leap / (before + average) + sample
    _walk_to_key(window)


def _mean_length(window: Window, sample: int) -> float:
    """Bytes a string, with its length field, over the next ``sample`` strings, which are stepped over."""
    start = window.position
    window.skip_strings(sample)
    return (window.position - start) / sample


def _boundary(window: Window) -> int:
    """Bytes to the next string of a list, from anywhere inside it."""
    landing = window.peek(_LANDING)
    for start in range(_LANDING // 2):
        at = start
        for _ in range(_CHAIN):
            if at + 8 > _LANDING:
                break
            length = _U64.unpack_from(landing, at)[0]
            if not 0 < length <= _LONGEST:
                break
            at += 8 + length
        else:
            return start
    raise FormatError("no list of strings goes on here")


def _walk_to_key(window: Window) -> None:
    """Walks string by string until one of them is the key of a metadata entry, and stops in front of it."""
    while True:
        length = _U64.unpack(window.peek(8))[0]
        if length > _LONGEST:
            raise FormatError("the list of strings ends without a key behind it")
        entry = window.peek(8 + length + 4)
        if _KEY.fullmatch(entry, 8, 8 + length) and int.from_bytes(entry[-4:], "little") in _KNOWN_KINDS:
            return
        window.skip(8 + length)
