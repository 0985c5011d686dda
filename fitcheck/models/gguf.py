"""Reader of GGUF headers: metadata, tensor table and shards, from any source of bytes.

Written from the format's specification (ggml-org/ggml docs/gguf.md): versions 2 and 3, little-endian. Every file is
taken as hostile: counts and lengths are checked before anything is allocated, token lists are measured and not kept,
and whatever is wrong becomes one InputError. No tensor data is ever read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import FileError
from fitcheck.models.gguf_values import GgufArray, GgufLongText, GgufScalar, GgufValue
from fitcheck.models.quant import BY_GGML_ID
from fitcheck.models.roles import classify
from fitcheck.models.source import ByteSource, FormatError, LocalFile, Window
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.units import KIB, MIB

MAGIC = b"GGUF"
_MAX_PAIRS = 1 << 16
_MAX_TENSORS = 1 << 16
_MAX_KEY = (1 << 16) - 1
_MAX_NAME = 1024
_DAMAGED = "the file is damaged, download it again"
_HOSTILE = "the file is damaged or hostile, get it from its publisher"
# ggml itself has 4; files of video denoisers carry the five of their patch embedding (ComfyUI-GGUF, fix_5d_tensors.py)
_MAX_DIMENSIONS = 5
_KEPT_TEXT = 64 * KIB
_KEPT_LENGTH = 4096
_KEPT_VALUES = 1 << 16
_U32 = struct.Struct("<I")
_COUNTS = struct.Struct("<QQ")
# value type number -> name and layout; 8 is a string and 9 an array
_SCALARS = {
    0: ("u8", struct.Struct("<B")),
    1: ("i8", struct.Struct("<b")),
    2: ("u16", struct.Struct("<H")),
    3: ("i16", struct.Struct("<h")),
    4: ("u32", struct.Struct("<I")),
    5: ("i32", struct.Struct("<i")),
    6: ("f32", struct.Struct("<f")),
    7: ("bool", struct.Struct("<B")),
    10: ("u64", struct.Struct("<Q")),
    11: ("i64", struct.Struct("<q")),
    12: ("f64", struct.Struct("<d")),
}
_STRING, _ARRAY = 8, 9
_OLD = ("this is a GGML file from before GGUF", "convert it again with a current converter")
_PAGE = ("this is a web page and not the file", "download the file itself")
_STARTS = (
    (b"PK\x03\x04", ("this is a zip archive", "unpack it first")),
    (b"\x1f\x8b", ("this is gzip-compressed", "decompress it first")),
    (b"vers", ("this is a Git LFS pointer and not the file", "fetch it with git lfs pull")),
    (b"tjgg", _OLD),
    (b"lmgg", _OLD),
    (b"<!DO", _PAGE),
    (b"<!do", _PAGE),
    (b"<htm", _PAGE),
)


@dataclass(frozen=True, slots=True)
class GgufShard:
    """One file of a model. ``data_offset`` is where its tensor data starts, sizes in bytes."""

    name: str
    tensors: int
    data_offset: int
    file_bytes: int | None


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF model says about itself, all its shards together.

    ``metadata`` and ``alignment`` are those of the first shard. ``file_bytes`` sums the files, None while a remote
    file's size is unknown; ``data_offset`` is that of the first shard.
    """

    name: str
    version: int
    metadata: Mapping[str, GgufValue]
    tensors: TensorTable
    alignment: int
    data_offset: int
    file_bytes: int | None
    shards: tuple[GgufShard, ...]

    @property
    def architecture(self) -> str | None:
        """``general.architecture``: "llama", "qwen3moe", ... None when the file does not say."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else None


SkipStrings = Callable[[Window, str, int], None]


def walk_strings(window: Window, _key: str, count: int) -> None:
    """Steps over a list of strings by reading each one's length."""
    window.skip_strings(count)


