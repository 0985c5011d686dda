"""Tiled and sliced decodes: what the estimate makes of the trace of one tile, beside a fresh run of the real decoder on
fake tensors at sizes that no trace was made at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch

from bench.engines.diffusers.recipes import recipe
from bench.engines.diffusers.traced import RecordedCall, Traced
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import VAE, PipelineArchitecture
from fitcheck.models.workload import Workload
from fitcheck.runtimes.diffusers.activations import made_by
from fitcheck.runtimes.diffusers.laid_out import tiled_bytes
from fitcheck.runtimes.diffusers.offloading import offload_of, placement_of
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.stages import DECODE, stages_of
from fitcheck.runtimes.diffusers.weights import weights_of


def said(slug: str, size: tuple[int, int], frames: int, batch: int, vae: tuple[str, ...]) -> int:
    """Most bytes of the decode by the estimate, without weights and workspaces."""
    model = catalog.get(slug)
    tier, arch = model.tiers[0], model.architecture
    assert isinstance(arch, PipelineArchitecture)
    workload = Workload(arch.tasks[0], *size, steps=2, cfg=1.0, frames=frames, batch=batch)
    tops = []
    for stage in stages_of(arch, workload, offload_of(placement_of("none", PipelineOptions(vae=vae)))):
        if (stage.phase, stage.component.role) == (DECODE, VAE):
            made = made_by(stage, weights_of(tier, stage.component))
            assert made is not None
            tops.append(made.peak + tiled_bytes(stage, made))
    return max(tops)


def seen(slug: str, size: tuple[int, int], frames: int, batch: int, vae: tuple[str, ...]) -> int:
    """Most bytes of the decode in a run."""
    found, shape = recipe(slug), recipe(slug).architecture
    traced = Traced(replace(found, parts={"vae": found.parts["vae"]}))
    module: Any = traced.modules["vae"]
    for name in vae:
        getattr(module, f"enable_{name}")()
    scale = shape.vae_scale_spatial
    sides = (size[1] // scale, size[0] // scale)
    inside = (shape.latent_frames(frames), *sides) if found.video or "QwenImage" in found.parts["vae"].cls else sides
    channels = next(one for one in (module.config.get(name) for name in ("latent_channels", "z_dim")) if one)
    calls: list[RecordedCall] = []
    traced.seen["vae", "decode", ()] = None  # decoders keep no caches that a first call would have to fill
    dtype = getattr(torch, found.parts["vae"].computes)
    with torch.no_grad(), traced._stubs(calls, ""):
        module.decode(torch.zeros((batch, channels, *inside), dtype=dtype))
    return calls[-1].recording.peak()


@pytest.mark.parametrize(
    ("slug", "size", "frames"),
    [
        ("flux.1-dev", (1280, 1152), 1),
        ("qwen-image", (448, 320), 1),
        ("qwen-image-2.1", (448, 256), 1),
        ("wan2.1-t2v-1.3b", (384, 256), 9),
        ("wan2.2-ti2v-5b", (320, 256), 9),
        ("hunyuanvideo-1.5", (448, 320), 9),
        ("ltx-2.3", (640, 576), 17),
    ],
)
def test_a_tiled_decode_takes_a_tile_and_what_was_decoded_before(slug: str, size: tuple[int, int], frames: int) -> None:
    found = seen(slug, size, frames, 1, ("tiling",))
    assert said(slug, size, frames, 1, ("tiling",)) == pytest.approx(found, rel=0.004)
    assert found < said(slug, size, frames, 1, ())


@pytest.mark.parametrize("vae", [(), ("slicing",), ("slicing", "tiling")])
def test_slices_and_batches_take_what_a_run_does(vae: tuple[str, ...]) -> None:
    slug, size = "flux.1-dev", (1152, 768)
    assert said(slug, size, 1, 3, vae) == pytest.approx(seen(slug, size, 1, 3, vae), rel=0.004)
