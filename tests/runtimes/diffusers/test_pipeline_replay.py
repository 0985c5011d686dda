"""Replays beside what an H100 held: no constant of theirs was fitted on these records."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fitcheck.memory.caching_allocator import CachingAllocator
from fitcheck.memory.constants import cublas_workspace
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.workload import Workload
from fitcheck.records.schema import WorkloadSizes
from fitcheck.runtimes.base import Placement
from fitcheck.runtimes.diffusers.offloading import offload_of
from fitcheck.runtimes.diffusers.replay import Replayed, replay
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.runtimes.diffusers.traces import trace

RESULTS = Path(__file__).parents[3] / "results/h100-sxm5-80gb"
MODELS = (
    "flux.1-dev", "z-image-turbo", "qwen-image", "flux.2-klein-9b", "wan2.2-ti2v-5b", "wan2.2-t2v-a14b", "sdxl",
)  # fmt: skip
# the stages count a second encoding, for a negative prompt that the bench does not give; it stays on the card there
ENCODED_ONCE = ("sdxl", "model")


def records() -> list[Any]:
    """Runs that ended well, by model."""
    found = []
    for model in MODELS:
        for path in sorted((RESULTS / model).glob("*.json")):
            record = json.loads(path.read_text("utf-8"))
            if (model, record["runtime"]["mode"]) == ENCODED_ONCE:
                continue
            if record["runtime"]["name"] == "diffusers" and record["outcome"]["result"] == "ok":
                found.append(pytest.param(record, id=f"{model}-{path.stem[:8]}"))
    return found


@cache
def replayed(model: str, tier: str, mode: str, workload: Workload, limit: int | None = None) -> Replayed:
    known = catalog.get(model)
    architecture, stored, offload = known.architecture, known.tier(tier), offload_of(Placement("diffusers", "", mode))
    assert isinstance(architecture, PipelineArchitecture)
    assert stored is not None
    stages = tuple(stages_of(architecture, workload, offload))
    found = replay(architecture, stored, offload, stages, cublas_workspace((9, 0)), CachingAllocator(limit))
    assert found is not None
    return found


def of(record: dict[str, Any]) -> Replayed:
    workload = WorkloadSizes.model_validate(record["workload"]).workload()
    cap = record["protocol"].get("cap")
    limit = None if cap is None else cap["bytes"] - record["memory"]["context"]
    return replayed(record["model"]["slug"], record["model"]["tier"], record["runtime"]["mode"], workload, limit)


def test_there_are_records_of_every_mode() -> None:
    modes = {one.values[0]["runtime"]["mode"] for one in records()}
    assert modes >= {"none", "model", "group-leaf-stream", "sequential"}


@pytest.mark.parametrize("record", records())
def test_the_denoisers_phase_is_within_three_percent(record: dict[str, Any]) -> None:
    measured = next(one["allocated"] for one in record["memory"]["phases"] if one["name"] == "denoise")
    assert of(record).phases["denoise"].allocated == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("record", records())
def test_the_whole_run_is_within_one_percent_allocated_and_eleven_reserved(record: dict[str, Any]) -> None:
    """Reserved is 0.4 % off in the middle; furthest off (10.2 %) is a first pass of FLUX.2 klein 9B, measured when all
    was settled."""
    found = of(record)
    measured = record["memory"]["allocated"]
    if "cap" in record["protocol"]:  # a convolution without room takes an algorithm of whose workspace nothing is known
        assert 0.85 * measured <= found.allocated <= 1.01 * measured
        return
    assert found.allocated == pytest.approx(measured, rel=0.01)
    assert found.reserved == pytest.approx(record["memory"]["reserved"], rel=0.11)


def test_a_component_without_a_trace_is_not_guessed() -> None:
    assert trace("no-such-component") is None
    assert trace("../../../results") is None
    known = catalog.get("minimax-h3")
    architecture, offload = known.architecture, offload_of(Placement("diffusers", "", "none"))
    assert isinstance(architecture, PipelineArchitecture)
    stages = tuple(stages_of(architecture, Workload(known.tasks[0], 512, 512, 1, 1.0), offload))
    assert replay(architecture, known.tiers[0], offload, stages) is None