class _Parser:
    """One pass over one file's header. ``skip_strings`` gets past the lists that are only counted.

    With ``exact`` the data must fill the file to its last byte, in the order of the table, as every known writer
    leaves it: what a parse that took a shortcut has to prove.
    """

    def __init__(self, source: ByteSource, skip_strings: SkipStrings, exact: bool) -> None:
        self._source = source
        self._skip_strings, self._exact = skip_strings, exact
        self._window = Window(source)
        self._values_left = _KEPT_VALUES

    def fail(self, problem: str, advice: str = _DAMAGED) -> NoReturn:
        raise FormatError(f"{self._source.name}: {problem}; {advice}.")

    def parse(self) -> GgufHeader:
        version = self._preamble()
        tensor_count, pair_count = _COUNTS.unpack(self._window.take(_COUNTS.size))
        if tensor_count > _MAX_TENSORS:
            self.fail(f"the header claims {tensor_count:,} tensors, more than any model has", _HOSTILE)
        if pair_count > _MAX_PAIRS:
            self.fail(f"the header claims {pair_count:,} metadata entries, more than any model has", _HOSTILE)
        metadata = self._pairs(pair_count)
        alignment = self._alignment(metadata)
        tensors, offsets = self._tensors(tensor_count)
        data_offset = -(-self._window.position // alignment) * alignment
        self._check_layout(tensors, offsets, alignment, data_offset)
        name, size = self._source.name, self._source.size
        shard = GgufShard(name, len(tensors), data_offset, size)
        return GgufHeader(name, version, metadata, classify(tensors), alignment, data_offset, size, (shard,))

    def _preamble(self) -> int:
        magic = self._window.take(4) if self._source.size is None or self._source.size >= 4 else b""
        if magic != MAGIC:
            unknown = ("this is not a GGUF file, it does not start with the letters GGUF", "check what was downloaded")
            self.fail(*next((told for start, told in _STARTS if magic.startswith(start)), unknown))
        version: int = _U32.unpack(self._window.take(4))[0]
        if version & 0xFFFF == 0 and version:
            self.fail("this is a big-endian GGUF file, which is not supported", "use this model's little-endian file")
        if version == 1:
            self.fail(
                "this is GGUF version 1, which current runtimes refuse", "convert it again with a current converter"
            )
        if version not in (2, 3):
            self.fail(
                f"this is GGUF version {version}, and versions 2 and 3 are known", "the file is damaged or too new"
            )
        return version

    def _pairs(self, count: int) -> dict[str, GgufValue]:
        metadata: dict[str, GgufValue] = {}
        for _ in range(count):
            key = self._name("metadata key", _MAX_KEY)
            if key in metadata:
                self.fail(f"the metadata key {key!r} stands there twice")
            (kind,) = _U32.unpack(self._window.take(4))
            metadata[key] = self._array(key) if kind == _ARRAY else self._value(key, kind)
        return metadata

    def _name(self, what: str, longest: int) -> str:
        length = self._window.u64()
        if not 0 < length <= longest:
            self.fail(f"a {what} claims {length:,} bytes")
        try:
            name = self._window.take(length).decode()
        except UnicodeDecodeError:
            name = ""
        # names are printed, and an escape sequence must not reach a terminal
        if not name or not name.isprintable():
            self.fail(f"a {what} is not readable text")
        return name

    def _text(self) -> str | GgufLongText:
        length = self._window.u64()
        if length > _KEPT_TEXT:
            self._window.skip(length)
            return GgufLongText(length)
        return self._window.take(length).decode(errors="replace")

    def _value(self, key: str, kind: int) -> GgufScalar | GgufLongText:
        if kind == _STRING:
            return self._text()
        name, layout = self._scalar(key, kind)
        (value,) = self._window.unpack(layout)
        return self._truth(key, value) if name == "bool" else value

    def _scalar(self, key: str, kind: int) -> tuple[str, struct.Struct]:
        if kind not in _SCALARS:
            self.fail(f"the metadata entry {key!r} has the unknown value type {kind}")
        return _SCALARS[kind]

    def _truth(self, key: str, value: object) -> bool:
        if value not in (0, 1):
            self.fail(f"the metadata entry {key!r} holds {value} as a truth value")
        return bool(value)

    def _array(self, key: str) -> GgufArray:
        (kind,) = _U32.unpack(self._window.take(4))
        length = self._window.u64()
        keep = length <= min(_KEPT_LENGTH, self._values_left)
        self._values_left -= length if keep else 0
        if kind == _ARRAY:
            self.fail(f"the metadata entry {key!r} is an array of arrays, which no runtime reads", _HOSTILE)
        if kind == _STRING:
            if not keep:
                self._skip_strings(self._window, key, length)
                return GgufArray("string", length, None)
            texts = [self._text() for _ in range(length)]
            whole = tuple(text for text in texts if isinstance(text, str))
            return GgufArray("string", length, whole if len(whole) == length else None)
        name, layout = self._scalar(key, kind)
        if not keep:
            self._window.skip(length * layout.size)
            return GgufArray(name, length, None)
        values = self._window.unpack(struct.Struct(f"<{length}{layout.format[1:]}"))
        return GgufArray(name, length, tuple(self._truth(key, v) for v in values) if name == "bool" else values)

    def _alignment(self, metadata: Mapping[str, GgufValue]) -> int:
        value = metadata.get("general.alignment", 32)
        if not isinstance(value, int) or not 1 <= value <= MIB or value & (value - 1):
            self.fail(f"general.alignment is {value!r} and not a power of two")
        return value

    def _tensors(self, count: int) -> tuple[list[Tensor], list[int]]:
        tensors: list[Tensor] = []
        offsets: list[int] = []
        names: set[str] = set()
        unknown: set[int] = set()
        for _ in range(count):
            name = self._name("tensor name", _MAX_NAME)
            if name in names:
                self.fail(f"the tensor {name!r} stands there twice")
            names.add(name)
            (dimensions,) = _U32.unpack(self._window.take(4))
            if dimensions > _MAX_DIMENSIONS:
                most = f"and {_MAX_DIMENSIONS} is the most"
                self.fail(f"the tensor {name!r} claims {dimensions:,} dimensions, {most}", _HOSTILE)
            *shape, kind, offset = struct.unpack(f"<{dimensions}QIQ", self._window.take(8 * dimensions + 12))
            if kind in BY_GGML_ID:
                tensors.append(self._tensor(name, tuple(reversed(shape)), kind))
                offsets.append(offset)
            else:
                unknown.add(kind)
        if unknown:
            listed = ", ".join(map(str, sorted(unknown)[:8]))
            self.fail(
                f"some tensors have the GGML type number {listed}, whose size is not known here",
                "a fork or a newer release made this file",
            )
        return tensors, offsets

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int) -> Tensor:
        quant = BY_GGML_ID[kind]
        tensor = Tensor(name, shape, quant.name)
        if any(side >= 1 << 48 for side in shape) or tensor.elements >= 1 << 60:
            self.fail(f"the tensor {name!r} claims {tensor.elements:,} elements", _HOSTILE)
        if quant.block > 1 and (not shape or shape[-1] % quant.block):
            self.fail(
                f"the tensor {name!r} of shape {shape} is no whole number of {quant.name} blocks of {quant.block}"
            )
        return tensor

    def _check_layout(
        self, tensors: Sequence[Tensor], offsets: Sequence[int], alignment: int, data_offset: int
    ) -> None:
        """Offsets are aligned, the tensors do not overlap, and the file is long enough for the last one."""
        end, before = 0, ""
        for offset, tensor in sorted(zip(offsets, tensors, strict=True), key=lambda row: row[0]):
            if offset % alignment:
                self.fail(f"the tensor {tensor.name!r} starts at {offset:,}, which is not a multiple of {alignment}")
            if offset < end and tensor.elements:
                self.fail(f"the tensors {before!r} and {tensor.name!r} overlap", _HOSTILE)
            end, before = max(end, offset + tensor.nbytes), tensor.name
        size = self._source.size
        if size is not None and tensors and data_offset + end > size:
            self.fail(f"the tensors need {data_offset + end:,} bytes and the file has {size:,}", "download it again")
        if self._exact and (size is None or size - data_offset - end >= alignment or list(offsets) != sorted(offsets)):
            self.fail("the tensors do not fill the file")


