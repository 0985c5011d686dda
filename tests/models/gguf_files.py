"""GGUF files for tests, sound and broken, written byte by byte from the format's specification."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fitcheck.models.quant import TYPES, tensor_bytes

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
Shape = tuple[int, ...]


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: Any) -> bytes:
    payload = text(value) if kind == STRING else struct.pack(f"<{_FORMATS[kind]}", value)
    return text(key) + struct.pack("<I", kind) + payload


def array(key: str, kind: int, values: Sequence[Any]) -> bytes:
    head = text(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
    if kind == STRING:
        return head + b"".join(text(value) for value in values)
    return head + struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def info(name: str, shape: Shape, type_name: str | int, offset: int) -> bytes:
    """A tensor's entry; ``shape`` as torch prints it."""
    number = type_name if isinstance(type_name, int) else TYPES[type_name].ggml_id
    assert number is not None
    dims = struct.pack(f"<{len(shape)}Q", *reversed(shape))
    return text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", number, offset)


@dataclass(frozen=True)
class Head:
    """A header's bytes and the size of the file that it belongs to; the rest of the file is zeros."""

    data: bytes
    size: int

    def write(self, path: Path) -> Path:
        with path.open("wb") as file:
            file.write(self.data)
            file.truncate(self.size)
        return path


def gguf(
    pairs: Iterable[bytes], tensors: Iterable[tuple[str, Shape, str]], *, version: int = 3, alignment: int = 32
) -> Head:
    """A sound file with these metadata entries and (name, shape, type) tensors, its data one after the other."""
    pairs = list(pairs)
    infos, offset = [], 0
    for name, shape, type_name in tensors:
        infos.append(info(name, shape, type_name, offset))
        offset += -(-tensor_bytes(shape, TYPES[type_name]) // alignment) * alignment
    body = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    padded = body + b"\0" * (-len(body) % alignment)
    return Head(padded, len(padded) + offset)


def small_model(**changes: int) -> Head:
    """A two-layer llama with every kind of metadata value."""
    pairs = [
        pair("general.architecture", STRING, "llama"),
        pair("general.alignment", U32, changes.get("alignment", 32)),
        pair("llama.block_count", U32, 2),
        array("llama.attention.head_count_kv", I32, [4, 2]),
        array("general.tags", STRING, ["chat", "überprüft"]),
        array("llama.flags", BOOL, [1, 0]),
        array("tokenizer.ggml.tokens", STRING, [f"token{number}" for number in range(5000)]),
        array("tokenizer.ggml.scores", F32, [0.5] * 5000),
        pair("tokenizer.chat_template", STRING, "{{ messages }}"),
        pair("a.u8", U8, 255),
        pair("a.i8", I8, -1),
        pair("a.u16", U16, 65535),
        pair("a.i16", I16, -2),
        pair("a.i32", I32, -3),
        pair("a.f32", F32, 0.5),
        pair("a.bool", BOOL, 1),
        pair("a.u64", U64, 1 << 63),
        pair("a.i64", I64, -4),
        pair("a.f64", F64, 1e-300),
    ]
    tensors = [("token_embd.weight", (5000, 256), "Q6_K"), ("output_norm.weight", (256,), "F32")]
    for layer in range(2):
        tensors += [
            (f"blk.{layer}.attn_q.weight", (256, 256), "Q4_K"),
            (f"blk.{layer}.attn_norm.weight", (256,), "F32"),
            (f"blk.{layer}.ffn_down_exps.weight", (8, 256, 512), "Q4_K"),
        ]
    return gguf(pairs, tensors, **changes)


def _merge(token: str) -> str:
    return f"{token[: len(token) // 2]} {token[len(token) // 2 :]}"


def tokenizer(vocabulary: int, merges: int) -> list[bytes]:
    """Tokenizer entries as llama.cpp's converter writes them: later tokens are longer, as in byte-pair vocabularies."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word(rank: int) -> str:
        return "".join(rng.choices(letters, k=max(1, round(rng.gauss(4 + 4 * rank / vocabulary, 2)))))

    tokens = [word(rank) for rank in range(vocabulary)]
    return [
        pair("tokenizer.ggml.model", STRING, "gpt2"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.token_type", I32, [1] * vocabulary),
        *([array("tokenizer.ggml.merges", STRING, [_merge(tokens[n % vocabulary]) for n in range(merges)])]
          if merges else [array("tokenizer.ggml.scores", F32, [0.0] * vocabulary)]),
        pair("tokenizer.ggml.eos_token_id", U32, 2),
        pair("tokenizer.chat_template", STRING, "{% for message in messages %}{{ message }}{% endfor %}" * 60),
        pair("general.quantization_version", U32, 2),
        pair("general.file_type", U32, 15),
    ]  # fmt: skip


def language_model(
    layers: int,
    hidden: int,
    feed_forward: int,
    kv: int,
    vocabulary: int,
    merges: int,
    *,
    experts: int = 0,
    type_name: str = "Q4_K",
    extra: Sequence[bytes] = (),
) -> Head:
    """A language model's header at full size: 32 layers of 4096 with 11008 make a 7B, and so on."""
    pairs = [
        pair("general.architecture", STRING, "llama"),
        pair("general.name", STRING, "Generated"),
        pair("llama.block_count", U32, layers),
        pair("llama.context_length", U32, 32768),
        pair("llama.embedding_length", U32, hidden),
        pair("llama.feed_forward_length", U32, feed_forward),
        pair("llama.attention.head_count", U32, hidden // 128),
        pair("llama.attention.head_count_kv", U32, kv // 128),
        *extra,
        *tokenizer(vocabulary, merges),
    ]
    tensors: list[tuple[str, Shape, str]] = [("token_embd.weight", (vocabulary, hidden), type_name)]
    for layer in range(layers):
        block = f"blk.{layer}"
        tensors += [
            (f"{block}.attn_norm.weight", (hidden,), "F32"),
            (f"{block}.attn_q.weight", (hidden, hidden), type_name),
            (f"{block}.attn_k.weight", (kv, hidden), type_name),
            (f"{block}.attn_v.weight", (kv, hidden), "Q6_K"),
            (f"{block}.attn_output.weight", (hidden, hidden), type_name),
            (f"{block}.ffn_norm.weight", (hidden,), "F32"),
        ]
        lead: Shape = (experts,) if experts else ()
        suffix = "_exps" if experts else ""
        if experts:
            tensors.append((f"{block}.ffn_gate_inp.weight", (experts, hidden), "F32"))
        tensors += [
            (f"{block}.ffn_gate{suffix}.weight", (*lead, feed_forward, hidden), type_name),
            (f"{block}.ffn_up{suffix}.weight", (*lead, feed_forward, hidden), type_name),
            (f"{block}.ffn_down{suffix}.weight", (*lead, hidden, feed_forward), type_name),
        ]
    tensors += [("output_norm.weight", (hidden,), "F32"), ("output.weight", (vocabulary, hidden), "Q6_K")]
    return gguf(pairs, tensors)
