"""What autoencoders cost on a card, against whole decodes that were timed alone (benchmarks/pipelines_h100)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.runtimes.diffusers.activations import made_by
from fitcheck.runtimes.diffusers.convolution_work import convolving
from fitcheck.runtimes.diffusers.seconds import work_of
from fitcheck.runtimes.diffusers.stages import DECODE, Stage
from fitcheck.runtimes.diffusers.weights import ModuleWeights
from fitcheck.speed.overlap import prices_of
from fitcheck.speed.passes import Pass

TIMED = Path(__file__).parents[3] / "benchmarks/pipelines_h100/alone.jsonl"
NO_WEIGHTS = ModuleWeights(())


@cache
def rows() -> tuple[dict[str, Any], ...]:
    found = (json.loads(line) for line in TIMED.read_text("utf-8").splitlines())
    return tuple(row for row in found if row.get("component") == "vae" and row["vae"] == [])


def architecture(slug: str) -> PipelineArchitecture:
    arch = catalog.get(slug).architecture
    assert isinstance(arch, PipelineArchitecture)
    return arch


def predicted(slug: str, width: int, height: int, frames: int = 1, batch: int = 1) -> float:
    """Seconds that the card works for one decode, by the best estimate."""
    arch = architecture(slug)
    scale = arch.vae_scale_spatial
    sizes = {"width": width // scale, "height": height // scale, "frames": arch.latent_frames(frames), "batch": batch}
    stage = Stage(DECODE, arch.component("vae"), "decode", sizes)
    made, prices = made_by(stage, NO_WEIGHTS), prices_of(find_card("h100-sxm5-80gb"))
    assert made is not None
    assert prices is not None
    return sum(prices[1].device(Pass(work_of(made, NO_WEIGHTS, stage, 0), 1, "")))


@pytest.mark.parametrize(
    ("slug", "size", "within"),
    [
        ("flux.1-dev", (1024, 1024), 0.03),  # fitted on this one
        ("flux.1-dev", (1024, 1024, 1, 4), 0.03),  # and this one
        ("flux.1-dev", (512, 512, 1, 4), 0.05),
        ("flux.1-dev", (1024, 1024, 1, 2), 0.05),
        ("sdxl", (1024, 1024), 0.03),
        ("sdxl", (1024, 1024, 1, 4), 0.05),
        ("wan2.2-t2v-a14b", (832, 480, 17), 0.05),
        ("wan2.2-t2v-a14b", (832, 480, 33), 0.05),
        ("wan2.2-ti2v-5b", (832, 480, 17), 0.05),
        ("ltx-2.3", (768, 512, 49), 0.05),
        ("ltx-video-0.9.7-13b", (768, 512, 97), 0.05),
        ("qwen-image", (1664, 928), 0.15),
    ],
)
def test_decodes_take_what_was_timed(slug: str, size: tuple[int, ...], within: float) -> None:
    timed = [min(row["seconds"]) for row in rows() if row["model"] == slug and row["size"] == list(size)]
    assert timed
    assert predicted(slug, *size) == pytest.approx(min(timed), rel=within)


def test_layers_that_fit_no_wide_tile_are_slower() -> None:
    assert convolving(architecture("flux.1-dev").component("vae")) == 1.0
    assert convolving(architecture("qwen-image").component("vae")) == pytest.approx(1.8)
    assert convolving(architecture("wan2.2-t2v-a14b").component("vae")) == pytest.approx(2 * 2.26)
    # a decoder as wide as a tile, whatever its encoder is
    assert convolving(architecture("wan2.2-ti2v-5b").component("vae")) == 2.0
