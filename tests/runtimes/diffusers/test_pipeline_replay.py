"""Replays beside what an H100 held: no constant of theirs was fitted on these records."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fitcheck.memory.caching_allocator import CachingAllocator
from fitcheck.memory.constants import cublas_workspace
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import DENOISER, PipelineArchitecture
from fitcheck.models.find import find_model
from fitcheck.models.workload import Workload
from fitcheck.records import run_index
from fitcheck.records.schema import WorkloadSizes
from fitcheck.runtimes.base import Placement
from fitcheck.runtimes.diffusers.offloading import REVISION, offload_of, recorded_placement
from fitcheck.runtimes.diffusers.replay import Replayed, replay
from fitcheck.runtimes.diffusers.runtime import RUNTIME
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.runtimes.diffusers.traces import trace
from fitcheck.runtimes.diffusers.weights import weights_of

sys.path.append(str(Path(__file__).parents[2] / "models"))
from pipeline_files import write_untraced

RESULTS = Path(__file__).parents[3] / "results/h100-sxm5-80gb"
MODELS = (
    "flux.1-dev", "z-image-turbo", "qwen-image", "flux.2-klein-9b", "wan2.2-ti2v-5b", "wan2.2-t2v-a14b", "sdxl",
)  # fmt: skip
# the stages count a second encoding, for a negative prompt that the bench does not give; it stays on the card there
ENCODED_ONCE = ("sdxl", "model")


# what a run of these holds is in no replay
NOT_REPLAYED = {"controlnet", "lora", "free"}


def records(*, capped: bool = False) -> list[Any]:
    """Runs that ended well, by model, on the whole card or under a cap."""
    found = []
    for model in MODELS:
        for path in sorted((RESULTS / model).glob("*.json")):
            record = json.loads(path.read_text("utf-8"))
            if (model, record["runtime"]["mode"]) == ENCODED_ONCE:
                continue
            if ("cap" in record["protocol"]) is not capped:
                continue
            if NOT_REPLAYED & {word.partition("-")[0] for word in record["runtime"].get("policy", "").split("+")}:
                continue
            if record["runtime"]["name"] == "diffusers" and record["outcome"]["result"] == "ok":
                found.append(pytest.param(record, id=f"{model}-{path.stem[:8]}"))
    return found


@cache
def replayed(model: str, tier: str, placement: Placement, workload: Workload, *, plain: bool) -> Replayed:
    known = catalog.get(model)
    architecture, stored, offload = known.architecture, known.tier(tier), offload_of(placement)
    assert isinstance(architecture, PipelineArchitecture)
    assert stored is not None
    stages = tuple(stages_of(architecture, workload, offload))
    found = replay(architecture, stored, offload, stages, cublas_workspace((9, 0)), CachingAllocator(), plain=plain)
    assert found is not None
    return found


def of(record: dict[str, Any]) -> Replayed:
    workload = WorkloadSizes.model_validate_json(json.dumps(record["workload"])).workload()
    placement = recorded_placement(REVISION, record["runtime"]["mode"], record["runtime"].get("policy"))
    # T5's attention is fused from some release between these two on
    plain = record["software"]["transformers"] == "5.17.0"
    return replayed(record["model"]["slug"], record["model"]["tier"], placement, workload, plain=plain)


def test_there_are_records_of_every_mode() -> None:
    modes = {one.values[0]["runtime"]["mode"] for one in records()}
    assert modes >= {"none", "model", "group-leaf-stream", "sequential"}


@pytest.mark.parametrize("record", records())
def test_the_denoisers_phase_is_within_three_percent(record: dict[str, Any]) -> None:
    """Layerwise casting lays the largest layer in 16 bit beside what the replay counts: 0.07 GiB of FLUX.1's 0.6."""
    measured = next(one["allocated"] for one in record["memory"]["phases"] if one["name"] == "denoise")
    cast = largest_cast(record["model"]["slug"]) if record["model"]["tier"] == "fp8" else 0
    found = of(record).phases["denoise"].allocated
    assert found * 0.97 <= measured <= found * 1.03 + cast


def largest_cast(model: str) -> int:
    known = catalog.get(model)
    stored = known.tier("fp8")
    assert isinstance(known.architecture, PipelineArchitecture)
    assert stored is not None
    parts = [one for one in known.architecture.components if one.role == DENOISER]
    return max(2 * weights_of(stored, one).largest_cast for one in parts)


@pytest.mark.parametrize("record", records())
def test_the_whole_run_is_within_one_percent_allocated_and_twelve_reserved(record: dict[str, Any]) -> None:
    """Reserved is 0.6 % off in the middle; furthest off (11.6 %) is a first pass of FLUX.2 klein 9B, measured when all
    was settled, but for one of nine cells in ``sequential`` (klein at 1024x1024, 24 % under: within a layer the card
    kept more than the replay does). Tiles that are done lie beside the one that runs, which no replay holds: 3 % where
    little else is on the card."""
    found, policy = of(record), record["runtime"].get("policy", "")
    measured = record["memory"]["allocated"]
    assert found.allocated == pytest.approx(measured, rel=0.03 if "tiling" in policy else 0.01)
    off = 0.25 if record["runtime"]["mode"] == "sequential" else 0.14 if "tiling" in policy else 0.12
    assert found.reserved == pytest.approx(record["memory"]["reserved"], rel=off)


@pytest.mark.parametrize("record", records(capped=True))
def test_under_a_cap_a_run_takes_what_it_needs_to_what_it_takes_with_room(record: dict[str, Any]) -> None:
    """A convolution without room takes an algorithm of whose workspace nothing is known."""
    (row,) = run_index.build([record]).rows
    ask = RUNTIME.ask_of(row)
    assert ask is not None
    (card,) = RUNTIME.footprint(ask).cards
    least = card.required.low - (card.card.low - card.reserved.low)
    assert 0.99 * least <= record["memory"]["allocated"] <= 1.01 * card.allocated.high


def test_a_component_without_a_trace_is_not_guessed(tmp_path: Path) -> None:
    assert trace("no-such-component") is None
    assert trace("../../../results") is None
    known = find_model(str(write_untraced(tmp_path / "p")), offline=True).model
    architecture, offload = known.architecture, offload_of(Placement("diffusers", "", "none"))
    assert isinstance(architecture, PipelineArchitecture)
    stages = tuple(stages_of(architecture, Workload(known.tasks[0], 512, 512, 1, 1.0), offload))
    assert replay(architecture, known.tiers[0], offload, stages) is None
