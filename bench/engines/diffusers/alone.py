"""Components on a card alone: ``python -m bench.engines.diffusers.alone PLAN --out F --budget S``.

What a whole pipeline's seconds and memory are made of: a denoiser with the inputs that its pipeline hands it, an
autoencoder's decode, whole, tiled or sliced. PLAN is a JSON list in order of priority: ``{"model": "sdxl", "component":
"unet", "sizes": [[1024, 1024], [1344, 768, 1, 4]]}``, a size being width, height, frames and pictures at once; ``"vae":
["tiling"]`` and ``"dtype"`` set an autoencoder up, ``"profile": false`` leaves out what takes long with many kernels.
Weights are random and made on the card. ``F/alone.jsonl`` gets a line for each size as soon as it is measured: bytes
beside the weights, seconds, and the card's time by operation with its shapes and by kernel.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from bench.engines.diffusers.building import empty_module, materialize, narrow_buffers
from bench.engines.diffusers.profiled import profiled
from bench.engines.diffusers.recipes import Recipe, recipe
from bench.engines.diffusers.surveys import PipelineRequest, PipelineSurvey, shallow
from bench.engines.diffusers.tiny import tiny
from bench.engines.diffusers.traced import Traced

OUT = "alone.jsonl"
# timed calls of a size, and the seconds after which no more are begun
_REPEATS, _ENOUGH = 5, 1.5


@dataclass(frozen=True, slots=True)
class Alone:
    """One component of a pipeline on one device; ``traced`` hands a denoiser what its pipeline would."""

    recipe: Recipe
    name: str
    module: nn.Module
    device: str
    traced: Traced | None = None

    def call(self, width: int, height: int, frames: int, batch: int) -> Callable[[], Any]:
        """What runs the component once at a size."""
        if self.traced is None:
            return self._decode(width, height, frames, batch)
        request = PipelineRequest(width, height, frames, batch, self.recipe.text)
        arguments = PipelineSurvey(self.recipe).arguments(request)
        args, kwargs = self.traced.handed(request.text, self.name, **arguments)
        args, kwargs = tree_map(self._put, (args, kwargs))
        return lambda: self.module(*args, **kwargs)

    def _put(self, leaf: Any) -> Any:
        return leaf.to(self.device) if isinstance(leaf, torch.Tensor) else leaf

    def _decode(self, width: int, height: int, frames: int, batch: int) -> Callable[[], Any]:
        vae: Any = self.module
        config = vae.config
        channels = config.get("latent_channels") or config.get("z_dim")
        scale = _shrinks(vae)
        shape = [batch, channels, height // scale, width // scale]
        if self.recipe.video:
            shape.insert(2, self.recipe.architecture.latent_frames(frames))
        elif "Wan" in type(vae).__name__ or "QwenImage" in type(vae).__name__:
            shape.insert(2, 1)
        dtype = next(vae.parameters()).dtype
        latents = torch.randn(shape, dtype=dtype, device=self.device)
        more: dict[str, Any] = {}
        if config.get("timestep_conditioning"):
            more["temb"] = torch.full((batch,), 0.05, dtype=dtype, device=self.device)
        return lambda: vae.decode(latents, return_dict=False, **more)


def _shrinks(vae: Any) -> int:
    """Pixels of a side for a latent's."""
    known = getattr(vae, "spatial_compression_ratio", None) or vae.config.get("scale_factor_spatial")
    return int(known or 2 ** (len(vae.config["block_out_channels"]) - 1))


