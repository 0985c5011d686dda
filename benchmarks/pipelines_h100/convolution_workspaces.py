"""Bytes that each convolution of an autoencoder's decode takes beside its output, and what a text encoder's call takes.

``python benchmarks/pipelines_h100/convolution_workspaces.py --out F`` needs a card and the extra ``bench``.
``F/workspaces.jsonl``: a line for each convolution of each decode, with the bytes of its input, weight and output and
the peak above what was there before it and its output; a line for each text encoder with the peak of a call above its
weights and the largest tensors that it allocated. Weights are random: no peak hangs on them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.engines.diffusers.alone import built
from bench.engines.diffusers.recipes import recipe

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
# pipeline, width and height, frames, pictures at once
DECODES = [
    ("flux.1-dev", 1024, 1024, 1, (1, 2, 3, 4, 8)),
    ("flux.1-dev", 512, 512, 1, (1, 2, 4, 8)),
    ("sdxl", 1024, 1024, 1, (1, 2, 4)),
    ("sd1.5", 512, 512, 1, (1, 2, 4, 8)),
    ("flux.2-klein-4b", 1024, 1024, 1, (1, 2)),
    ("qwen-image", 1024, 1024, 1, (1, 2)),
    ("wan2.1-t2v-1.3b", 832, 480, 17, (1, 2)),
    ("ltx-video-0.9.7-13b", 768, 512, 25, (1, 2)),
]
# pipeline, its text encoder, tokens
ENCODERS = [
    ("flux.1-dev", "text_encoder_2", 512),
    ("sd3.5-medium", "text_encoder_3", 256),
    ("wan2.1-t2v-1.3b", "text_encoder", 512),
    ("z-image-turbo", "text_encoder", 512),
    ("sdxl", "text_encoder_2", 77),
]


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def decodes(device: str, only: set[str]) -> Iterator[dict[str, Any]]:
    """Every convolution of every decode."""
    for name, width, height, frames, batches in DECODES:
        if only and name not in only:
            continue
        alone = built(recipe(name), "vae", device, None, [])
        found: list[dict[str, Any]] = []
        _watch(alone.module, found)
        for batch in batches:
            found.clear()
            about = {"model": name, "width": width, "height": height, "frames": frames, "batch": batch}
            try:
                with torch.no_grad():
                    alone.call(width, height, frames, batch)()
            except torch.OutOfMemoryError:
                yield about | {"failed": "out of memory"}
            yield from ({**about, **one} for one in found)
            torch.cuda.empty_cache()


def _watch(module: nn.Module, found: list[dict[str, Any]]) -> None:
    before: dict[str, int] = {}

    def enter(path: str) -> Any:
        def hook(_module: nn.Module, _args: Any) -> None:
            torch.cuda.reset_peak_memory_stats()
            before[path] = torch.cuda.memory_allocated()

        return hook

    def leave(path: str) -> Any:
        def hook(one: Any, args: Any, output: torch.Tensor) -> None:
            peak, after = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
            found.append(
                {
                    "path": path,
                    "kernel": list(one.kernel_size),
                    "input": list(args[0].shape),
                    "output": list(output.shape),
                    "bytes": [_nbytes(args[0]), _nbytes(one.weight), _nbytes(output)],
                    "made": after - before[path],
                    "beside": peak - after,
                    "layout": [str(tensor.is_contiguous()) for tensor in (args[0], output)],
                }
            )

        return hook

    for path, one in module.named_modules():
        if isinstance(one, _CONVOLUTIONS):
            one.register_forward_pre_hook(enter(path))
            one.register_forward_hook(leave(path))


def encoders(device: str, only: set[str]) -> Iterator[dict[str, Any]]:
    """The peak of every encoder's call, with its largest tensors."""
    for name, part, tokens in ENCODERS:
        if only and name not in only:
            continue
        module = built(recipe(name), part, device, None, []).module
        ids = torch.randint(0, 1000, (1, tokens), device=device)
        with torch.no_grad():
            module(input_ids=ids)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            torch.cuda.memory._record_memory_history("all", context="alloc", stacks="python", max_entries=1_000_000)
            module(input_ids=ids)
            peak = torch.cuda.max_memory_allocated() - before
            events = torch.cuda.memory._snapshot()["device_traces"][0]
            torch.cuda.memory._record_memory_history(None)
        made = sorted((one for one in events if one["action"] == "alloc"), key=lambda one: -one["size"])
        seen: dict[tuple[int, str], int] = {}
        for one in made:
            key = one["size"], _where(one)
            seen[key] = seen.get(key, 0) + 1
        yield {
            "model": name,
            "encoder": part,
            "tokens": tokens,
            "attention": getattr(module.config, "_attn_implementation", None),
            "peak": peak,
            "largest": [[size, count, where] for (size, where), count in list(seen.items())[:12]],
        }
        del module
        torch.cuda.empty_cache()


def _where(event: dict[str, Any]) -> str:
    frames = event.get("frames") or []
    return " < ".join(f"{one['filename'].rsplit('/', 1)[-1]}:{one['line']} {one['name']}" for one in frames[:4])


def main() -> int:
    """All of them, or those of the pipelines that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "workspaces.jsonl").open("a") as file:
        for walk in (encoders, decodes):
            for one in walk(given.device, set(given.models)):
                file.write(json.dumps(one) + "\n")
                file.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
