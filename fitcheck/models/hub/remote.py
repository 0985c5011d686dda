"""A remote file as a source of header bytes: whole blocks, fetched once, kept on disk between runs."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import NetworkError
from fitcheck.models.hub.cache import DiskCache
from fitcheck.models.hub.transport import Transport
from fitcheck.models.source import HEADER_LIMIT
from fitcheck.units import KIB, MIB

BLOCK = 64 * KIB
_IN_MEMORY = 4 * MIB
_MAX_PIECES = 32


@dataclass(frozen=True, slots=True)
class Address:
    """Where a remote file is. ``name`` is what messages call it; ``key`` names its contents in the cache.

    ``etag`` is known beforehand for files of a hub repository (its listing gives each file's hash) and None for a bare
    URL, whose server is asked whether the cached contents still hold.
    """

    name: str
    url: str
    key: tuple[str, ...]
    size: int | None = None
    etag: str | None = None


class RemoteFile:
    """A ByteSource over HTTP ranges. Blocks go to a temporary file, so memory does not grow with what was fetched."""

    def __init__(self, transport: Transport, cache: DiskCache, address: Address) -> None:
        self._transport, self._cache, self._address = transport, cache, address
        self.name = address.name
        self.size = address.size
        self._blocks: set[int] = set()
        self._etag = address.etag
        self._fetched = False
        self._ranged = True
        self._store = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._recall()

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, problem: object, *_: object) -> None:
        """Keeps what was fetched for the next run, unless it was of no use."""
        if problem is None and self._fetched and self._etag is not None:
            self._remember()
        self._store.close()

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, fewer only where the file ends. Raises InputError."""
        first, last = offset // BLOCK, -(-(offset + length) // BLOCK)
        while missing := [number for number in range(first, last) if self._lacks(number)]:
            run = 1
            while run < len(missing) and missing[run] == missing[0] + run:
                run += 1
            self._fetch(missing[0], run)
        self._store.seek(offset)
        end = offset + length if self.size is None else min(offset + length, self.size)
        return self._store.read(max(0, end - offset))

    def _lacks(self, number: int) -> bool:
        return number not in self._blocks and (self.size is None or number * BLOCK < self.size)

    def _fetch(self, first: int, count: int) -> None:
        """Gets blocks ``first`` to ``first + count``, in several pieces when the server sends less than asked."""
        if self._transport.settings.offline:
            raise NetworkError(f"{self.name}: it is not in the cache; run this once without --offline.")
        start, end = first * BLOCK, (first + count) * BLOCK
        if not self._ranged:  # the server always starts over: ask for twice as much, so that it starts over seldom
            end = min(max(end, 2 * BLOCK * len(self._blocks)), HEADER_LIMIT + BLOCK)
        at = start
        for _ in range(_MAX_PIECES):
            end = end if self.size is None else min(end, self.size)
            if at >= end:
                break
            part = self._transport.get_range(self._address.url, at, end - at, self.name)
            self._learn(part.size, part.etag)
            self._ranged = part.ranged
            if part.start + len(part.data) <= at:
                if self.size is None and (part.ranged or not part.data):
                    self.size = at  # the server does not tell the size and has no more to give
                    break
                raise NetworkError(
                    f"{self.name}: the server stops sending at byte {at:,}; try later or another address."
                )
            self._store.seek(part.start)
            self._store.write(part.data)
            at = part.start + len(part.data)
            if not part.ranged:
                first = 0
        else:
            raise NetworkError(f"{self.name}: the server sends the file in too small pieces; try another address.")
        self._fetched = True
        whole = at if at == self.size else at - at % BLOCK
        self._blocks.update(range(first, -(-whole // BLOCK)))

    def _learn(self, size: int | None, etag: str | None) -> None:
        if size is not None and self.size is not None and size != self.size:
            raise NetworkError(
                f"{self.name}: the server says {size:,} bytes where {self.size:,} were announced; try again later."
            )
        self.size = self.size if size is None else size
        if self._address.etag is None:
            self._etag = etag

    def _recall(self) -> None:
        """Takes over the blocks of an earlier run, when they are of the same contents."""
        saved = self._cache.load(self._address.key)
        if saved is None:
            return
        try:
            line, _, data = saved.partition(b"\n")
            index: dict[str, Any] = json.loads(line)
            blocks, size, etag = index["blocks"], index["size"], index["etag"]
            lengths = [min(BLOCK, size - number * BLOCK) for number in blocks]
            if min(lengths) <= 0 or sum(lengths) != len(data) or self.size not in (None, size):
                return
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if self._address.etag not in (None, etag) or not self._still_holds(etag):
            return
        self.size, self._etag = size, etag
        at = 0
        for number, length in zip(blocks, lengths, strict=True):
            self._store.seek(number * BLOCK)
            self._store.write(data[at : at + length])
            self._blocks.add(number)
            at += length

    def _still_holds(self, etag: str) -> bool:
        if self._address.etag is not None or self._transport.settings.offline:
            return True
        return self._transport.get_range(self._address.url, 0, 1, self.name, etag=etag).unchanged

    def _remember(self) -> None:
        blocks = sorted(self._blocks)
        if self.size is None or not blocks:
            return
        pieces = []
        for number in blocks:
            self._store.seek(number * BLOCK)
            pieces.append(self._store.read(min(BLOCK, self.size - number * BLOCK)))
        index = json.dumps({"blocks": blocks, "size": self.size, "etag": self._etag})
        self._cache.store(self._address.key, index.encode() + b"\n" + b"".join(pieces))