def built(found: Recipe, name: str, device: str, dtype: str | None, settings: list[str]) -> Alone:
    """The component on the device, with random weights and norms of one."""
    part = found.parts[name]
    part = replace(part, dtype=dtype or (part.computes if name == "vae" else part.dtype))
    module = empty_module(part)
    narrow_buffers(part, module)

    def fill(full: str, one: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
        made = torch.empty(one.shape, dtype=kind, device=device)
        return made.fill_(1.0) if one.dim() == 1 and full.endswith("weight") else made.normal_(0, 0.02)

    materialize(part, module, fill)
    module.to(device)
    autoencoder: Any = module
    if "tiling" in settings:
        autoencoder.enable_tiling()
    if "slicing" in settings:
        autoencoder.enable_slicing()
    if name not in found.denoisers:
        return Alone(found, name, module, device)
    parts = {name: shallow(part) for name, part in found.parts.items()}
    return Alone(found, name, module, device, Traced(replace(found, parts=parts)))


def measured(call: Callable[[], Any], device: str, *, apart: bool = True) -> dict[str, Any]:
    """Bytes and seconds of one call, and the card's share of them ``apart``."""
    cuda = device == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    reserved = torch.cuda.memory_reserved() if cuda else 0
    first, _ = _timed(call, cuda)
    found: dict[str, Any] = {"first": first}
    if cuda:
        found |= {
            "before": before, "allocated": torch.cuda.max_memory_allocated() - before, "before_reserved": reserved,
            "reserved": torch.cuda.max_memory_reserved() - reserved,
        }  # fmt: skip
    rows: list[tuple[float, float]] = []
    while len(rows) < _REPEATS and sum(whole for whole, _ in rows) < _ENOUGH:
        rows.append(_timed(call, cuda))
    found |= {"seconds": [whole for whole, _ in rows], "host": [host for _, host in rows]}
    return found | (profiled(call, cuda) if apart else {})


def _timed(call: Callable[[], Any], cuda: bool) -> tuple[float, float]:
    """Seconds of a call, and until the host has launched all of it."""
    if cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = call()
    launched = time.perf_counter() - started
    if cuda:
        torch.cuda.synchronize()
    del result
    return time.perf_counter() - started, launched


def rows_of(entry: dict[str, Any], device: str, small: bool, deadline: float) -> Iterator[dict[str, Any]]:
    """A line for each size of an entry of the plan."""
    found = tiny(recipe(entry["model"])) if small else recipe(entry["model"])
    settings = list(entry.get("vae", ()))
    started = time.perf_counter()
    alone = built(found, entry["component"], device, entry.get("dtype"), settings)
    facts = {
        "model": entry["model"], "component": entry["component"], "trace": found.parts[entry["component"]].trace,
        "dtype": str(next(alone.module.parameters()).dtype), "vae": settings,
        "built": round(time.perf_counter() - started, 2),
    }  # fmt: skip
    for size in entry["sizes"]:
        if time.monotonic() > deadline:
            yield {**facts, "size": size, "outcome": "no time"}
            return
        width, height, frames, batch = [*size, 1, 1][:4]
        if small:
            width, height = 128 + 64 * (width > 1024), 128
            frames = max(min(frames, 5), found.architecture.frames_from(1)) if found.video else 1
        yield {**facts, "size": size} | _outcome(
            alone, (width, height, frames, batch), apart=entry.get("profile", True)
        )


def _outcome(alone: Alone, size: tuple[int, int, int, int], *, apart: bool) -> dict[str, Any]:
    try:
        started = time.perf_counter()
        call = alone.call(*size)
        ready = round(time.perf_counter() - started, 2)
        return {"outcome": "ok", "prepared": ready, **measured(call, alone.device, apart=apart)}
    except Exception as error:  # one size must not cost the others
        return {"outcome": "error", "message": f"{type(error).__name__}: {error}"[:600]}


def main(arguments: list[str] | None = None) -> int:
    """Measures the plan of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="seconds for everything")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / OUT).open("a", encoding="utf-8") as file, torch.no_grad():
        _write(file, _software(given.device))
        for entry in json.loads(given.plan.read_text("utf-8")):
            try:
                for row in rows_of(entry, given.device, given.tiny, began + given.budget):
                    _write(file, row)
                    _tell(time.monotonic() - began, row)
            except Exception as error:  # one component must not cost the others
                _write(file, {**entry, "outcome": "error", "message": f"{type(error).__name__}: {error}"[:600]})
                print(f"{time.monotonic() - began:6.1f} {entry['model']} {entry['component']}: {error}"[:300])
            gc.collect()
            if given.device == "cuda":
                torch.cuda.empty_cache()
    return 0


def _write(file: Any, row: dict[str, Any]) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()


def _tell(now: float, row: dict[str, Any]) -> None:
    what = " ".join(map(str, (row["model"], row["component"], *row["vae"], row["dtype"], row["size"])))
    told = {name: row[name] for name in ("outcome", "message", "built", "prepared", "allocated", "reserved", "first",
                                         "seconds", "host", "busy", "kernels") if name in row}  # fmt: skip
    print(f"{now:6.1f} {what}: {told}", flush=True)


def _software(device: str) -> dict[str, Any]:
    import diffusers

    card = torch.cuda.get_device_name() if device == "cuda" else "none"
    return {"card": card, "torch": torch.__version__, "cuda": torch.version.cuda, "diffusers": diffusers.__version__,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "at": time.time()}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
