"""Reader of safetensors headers: one file, a sharded checkpoint with its index, from any source of bytes.

The format (huggingface/safetensors README): 8 bytes with the header's length, a JSON object from tensor name to dtype,
shape and byte range, then the data without holes. Every file is taken as hostile; no tensor data is ever read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import FileError
from fitcheck.models.quant import SAFETENSORS_DTYPES, tensor_bytes
from fitcheck.models.roles import classify
from fitcheck.models.source import ByteSource, FormatError, LocalFile, Window
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.units import KIB, MIB

# The reference implementation stops at 100 MB; parsed, that would take a gigabyte. A tensor needs about 130 bytes.
HEADER_LIMIT = 32 * MIB
_MAX_TENSORS = 1 << 17
_MAX_NAME = 1024
_MAX_SHARDS = 1000
_READ_AHEAD = 128 * KIB
_DAMAGED = "the file is damaged, download it again"


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What a checkpoint holds, all its files together. ``metadata`` is that of the first file; sizes in bytes."""

    name: str
    metadata: Mapping[str, str]
    tensors: TensorTable
    file_bytes: int | None
    files: tuple[str, ...]


class _DuplicateKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def parse_json_object(raw: bytes, name: str) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN or absurd nesting. Raises InputError naming ``name``."""
    # brackets bound what the parser can allocate: nothing in these files nests more than a few a tensor
    if raw.count(b"[") + raw.count(b"{") > 4 * _MAX_TENSORS:
        raise FileError(f"{name}: it holds more entries than any model has; the file is damaged or hostile.")
    try:
        value = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except _DuplicateKeyError:
        raise FileError(f"{name}: the same key stands there twice; {_DAMAGED}.") from None
    except (ValueError, RecursionError):
        raise FileError(f"{name}: this is not readable JSON; {_DAMAGED}.") from None
    if not isinstance(value, dict):
        raise FileError(f"{name}: this is JSON but not an object; {_DAMAGED}.")
    return value


def parse_safetensors(source: ByteSource) -> SafetensorsHeader:
    """The header of one file. Raises InputError for anything that is not a sound safetensors file."""
    name, size = source.name, source.size
    window = Window(source, 8 + HEADER_LIMIT, _READ_AHEAD)
    length = window.u64()
    if length > HEADER_LIMIT or (size is not None and 8 + length > size):
        raise FormatError(
            f"{name}: its first 8 bytes claim a header of {length:,} bytes, which cannot be; "
            "this is not a safetensors file, or it is cut off."
        )
    raw = window.take(length)
    if not raw.startswith(b"{"):
        raise FileError(f"{name}: this is not a safetensors file (no JSON header); check what was downloaded.")
    entries = parse_json_object(raw, name)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FileError(f"{name}: its __metadata__ is not a table of texts; {_DAMAGED}.")
    if len(entries) > _MAX_TENSORS:
        raise FileError(f"{name}: it claims {len(entries):,} tensors; the file is damaged or hostile.")
    rows = [_tensor(name, key, entry) for key, entry in entries.items()]
    end = 0
    for tensor, begin, stop in sorted(rows, key=lambda row: row[1:]):
        if begin != end:
            raise FileError(f"{name}: the bytes of {tensor.name!r} overlap others or leave a hole; {_DAMAGED}.")
        end = stop
    if size is not None and 8 + length + end != size:
        raise FileError(f"{name}: its tensors need {8 + length + end:,} bytes and the file has {size:,}; {_DAMAGED}.")
    tensors = classify(tensor for tensor, _, _ in rows)
    return SafetensorsHeader(name, metadata, tensors, size, (name,))


def _tensor(file: str, name: str, entry: object) -> tuple[Tensor, int, int]:
    def fail(problem: str) -> NoReturn:
        raise FileError(f"{file}: the entry {name!r} {problem}; {_DAMAGED}.")

    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise FileError(f"{file}: a tensor's name is not readable text of at most 1,024 letters; {_DAMAGED}.")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        fail("does not have exactly dtype, shape and data_offsets")
    shape, offsets, dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not isinstance(dtype, str) or dtype not in SAFETENSORS_DTYPES:
        fail(f"has the unknown dtype {str(dtype)[:40]!r}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 60 for n in numbers):
            fail("has a shape or offsets that are not whole numbers")
    if len(offsets) != 2 or len(shape) > 32:
        fail("has a malformed shape or byte range")
    tensor = Tensor(name, tuple(shape), dtype)
    try:
        needed = tensor_bytes(tensor.shape, tensor.quant)
    except ValueError:
        fail(f"has a shape that {dtype} cannot pack")
    if offsets[1] - offsets[0] != needed:
        fail(f"needs {needed:,} bytes and is given {offsets[1] - offsets[0]:,}")
    return tensor, offsets[0], offsets[1]


def parse_index(raw: bytes, name: str) -> dict[str, str]:
    """``weight_map`` of a ``*.safetensors.index.json``: tensor name -> file beside the index.

    Raises InputError when it is damaged or names files outside its folder.
    """
    weight_map = parse_json_object(raw, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or len(weight_map) > 8 * _MAX_TENSORS:
        raise FileError(f"{name}: it has no usable weight_map; {_DAMAGED}.")
    for file in set(map(str, weight_map.values())):
        plain = PurePosixPath(file).name == file and file.isprintable() and "\\" not in file
        if not plain or not file.endswith(".safetensors"):
            raise FileError(f"{name}: it names {file[:80]!r}, which is not a safetensors file beside it; {_DAMAGED}.")
    if len(set(weight_map.values())) > _MAX_SHARDS:
        raise FileError(f"{name}: it names more than {_MAX_SHARDS:,} files; the file is damaged or hostile.")
    return {key: str(file) for key, file in weight_map.items()}


def join_files(name: str, headers: Mapping[str, SafetensorsHeader], index: Mapping[str, str]) -> SafetensorsHeader:
    """One header from those of the files that ``index`` names; what the index does not list is not loaded by anyone.

    Raises InputError when a file does not hold what the index says.
    """
    tensors = [t for file, header in headers.items() for t in header.tensors if index.get(t.name) == file]
    if len(tensors) != len(index):
        held = {tensor.name for tensor in tensors}
        missing = next(key for key in index if key not in held)
        raise FileError(
            f"{name}: {index[missing]} does not hold {missing[:120]!r} as the index says; download the set again."
        )
    sizes = [header.file_bytes for header in headers.values() if header.file_bytes is not None]
    return SafetensorsHeader(
        name,
        next(iter(headers.values())).metadata,
        classify(tensors),
        sum(sizes) if len(sizes) == len(headers) else None,
        tuple(headers),
    )


def read_sharded(
    name: str, raw_index: bytes, read: Callable[[list[str]], list[SafetensorsHeader]]
) -> SafetensorsHeader:
    """The joined header of a sharded checkpoint; ``read`` gets the headers of the named files, in order."""
    index = parse_index(raw_index, name)
    files = sorted(set(index.values()))
    return join_files(name, dict(zip(files, read(files), strict=True)), index)


def read_safetensors(path: str | Path) -> SafetensorsHeader:
    """The header of a local ``.safetensors`` file, or of a whole checkpoint by its ``.index.json``.

    Raises InputError: no such file, another format, damaged, cut off, hostile, or a missing shard.
    """
    path = Path(path)
    if path.name.endswith(".index.json"):
        with LocalFile(path, "a .safetensors file") as source:
            if source.size > HEADER_LIMIT:
                raise FileError(f"{path}: {source.size:,} bytes are too many for an index; the file is damaged.")
            raw = source.read(0, source.size)
        return read_sharded(str(path), raw, lambda files: [read_safetensors(path.with_name(file)) for file in files])
    with LocalFile(path, "a .safetensors file") as source:
        return parse_safetensors(source)
