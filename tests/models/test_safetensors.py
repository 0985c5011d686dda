"""The safetensors reader against the safetensors package, sharded checkpoints, and hostile files."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fitcheck.errors import InputError
from fitcheck.models.quant import SAFETENSORS_DTYPES, TYPES
from fitcheck.models.safetensors import HEADER_LIMIT, parse_index, parse_safetensors, read_safetensors
from fitcheck.units import MIB

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def blob(header: object, data: int, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + b"\0" * data


def write(folder: Path, data: bytes, name: str = "model.safetensors") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


class Memory:
    name = "hostile.safetensors"

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self._data = data
        self.size: int | None = len(data) if size is None else size

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


def test_file_of_the_safetensors_writer(tmp_path: Path) -> None:
    tensors = {
        "model.embed_tokens.weight": torch.zeros(10, 4, dtype=torch.bfloat16),
        "model.layers.0.self_attn.q_proj.weight": torch.zeros(4, 4, dtype=torch.float16),
        "model.layers.0.mlp.experts.3.up_proj.weight": torch.zeros(4, 4, dtype=torch.float8_e4m3fn),
        "model.layers.0.input_layernorm.weight": torch.zeros(4),
        "scale": torch.zeros((), dtype=torch.int64),
        "none": torch.zeros(0, 3, dtype=torch.uint8),
    }
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    header = read_safetensors(path)
    assert header.metadata == {"format": "pt"}
    assert header.file_bytes == path.stat().st_size
    found = {tensor.name: (tensor.shape, tensor.nbytes) for tensor in header.tensors}
    assert found == {name: (tuple(t.shape), t.numel() * t.element_size()) for name, t in tensors.items()}
    roles = {tensor.name: (tensor.role, tensor.layer) for tensor in header.tensors}
    assert roles["model.embed_tokens.weight"] == ("embedding", None)
    assert roles["model.layers.0.self_attn.q_proj.weight"] == ("attention", 0)
    assert roles["model.layers.0.mlp.experts.3.up_proj.weight"] == ("expert", 0)
    assert roles["model.layers.0.input_layernorm.weight"] == ("norm", 0)


def test_every_dtype_of_the_format_has_its_size(tmp_path: Path) -> None:
    entries, at = {}, 0
    for dtype in sorted(SAFETENSORS_DTYPES):
        size = 12 // TYPES[dtype].block * TYPES[dtype].block_bytes
        entries[dtype] = {"dtype": dtype, "shape": [12], "data_offsets": [at, at + size]}
        at += size
    header = read_safetensors(write(tmp_path, blob(entries, at)))
    assert {tensor.name: tensor.type for tensor in header.tensors} == {dtype: dtype for dtype in SAFETENSORS_DTYPES}
    assert header.tensors.nbytes == at


HOSTILE = {
    "empty": (b"", "ends inside its header"),
    "4 bytes": (b"\0\0\0\0", "ends inside its header"),
    "2^60 header": (blob({}, 0, 1 << 60), "claim a header of 1,152,921,504,606,846,976 bytes"),
    "longer than the file": (blob({}, 0, 5000), "claim a header of 5,000 bytes"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "not a safetensors file"),
    "gguf": (b"GGUF\3\0\0\0" + b"\0" * 100, "not a safetensors file"),
    "array": (blob(b"[1]", 0), "no JSON header"),
    "broken JSON": (blob(b'{"a":', 0), "not readable JSON"),
    "NaN": (blob(b'{"a": NaN}', 0), "not readable JSON"),
    "not UTF-8": (blob(b'{"\xff": 1}', 0), "not readable JSON"),
    "depth bomb": (blob(b'{"a":' + b"[" * 300_000 + b"]" * 300_000 + b"}", 0), "not readable JSON"),
    "bracket flood": (blob(b'{"a":[' + b"[]," * 1_000_000 + b"0]}", 0), "more entries than any model"),
    "number of 10^5 digits": (blob(b'{"a": ' + b"1" * 100_000 + b"}", 0), "not readable JSON"),
    "same key twice": (blob(b'{"a": 1, "a": 2}', 0), "twice"),
    "same field twice": (blob(b'{"a": {"dtype":"F32","dtype":"F32"}}', 0), "twice"),
    "metadata that is no table": (blob({"__metadata__": 5}, 0), "not a table of texts"),
    "metadata of numbers": (blob({"__metadata__": {"a": 5}}, 0), "not a table of texts"),
    "extra field": (blob({"a": ENTRY | {"x": 1}}, 24), "exactly dtype, shape and data_offsets"),
    "missing field": (blob({"a": {"dtype": "F32"}}, 24), "exactly dtype, shape and data_offsets"),
    "unknown dtype": (blob({"a": ENTRY | {"dtype": "F7"}}, 24), "unknown dtype 'F7'"),
    "GGUF type as dtype": (blob({"a": ENTRY | {"dtype": "Q4_K"}}, 24), "unknown dtype 'Q4_K'"),
    "dtype as list": (blob({"a": ENTRY | {"dtype": ["F32"]}}, 24), "unknown dtype"),
    "negative shape": (blob({"a": ENTRY | {"shape": [-2, -3]}}, 24), "not whole numbers"),
    "fractional shape": (blob({"a": ENTRY | {"shape": [2.5, 3]}}, 24), "not whole numbers"),
    "truth values as shape": (blob({"a": ENTRY | {"shape": [True, 6]}}, 24), "not whole numbers"),
    "2^70 shape": (blob({"a": ENTRY | {"shape": [1 << 70]}}, 24), "not whole numbers"),
    "three offsets": (blob({"a": ENTRY | {"data_offsets": [0, 24, 24]}}, 24), "malformed"),
    "offsets backwards": (blob({"a": ENTRY | {"data_offsets": [24, 0]}}, 24), "needs 24 bytes and is given -24"),
    "wrong length": (blob({"a": ENTRY | {"data_offsets": [0, 20]}}, 24), "needs 24 bytes and is given 20"),
    "unpackable": (blob({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}, 1), "cannot pack"),
    "overlap": (blob({"a": ENTRY, "b": ENTRY | {"data_offsets": [12, 36]}}, 36), "overlap"),
    "hole": (blob({"a": ENTRY, "b": ENTRY | {"data_offsets": [32, 56]}}, 56), "hole"),
    "cut off": (blob({"a": ENTRY}, 20), "the file has"),
    "too long": (blob({"a": ENTRY}, 30), "the file has"),
    "endless name": (blob({"x" * 5000: ENTRY}, 24), "at most 1,024 letters"),
    "escape sequence in a name": (blob({"\x1b[2J": ENTRY}, 24), "not readable text"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file_is_refused_cheaply(case: str) -> None:
    data, sentence = HOSTILE[case]
    started = time.process_time()
    with pytest.raises(InputError, match=sentence) as raised:
        parse_safetensors(Memory(data))
    assert time.process_time() - started < 0.5
    assert str(raised.value).startswith("hostile.safetensors: ")
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_memory_of_a_parsed_header_is_bounded() -> None:
    """A quarter of the tensors that the reader accepts takes less than a quarter of 300 MiB."""
    padding = b'"' + b"x" * 200 + b'%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    rows = b",".join(padding % number for number in range(30_000))
    data = blob(b"{" + rows + b"}", 0)
    assert MIB < len(data) < HEADER_LIMIT + 8
    tracemalloc.start()
    header = parse_safetensors(Memory(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(header.tensors) == 30_000
    assert peak < 75 * MIB


SMALL = blob({"__metadata__": {"format": "pt"}, "a": ENTRY, "b.weight": ENTRY | {"data_offsets": [24, 48]}}, 48)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=5), st.integers(0, len(SMALL)))
def test_mutated_file_gives_a_header_or_an_input_error(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(SMALL)
    for position, value in changes:
        data[position] = value
    for candidate in (bytes(data), bytes(data[:cut])):
        try:
            header = parse_safetensors(Memory(candidate))
        except InputError:
            continue
        assert header.tensors.nbytes == 48


def sharded(folder: Path) -> Path:
    save_file({"a": torch.zeros(4)}, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    save_file({"b": torch.zeros(8), "spare": torch.zeros(1)}, folder / "model-00002-of-00002.safetensors")
    index = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": index}))
    return path


def test_sharded_checkpoint_by_its_index(tmp_path: Path) -> None:
    header = read_safetensors(sharded(tmp_path))
    assert [(tensor.name, tensor.shape) for tensor in header.tensors] == [("a", (4,)), ("b", (8,))]
    assert header.files == ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert header.file_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert header.metadata == {"format": "pt"}


def test_missing_shard_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match="model-00002-of-00002"):
        read_safetensors(index)


def test_index_and_file_that_disagree(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    save_file({"c": torch.zeros(8)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(InputError, match="does not hold 'b'"):
        read_safetensors(index)


@pytest.mark.parametrize(
    "weight_map",
    [
        None,
        {},
        [],
        {"a": 5},
        {"a": "../secret.safetensors"},
        {"a": "/etc/passwd"},
        {"a": "folder/x.safetensors"},
        {"a": "..\\x.safetensors"},
        {"a": "x.bin"},
        {"a": "\x1b.safetensors"},
        {str(number): f"{number}.safetensors" for number in range(1001)},
    ],
)
def test_index_that_leads_astray_is_refused(weight_map: object) -> None:
    with pytest.raises(InputError, match=r"weight_map|not a safetensors file beside it|more than 1,000 files"):
        parse_index(json.dumps({"weight_map": weight_map}).encode(), "model.safetensors.index.json")


def test_unreadable_paths(tmp_path: Path) -> None:
    for name in ("missing.safetensors", "missing.safetensors.index.json"):
        with pytest.raises(InputError, match="no such file"):
            read_safetensors(tmp_path / name)
    with pytest.raises(InputError, match="folder"):
        read_safetensors(tmp_path)
