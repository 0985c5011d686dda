"""weight_norm's computed weights: on the card from a call on, whatever moves the parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.memory.allocator_blocks import device_block
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Process
from fitcheck.runtimes.diffusers.computed_weights import computed_bytes, left_by_calls
from fitcheck.runtimes.diffusers.estimate import estimate
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.stages import Stages, stages_of

WORK = Workload(Task.T2V, 256, 256, 2, 1.0, frames=124)
STREAMED = Offload("group-leaf-stream", "leaf", stream=True, low_cpu_mem=True)


def minimax() -> PipelineArchitecture:
    found = catalog.get("minimax-h3").architecture
    assert isinstance(found, PipelineArchitecture)
    return found


def stages() -> Stages:
    return stages_of(minimax(), WORK, STREAMED)


def test_every_weight_with_a_direction_is_computed_as_large_as_it() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from bench.engines.diffusers.building import empty_module
    from bench.engines.diffusers.recipes import recipe

    part = minimax().component("audio_vae")
    modules = dict(empty_module(recipe("minimax-h3").parts["audio_vae"]).named_modules())
    plain = {path: vars(one)["weight"] for path, one in modules.items() if "weight_v" in one._parameters}
    assert plain
    assert all(isinstance(one, torch.Tensor) for one in plain.values())
    for child in ("", "decoder", "encoder"):
        inside = [one for path, one in plain.items() if path.startswith(child)]
        assert computed_bytes(part, child) == sum(device_block(4 * one.numel()) for one in inside)


def test_moving_a_module_passes_a_computed_weight_by() -> None:
    """Fails when torch makes a parameter or a buffer of it."""
    torch = pytest.importorskip("torch")
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = torch.nn.utils.weight_norm(torch.nn.Linear(4, 4))
    layer(torch.zeros(1, 4))
    layer.to("meta")
    assert layer.weight_v.device.type == "meta"
    assert layer.weight.device.type == "cpu"


def test_nothing_lies_there_before_the_first_call_and_all_of_it_beside_every_other_call_later() -> None:
    calls = stages()
    sound = next(at for at, one in enumerate(calls) if one.component.name == "audio_vae")
    all_of_it = computed_bytes(minimax().component("audio_vae"), "decoder")
    first, later = list(left_by_calls(calls, later=False)), list(left_by_calls(calls, later=True))
    assert all_of_it / 2**30 == pytest.approx(0.247, abs=0.001)
    assert first == [0 if at <= sound else all_of_it for at in range(len(calls))]
    assert later == [0 if at == sound else all_of_it for at in range(len(calls))]


def test_a_later_video_takes_as_much_more_as_they_are_large() -> None:
    model = catalog.get("minimax-h3")
    tier = model.tier("Q4_K_S")
    assert tier is not None
    bench = Process(bench=True)
    first, later = (
        estimate(minimax(), tier, WORK, STREAMED, (9, 0), process=one).cards[0].allocated.best
        for one in (bench, replace(bench, warm=True))
    )
    assert later - first == computed_bytes(minimax().component("audio_vae"), "decoder")


def test_pipelines_without_sound_have_none() -> None:
    arch = catalog.get("sdxl").architecture
    assert isinstance(arch, PipelineArchitecture)
    calls = stages_of(arch, Workload(Task.T2I, 1024, 1024, 2, 7.0), STREAMED)
    assert set(left_by_calls(calls, later=True)) == {0}
