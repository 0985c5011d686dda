"""What llama.cpp's mtmd takes of a card for projectors of several kinds, against fitcheck.

usage: python benchmarks/llamacpp_probe/projector.py PROBE-projector [--save]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from run import write_sparse_gguf

from fitcheck.models.companions import Companion
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.projector import projector_memory

PRINTED = Path(__file__).with_name("projectors.json")
Row = tuple[str, tuple[int, ...], str]


def tower(kind: str, width: int, inner: int, layers: int, patch: int, side: int, **more: Any) -> dict[str, Any]:
    """A projector: kind, sizes, and what it has beside a plain vision transformer of 16 heads."""
    return {"kind": kind, "width": width, "inner": inner, "layers": layers, "patch": patch, "side": side, **more}


TOWERS: dict[str, dict[str, Any]] = {
    "gemma3": tower("gemma3", 1152, 4304, 27, 14, 896, positions=4096, projection=5376),
    "gemma3 448": tower("gemma3", 1152, 4304, 27, 14, 448, positions=1024, projection=5376),
    "qwen2vl": tower("qwen2vl_merger", 1280, 5120, 32, 14, 560, frames=2),
    "qwen2.5vl": tower("qwen2.5vl_merger", 1280, 3420, 32, 14, 560, frames=2, gated=True, windows=8),
    "qwen3vl": tower("qwen3vl_merger", 1152, 4304, 27, 16, 768, frames=2, joint=True, positions=2304),
    "llava": tower("mlp", 1024, 4096, 24, 14, 336, positions=577, classed=True),
    "pixtral": tower("pixtral", 1024, 4096, 24, 16, 1024, gated=True, plain=True, joined=1024),
    "mistral 3.1": tower("pixtral", 1024, 4096, 24, 14, 1540, gated=True, plain=True, joined=1024, merge=2),
    "qwen3vl unstretched": tower("qwen3vl_merger", 1152, 4304, 27, 16, 768, frames=2, joint=True, positions=8464),
}


def rows_of(one: dict[str, Any]) -> list[Row]:
    """The tensors of a tower."""
    width, inner, patch = one["width"], one["inner"], one["patch"]
    plain = not one.get("gated")  # Qwen 2.5's norms have no bias
    rows: list[Row] = [("v.patch_embd.weight", (width, 3, patch, patch), "F16")]
    if one.get("frames") == 2:
        rows.append(("v.patch_embd.weight.1", (width, 3, patch, patch), "F16"))
    for layer in range(one["layers"]):
        prefix = f"v.blk.{layer}."
        parts = ("attn_qkv", "attn_out") if one.get("joint") else ("attn_q", "attn_k", "attn_v", "attn_out")
        sizes = {name: (3 * width if name == "attn_qkv" else width, width) for name in parts}
        sizes |= {"ffn_up": (inner, width), "ffn_down": (width, inner)}
        sizes |= {"ffn_gate": (inner, width)} if one.get("gated") else {}
        for name, (height, across) in sizes.items():
            rows.append((f"{prefix}{name}.weight", (height, across), "F16"))
            rows += [] if one.get("plain") else [(f"{prefix}{name}.bias", (height,), "F32")]
        for name in ("ln1", "ln2"):
            rows.append((f"{prefix}{name}.weight", (width,), "F32"))
            rows += [(f"{prefix}{name}.bias", (width,), "F32")] if plain else []
    if "classed" in one:
        return [*rows, *_classed(one)]
    if "joined" in one:
        return [*rows, *_joined(one)]
    rows.append(("v.post_ln.weight", (width,), "F32"))
    rows += [("v.post_ln.bias", (width,), "F32")] if plain else []
    if "positions" in one:
        kind = "F32" if one.get("frames") else "F16"
        rows += [("v.position_embd.weight", (one["positions"], width), kind), ("v.patch_embd.bias", (width,), "F32")]
    if "projection" in one:
        rows += [("mm.input_projection.weight", (width, one["projection"]), "F16")]
        rows += [("mm.soft_emb_norm.weight", (width,), "F32")]
    else:
        rows += [("mm.0.weight", (4 * width, 4 * width), "F16"), ("mm.0.bias", (4 * width,), "F32")]
        rows += [("mm.2.weight", (3584, 4 * width), "F16"), ("mm.2.bias", (3584,), "F32")]
    return rows


def _classed(one: dict[str, Any]) -> list[Row]:
    """What LLaVA has beside its layers."""
    width, text = one["width"], 4096
    rows: list[Row] = [("v.class_embd", (width,), "F32"), ("v.position_embd.weight", (one["positions"], width), "F16")]
    rows += [("v.pre_ln.weight", (width,), "F32"), ("v.pre_ln.bias", (width,), "F32")]
    rows += [("mm.0.weight", (text, width), "F16"), ("mm.0.bias", (text,), "F32")]
    return [*rows, ("mm.2.weight", (text, text), "F16"), ("mm.2.bias", (text,), "F32")]


def _joined(one: dict[str, Any]) -> list[Row]:
    """What Pixtral has, and with ``merge`` Mistral Small 3.1."""
    width, text = one["width"], 5120
    rows: list[Row] = [("v.pre_ln.weight", (width,), "F32"), ("v.token_embd.img_break", (text,), "F32")]
    if "merge" in one:
        rows += [("mm.input_norm.weight", (width,), "F32"), ("mm.patch_merger.weight", (width, 4 * width), "F16")]
    return [*rows, ("mm.1.weight", (text, width), "F16"), ("mm.2.weight", (text, text), "F16")]


def numbers_of(one: dict[str, Any]) -> dict[str, int]:
    """The numbers of a tower's metadata."""
    numbers = {
        "image_size": one["side"], "patch_size": one["patch"], "embedding_length": one["width"],
        "feed_forward_length": one["inner"], "block_count": one["layers"], "attention.head_count": 16,
        "projection_dim": 3584,
    }  # fmt: skip
    if one.get("frames") or one.get("merge"):
        numbers["spatial_merge_size"] = 2
    if one.get("windows"):
        numbers["n_wa_pattern"] = one["windows"]
    return {f"clip.vision.{key}": value for key, value in numbers.items()}


