"""What attention costs by the kernel that a call gets, against kernels timed on an H100 (benchmarks/pipelines_h100)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fitcheck.data_files import load
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import Component, Config, PipelineArchitecture
from fitcheck.runtimes.diffusers.attention_kernels import attention_factor

TIMED = Path(__file__).parents[3] / "benchmarks/pipelines_h100/attention.jsonl"


def component(slug: str, name: str = "transformer") -> Component:
    arch = catalog.get(slug).architecture
    assert isinstance(arch, PipelineArchitecture)
    return arch.component(name)


def kernel(shape: tuple[int, ...], mask: str) -> float:
    """Seconds of the attention kernel for an operation, as PyTorch chose it."""
    for line in TIMED.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row.get("shape") == list(shape) and row["mask"] == mask and row["backend"] == "auto":
            took = next(took for name, _, took in row["kernels"] if "sdpa" in name)
            batch, heads, queries, keys, features = shape
            return float(took) * 1e-6 / (4 * batch * heads * queries * keys * features)
    raise AssertionError(shape)


@pytest.mark.parametrize(
    ("slug", "heads", "keys", "mask", "beside", "within"),
    [
        # fitted on these two
        ("hunyuanvideo-1.5", 16, 8425, "bool", 8425, 0.05),
        ("hunyuanvideo", 24, 4608, "row", 4608, 0.05),
        # and not on these
        ("hunyuanvideo-1.5", 16, 8424, "bool", 8425, 0.1),
        ("hunyuanvideo-1.5", 16, 16384, "bool", 16384, 0.15),
        ("chroma1-hd", 24, 4608, "float", 4608, 0.05),
    ],
)
def test_a_mask_costs_what_it_was_seen_to_cost(
    slug: str, heads: int, keys: int, mask: str, beside: int, within: float
) -> None:
    measured = kernel((1, heads, keys, keys, 128), mask) / kernel((1, heads, beside, beside, 128), "none")
    factor = attention_factor(component(slug), {"tokens": keys - 8, "text": 8})
    assert factor == pytest.approx(measured, rel=within)


@pytest.mark.parametrize(
    ("slug", "name", "shape", "within"),
    [
        ("cogvideox-5b", "transformer", (1, 48, 17776, 17776, 64), 0.02),  # fitted on this one
        ("sdxl", "unet", (2, 10, 4096, 4096, 64), 0.05),
        ("sd3.5-large", "transformer", (2, 38, 4429, 4429, 64), 0.08),
        ("lumina-2", "transformer", (1, 24, 4352, 4352, 96), 0.1),
        ("sd1.5", "unet", (2, 8, 4096, 4096, 40), 0.1),
        ("pixart-sigma", "transformer", (2, 16, 4096, 4096, 72), 0.2),
    ],
)
def test_narrow_heads_are_padded(slug: str, name: str, shape: tuple[int, ...], within: float) -> None:
    card = 989.4e12 * load("speed", "rates")["efficiency"]["attention"]["best"]
    factor = attention_factor(component(slug, name), {"tokens": shape[2], "text": 0})
    assert factor / card == pytest.approx(kernel(shape, "none"), rel=within)


def test_an_autoencoders_one_head_is_slower_still_in_32_bit() -> None:
    wide, single = component("flux.1-dev", "vae"), component("sdxl", "vae")
    assert (wide.dtype, single.dtype) == ("bf16", "fp32")
    measured = kernel_of_wide("float32") / kernel_of_wide("bfloat16")
    assert attention_factor(single, {}) / attention_factor(wide, {}) == pytest.approx(measured, rel=0.05)


def kernel_of_wide(dtype: str) -> float:
    rows = [json.loads(line) for line in TIMED.read_text("utf-8").splitlines()]
    chosen = [row for row in rows if row.get("shape") == [1, 1, 16384, 16384, 512] and row["dtype"] == dtype]
    return float(min(min(row["seconds"]) for row in chosen if row["backend"] == "auto"))


def test_a_folder_without_a_survey_goes_by_its_configuration() -> None:
    own = replace(component("flux.1-dev"), trace=None, config=Config({"attention_head_dim": 64}))
    assert attention_factor(own, {}) == pytest.approx(1.34)
    assert attention_factor(replace(own, config=Config({})), {}) == 1.0