def parse_gguf(source: ByteSource, skip_strings: SkipStrings = walk_strings, *, exact: bool = False) -> GgufHeader:
    """The header of one file, shards not joined. Raises FormatError for what is not a sound GGUF v2/v3 file.

    ``exact`` also refuses a file whose tensors do not fill it, in order, to the last byte.
    """
    return _Parser(source, skip_strings, exact).parse()


_SHARD_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_MAX_SHARDS = 1000


def shard_names(name: str) -> tuple[str, ...]:
    """The names of all shards of the set that ``name`` belongs to, in order; ``(name,)`` when it is not a shard.

    ``name`` may hold folders. Raises InputError for a set of more than 1,000 shards.
    """
    match = _SHARD_NAME.fullmatch(name)
    if match is None:
        return (name,)
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count <= _MAX_SHARDS:
        raise FileError(f"{name}: shard {match['number']} of {match['count']} cannot exist; check the file's name.")
    return tuple(f"{match['stem']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1))


def join_shards(headers: Sequence[GgufHeader]) -> GgufHeader:
    """One header from those of all shards in order. Raises InputError when they do not belong together."""
    first = headers[0]
    count = first.metadata.get("split.count", 0)
    if len(headers) == 1 and count in (0, 1):
        return first
    if count != len(headers):
        raise FileError(
            f"{first.name}: it says that the model has {count} shards, and {len(headers)} are named; "
            "keep the names -00001-of-0000N.gguf that the publisher gave."
        )
    names: set[str] = set()
    for number, header in enumerate(headers):
        if (header.metadata.get("split.no"), header.metadata.get("split.count")) != (number, count):
            raise FileError(f"{header.name}: its contents are not shard {number + 1} of {count}; download it again.")
        for tensor in header.tensors:
            if tensor.name in names:
                raise FileError(f"{header.name}: {tensor.name!r} is in an earlier shard too; download the set again.")
            names.add(tensor.name)
    total = first.metadata.get("split.tensors.count", len(names))
    if total != len(names):
        raise FileError(
            f"{first.name}: the shards hold {len(names)} tensors and should hold {total}; download the set again."
        )
    sizes = [header.file_bytes for header in headers if header.file_bytes is not None]
    return replace(
        first,
        tensors=classify(tensor for header in headers for tensor in header.tensors),
        file_bytes=sum(sizes) if len(sizes) == len(headers) else None,
        shards=tuple(shard for header in headers for shard in header.shards),
    )


def read_all_shards(name: str, read: Callable[[str], GgufHeader]) -> GgufHeader:
    """The joined header of the set that ``name`` belongs to; ``read`` gets the header of one shard by name."""
    return join_shards([read(shard) for shard in shard_names(name)])


def read_gguf(path: str | Path) -> GgufHeader:
    """The header of a local GGUF file with all its shards, whichever of them ``path`` names.

    Raises InputError: no such file, not GGUF, version 1 or big-endian, damaged, cut off, hostile, or a missing shard.
    """
    path = Path(path)

    def read_one(name: str) -> GgufHeader:
        with LocalFile(path.with_name(name), "a .gguf file") as source:
            return parse_gguf(source)

    return read_all_shards(path.name, read_one)
