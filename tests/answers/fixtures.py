"""The model files that the questions name: headers at full size, the weights behind them a hole in the file.

Imports nothing of fitcheck, so that the files stay what they are while fitcheck's modules move. Tensor tables of GGUF
files are in ``recipes.json``; checkpoints are built here from the shapes of their configs. As a script:
``python tests/answers/fixtures.py FOLDER``.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parent / "recipes.json"

Shape = tuple[int, ...]
Row = tuple[str, Shape, str]
Rows = Sequence[Row]

# type -> (number in a GGUF file, elements a block, bytes a block); ggml/src/ggml-common.h and ggml/include/ggml.h
GGML: dict[str, tuple[int, int, int]] = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210), "IQ4_NL": (20, 32, 18), "IQ3_S": (21, 256, 110), "IQ2_S": (22, 256, 82),
    "BF16": (30, 1, 2), "MXFP4": (39, 32, 17),
}  # fmt: skip
# bytes an element in a safetensors file (safetensors/src/tensor.rs)
DTYPES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4}
ALIGNMENT = 32


def write(folder: Path) -> None:
    """Writes every file into ``folder``, which must exist: a few MB on a file system that knows holes."""
    _language_files(folder)
    _sensenova_files(folder)
    _checkpoints(folder)
    _pipelines(folder)
    _broken(folder)


# GGUF files


def rows_of(entries: Iterable[Sequence[Any]]) -> list[Row]:
    """Tensors of a recipe: an entry is a name with {} for the layer, a shape, a type, and the layers it stands for."""
    outer: list[Row] = []
    layered: list[tuple[int, Row]] = []
    for name, shape, kind, *layers in entries:
        if not layers:
            outer.append((name, tuple(shape), kind))
        for layer in _layers(*layers):
            layered.append((layer, (name.format(layer), tuple(shape), kind)))
    return [*outer, *(row for _, row in sorted(layered, key=lambda pair: pair[0]))]


def _layers(runs: Iterable[int | Sequence[int]] = ()) -> Iterator[int]:
    for run in runs:
        first, last = (run, run) if isinstance(run, int) else run
        yield from range(first, last + 1)


def write_gguf(path: Path, metadata: Mapping[str, Any], rows: Rows) -> None:
    """A GGUF file, version 3, whose tensors are zeros that take no room on disk."""
    infos, offset = [], 0
    for name, shape, kind in rows:
        number, block, size = GGML[kind]
        dims = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        infos.append(_text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", number, offset))
        offset += _aligned(prod(shape) // block * size)
    pairs = [_text(key) + _value(value) for key, value in metadata.items()]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    _sparse(path, head, _aligned(len(head)) + offset)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """A metadata value with its type: bool 7, i32 5, u32 4, f32 6, string 8, array 9."""
    if isinstance(value, list):
        kind, form = (7, "b") if isinstance(value[0], bool) else (5, "i")
        return struct.pack("<IIQ", 9, kind, len(value)) + struct.pack(f"<{len(value)}{form}", *value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<Ib", 7, value)
    return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)


def _sparse(path: Path, head: bytes, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def _recipes() -> dict[str, Any]:
    files: dict[str, Any] = json.loads(RECIPES.read_bytes())["files"]
    return files


def _write_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    write_gguf(path, recipe["metadata"], rows_of(recipe["tensors"]))


def _language_files(folder: Path) -> None:
    recipes = _recipes()
    for name, recipe in recipes.items():
        _write_recipe(folder / name, recipe)
    for tier in ("Q8_0", "Q6_K", "Q4_K_M", "IQ2_M"):
        _write_recipe(folder / "tiers" / f"llama-3.1-8b-{tier}.gguf", recipes[f"llama-3.1-8b-{tier}.gguf"])
    projector = {"general.architecture": "clip", "general.type": "mmproj"}
    write_gguf(folder / "tiers" / "mmproj-F16.gguf", projector, [("mm.0.weight", (4096, 1024), "F16")])
    # one label in two models: each keeps its own name and shape
    for name in ("qwen3-30b-a3b-Q4_K_M.gguf", "phi-4-mini-Q4_K_M.gguf"):
        _write_recipe(folder / "two-models" / name, recipes[name])
    _shards(folder / "shards", recipes["qwen3-30b-a3b-Q8_0.gguf"])
    _renamed(folder / "novel-Q4_K_M.gguf", recipes["llama-3.2-1b-Q4_K_M.gguf"], "novel")
    _renamed(folder / "flux-Q8_0.gguf", recipes["qwen2.5-0.5b-Q8_0.gguf"], "flux")


def _renamed(path: Path, recipe: Mapping[str, Any], architecture: str) -> None:
    """The same tensors under the name of another architecture."""
    old = recipe["metadata"]["general.architecture"]
    metadata = {key.replace(f"{old}.", f"{architecture}."): value for key, value in recipe["metadata"].items()}
    write_gguf(path, metadata | {"general.architecture": architecture}, rows_of(recipe["tensors"]))


def _shards(folder: Path, recipe: Mapping[str, Any]) -> None:
    rows = rows_of(recipe["tensors"])
    half = len(rows) // 2
    for number, (metadata, part) in enumerate(((recipe["metadata"], rows[:half]), ({}, rows[half:]))):
        split = {"split.no": number, "split.count": 2, "split.tensors.count": len(rows)}
        write_gguf(folder / f"qwen3-30b-a3b-Q8_0-{number + 1:05d}-of-00002.gguf", {**metadata, **split}, part)


def _sensenova_files(folder: Path) -> None:
    recipe = _recipes()["SenseNova-U1-8B-MoT-8step-Q6_K.gguf"]
    rows = [(name, shape, "BF16") for name, shape, _ in rows_of(recipe["tensors"])]
    write_safetensors(folder / "u1-bf16" / "model.safetensors", rows)
    # another width than any model of the catalog
    narrow = [(name, tuple(size // 2 if size == 4096 else size for size in shape), kind) for name, shape, kind in rows]
    write_gguf(folder / "u1-narrow-BF16.gguf", recipe["metadata"], narrow)


# safetensors files


def write_safetensors(path: Path, rows: Rows) -> None:
    entries, offset = {}, 0
    for name, shape, kind in rows:
        size = prod(shape) * DTYPES[kind]
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    head = json.dumps(entries).encode()
    _sparse(path, struct.pack("<Q", len(head)) + head, 8 + len(head) + offset)


def transformer(config: Mapping[str, Any], kind: str = "BF16") -> list[Row]:
    """A llama-like checkpoint in transformers' names, from its config's numbers."""
    wide, rows = config["hidden_size"], config["vocab_size"]
    head = config["head_dim"]
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    inner = config["intermediate_size"]
    found: list[Row] = [("model.embed_tokens.weight", (rows, wide), kind)]
    parts: list[tuple[str, Shape]] = [
        ("input_layernorm", (wide,)), ("self_attn.q_proj", (query, wide)), ("self_attn.k_proj", (key, wide)),
        ("self_attn.v_proj", (key, wide)), ("self_attn.o_proj", (wide, query)), ("post_attention_layernorm", (wide,)),
        ("mlp.gate_proj", (inner, wide)), ("mlp.up_proj", (inner, wide)), ("mlp.down_proj", (wide, inner)),
    ]  # fmt: skip
    for layer in range(config["num_hidden_layers"]):
        found += [(f"model.layers.{layer}.{name}.weight", shape, kind) for name, shape in parts]
    found.append(("model.norm.weight", (wide,), kind))
    return found if config["tie_word_embeddings"] else [*found, ("lm_head.weight", (rows, wide), kind)]


# the numbers of the repository's list of known models: llama-3.2-1b, qwen3-0.6b and llama-3.1-8b
LLAMA_1B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192,
    "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": True,
}  # fmt: skip
QWEN_06B = LLAMA_1B | {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024, "num_hidden_layers": 28,
    "num_attention_heads": 16, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936,
    "max_position_embeddings": 40960,
}  # fmt: skip
LLAMA_8B = LLAMA_1B | {
    "hidden_size": 4096, "num_hidden_layers": 32, "head_dim": 128, "intermediate_size": 14336,
    "tie_word_embeddings": False,
}  # fmt: skip


def _checkpoints(folder: Path) -> None:
    _checkpoint(folder / "llama-1b", LLAMA_1B, transformer(LLAMA_1B))
    _checkpoint(folder / "llama-8b", LLAMA_8B, transformer(LLAMA_8B))
    _sharded(folder / "qwen-shards", QWEN_06B, transformer(QWEN_06B))
    packed = QWEN_06B | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    _checkpoint(folder / "qwen-packed", packed, [_packed(row) for row in transformer(QWEN_06B, "F16")])
    novel = LLAMA_1B | {"model_type": "novel", "architectures": ["NovelForCausalLM"]}
    _checkpoint(folder / "novel-checkpoint", novel, transformer(LLAMA_1B))
    beside = folder / "gguf-and-checkpoint"
    _checkpoint(beside, LLAMA_1B, transformer(LLAMA_1B))
    _write_recipe(beside / "llama-3.2-1b-Q4_K_M.gguf", _recipes()["llama-3.2-1b-Q4_K_M.gguf"])


def _packed(row: Row) -> Row:
    """Linear layers as AWQ stores them, eight weights in an integer."""
    name, shape, _ = row
    if "_proj" not in name:
        return row
    return name.replace(".weight", ".qweight"), (shape[1], shape[0] // 8), "I32"


def _checkpoint(folder: Path, config: Mapping[str, Any], rows: Rows) -> None:
    write_safetensors(folder / "model.safetensors", rows)
    _json(folder / "config.json", config)


def _sharded(folder: Path, config: Mapping[str, Any], rows: Rows) -> None:
    half = len(rows) // 2
    index: dict[str, str] = {}
    for number, part in enumerate((rows[:half], rows[half:])):
        name = f"model-{number + 1:05d}-of-00002.safetensors"
        write_safetensors(folder / name, part)
        index |= {tensor: name for tensor, _, _ in part}
    _json(folder / "model.safetensors.index.json", {"weight_map": index})
    _json(folder / "config.json", config)


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def _pipelines(folder: Path) -> None:
    blocks = [
        (f"transformer_blocks.{layer}.{name}.weight", (3072, 3072 * wide), "BF16")
        for layer in range(24)
        for name, wide in (("attn.to_q", 1), ("attn.to_k", 1), ("attn.to_v", 1), ("ff.net.0", 4), ("ff.net.2", 4))
    ]
    convolutions = [(f"decoder.up.{number}.conv.weight", (512, 512, 3, 3), "F32") for number in range(8)]
    pipeline = folder / "pipeline"
    write_safetensors(pipeline / "transformer" / "diffusion_pytorch_model.safetensors", blocks)
    write_safetensors(pipeline / "text_encoder" / "model.safetensors", transformer(QWEN_06B))
    write_safetensors(pipeline / "vae" / "diffusion_pytorch_model.safetensors", convolutions)
    index = {
        "_class_name": "AuraFlowPipeline", "transformer": ["diffusers", "AuraFlowTransformer2DModel"],
        "text_encoder": ["transformers", "Qwen3Model"], "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
    }  # fmt: skip
    _json(pipeline / "model_index.json", index)
    write_safetensors(folder / "lone.safetensors", [*convolutions, *blocks[:40]])


# files that must be refused


def _broken(folder: Path) -> None:
    with (folder / "llama-3.2-1b-F16.gguf").open("rb") as file:
        (folder / "cut.gguf").write_bytes(file.read(3000))
    (folder / "zip.gguf").write_bytes(b"PK\x03\x04" + bytes(64))
    (folder / "cut.safetensors").write_bytes(struct.pack("<Q", 5000) + b"{")
    (folder / "notes.txt").write_text("hello", "utf-8")
    (folder / "model.bin").write_bytes(b"\x80\x02}")
    (folder / "empty").mkdir()
    norm = [("output_norm.weight", (64,), "F32")]
    write_gguf(folder / "shapeless.gguf", {"general.architecture": "llama"}, norm)
    shard = {"general.architecture": "llama", "split.no": 0, "split.count": 2}
    write_gguf(folder / "shard-missing" / "m-Q8_0-00001-of-00002.gguf", shard, norm)
    _json(folder / "index-alone" / "model.safetensors.index.json", {"weight_map": {"a": "model-00001.safetensors"}})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