def predicted(one: dict[str, Any], flash: bool) -> int:
    """Bytes on the card by fitcheck."""
    table = TensorTable(Tensor(*row) for row in rows_of(one))
    memory = projector_memory(
        Companion("projector", "mmproj.gguf", table, tuple(numbers_of(one).items()), one["kind"]), flash=flash
    )
    return memory.weights + (memory.compute or 0)


def printed(program: str, one: dict[str, Any], file: Path, flash: bool) -> int:
    """Bytes on the card by llama.cpp. Raises RuntimeError where it does not load the file."""
    done = subprocess.run(
        [program, str(file), str(int(flash))], capture_output=True, text=True, timeout=120, check=False
    )
    found = [line.split() for line in done.stdout.splitlines() if line.startswith("CUDA0 ")]
    if not found:
        raise RuntimeError(done.stderr[-200:])
    return int(found[0][1])


def metadata_of(one: dict[str, Any]) -> dict[str, Any]:
    """All that llama.cpp asks of such a file."""
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": one["kind"],
        "clip.use_gelu": not one.get("gated"),
        "clip.use_silu": bool(one.get("gated")),
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        **numbers_of(one),
    }


def main() -> None:
    """Compare every tower with and without flash attention."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    found: dict[str, int] = {}
    for name, one in TOWERS.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "mmproj.gguf"
            write_sparse_gguf(file, metadata_of(one), TensorTable(Tensor(*row) for row in rows_of(one)))
            for flash in (True, False):
                cell = name if flash else f"{name}, no flash attention"
                found[cell] = printed(given.program, one, file, flash)
                ours = predicted(one, flash)
                print(f"{cell}: {found[cell]} printed, {ours} here, {ours / found[cell] - 1:+.2%}")
    if given.save:
        PRINTED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
