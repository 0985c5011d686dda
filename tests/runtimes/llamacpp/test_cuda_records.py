"""Mixtures on a real card: compute buffers that CUDA's llama.cpp printed beside the graph with its fused operations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.units import GIB

FOLDER = Path(__file__).parents[3] / "results" / "h100-sxm5-80gb"
BUILD = "0c1e57098"  # 1 October 2026
MIXTURES = ("gpt-oss-20b", "qwen3-30b-a3b")


def printed(record: dict[str, Any]) -> list[int]:
    """Compute buffers of the cards in order, then the host's."""
    found = {one["device"]: one["bytes"] for one in record["buffers"] if one["kind"] == "compute"}
    return [found[name] for name in sorted(found, key=lambda name: (name == "CUDA_Host", name))]


def options(record: dict[str, Any]) -> LlamaOptions:
    asked = record["settings"]
    lengths = [one["depth"] + one["prompt_tokens"] + one["new_tokens"] for one in record["rates"]]
    return LlamaOptions(
        sequences=1,
        program="library",
        context=max(lengths),
        gpu_layers=None if asked["gpu_layers"] >= 99 else asked["gpu_layers"],
        cpu_moe_layers=asked["cpu_moe_layers"] or 0,
        micro_batch=asked["ubatch"],
        batch=asked["batch"],
        flash_attention=asked["flash_attention"] == "on",
        cache_type_k=asked["type_k"],
        cache_type_v=asked["type_v"],
    )


@pytest.mark.parametrize("slug", MIXTURES)
def test_compute_buffers_are_those_that_cuda_printed(slug: str) -> None:
    architecture, compared = known_language_model(slug), 0
    tables: dict[str, TensorTable] = {}
    for path in sorted((FOLDER / slug).glob("*.json")):
        record = json.loads(path.read_text())
        if record["runtime"].get("commit") != BUILD or not record.get("buffers"):
            continue
        tier = record["model"]["tier"]
        table = tables.setdefault(tier, mixture_table(architecture, tier))
        theirs = printed(record)
        found = estimate(architecture, table, options(record), vram=[80 * GIB] * (len(theirs) - 1))
        ours = [*(card.compute for card in found.cards), found.host.compute]
        assert ours == pytest.approx(theirs, rel=0.001), path.name
        compared += 1
    assert compared >= 9
