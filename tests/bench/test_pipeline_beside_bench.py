"""What the bench runs beside a pipeline and takes away from one: ControlNets, LoRAs, files of groups, text encoders."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
from tiny_engine import Watch

from bench.engines.diffusers import freeing
from bench.engines.diffusers.building import empty_module
from bench.engines.diffusers.driver import DRIVER
from bench.engines.diffusers.engine import PipelineEngine
from bench.engines.diffusers.lora_weights import shapes
from bench.engines.diffusers.put_beside import controlnet_of, with_controlnet
from bench.engines.diffusers.recipes import recipe
from bench.job import Job
from bench.told import PassReport
from fitcheck.errors import MeasurementError
from fitcheck.models.families.pipeline.architecture import CONTROLNET
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Placement
from fitcheck.runtimes.diffusers.lora import USUAL_RANK


def job(model: str, tier: str, mode: str, **settings: object) -> Job:
    placement = Placement("diffusers", "0.42.1", mode, tuple(sorted(settings.items())))
    return Job(model, tier, placement, Workload(Task.T2I, 128, 128, 1, recipe(model).cfg), "cpu", tiny=True)


def engine_of(model: str, tier: str, mode: str, **settings: object) -> tuple[PipelineEngine, Watch]:
    engine, watch = PipelineEngine(job(model, tier, mode, **settings)), Watch()
    engine.load(watch)
    return engine, watch


def passes(engine: PipelineEngine, watch: Watch, count: int = 1) -> list[PassReport]:
    return [engine.run(watch) for _ in range(count)]


PLAIN: dict[tuple[str, str], str] = {}


def plain_digest(model: str, tier: str) -> str:
    """What the pipeline makes with nothing beside it."""
    if (model, tier) not in PLAIN:
        PLAIN[model, tier] = passes(*engine_of(model, tier, "none"))[0].output_digest
    return PLAIN[model, tier]


@pytest.mark.parametrize("mode", ["none", "model"])
def test_nothing_holds_text_encoders_when_the_cache_is_emptied(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_digest("flux.1-dev", "bf16")  # a first call imports, and pytest keeps what such a warning was raised in
    engine, watch = engine_of("flux.1-dev", "bf16", mode, free_text_encoder=True)
    pipeline = engine._pipeline
    encoders = [weakref.ref(pipeline.text_encoder), weakref.ref(pipeline.text_encoder_2)]
    left: list[list[object]] = []

    def collect() -> None:
        gc.collect()
        left.append([one() for one in encoders if one() is not None])

    monkeypatch.setattr(freeing, "gc", SimpleNamespace(collect=collect))
    passes(engine, watch)
    assert left == [[]]


@pytest.mark.parametrize("mode", ["none", "model"])
def test_text_encoders_are_gone_when_the_first_step_begins_and_back_for_the_next_prompt(mode: str) -> None:
    engine, watch = engine_of("flux.1-dev", "bf16", mode, free_text_encoder=True)
    pipeline, seen = engine._pipeline, []
    pipeline.transformer.register_forward_pre_hook(
        lambda *_: seen.append((pipeline.text_encoder, pipeline.text_encoder_2))
    )
    before = len(engine.tensors)
    made = passes(engine, watch, 2)
    assert seen == [(None, None)] * 2
    assert [one.output_digest for one in made] == [plain_digest("flux.1-dev", "bf16")] * 2
    assert watch.phases == ["load", *["encode", "denoise", "decode"] * 2]
    assert len(engine.tensors) == before


def test_text_encoders_stay_in_modes_that_move_layers() -> None:
    with pytest.raises(MeasurementError, match="--free-text-encoder: goes with modes none and model, not group-leaf"):
        PipelineEngine(job("flux.1-dev", "bf16", "group-leaf", free_text_encoder=True))


@pytest.mark.parametrize("mode", ["group-leaf", "group-block"])
def test_groups_lie_in_files_of_a_folder_for_each_component_and_come_back_whole(mode: str) -> None:
    engine, watch = engine_of("z-image", "bf16", mode, offload_to_disk=True)
    assert engine._folder is not None
    folder = Path(engine._folder.name)
    assert sorted(one.name for one in folder.iterdir()) == ["text_encoder", "transformer", "vae"]
    (made,) = passes(engine, watch)
    assert made.output_digest == plain_digest("z-image", "bf16")
    engine.close()
    assert not folder.exists()


@pytest.mark.parametrize(("slug", "gigabytes"), [("sd1.5", 0.723), ("sdxl", 2.50), ("flux.1-dev", 4.28)])
def test_a_controlnet_is_as_large_as_the_published_file(slug: str, gigabytes: float) -> None:
    """Those that the catalog names, in 16 bit."""
    part = with_controlnet(recipe(slug)).parts[CONTROLNET]
    count = sum(one.numel() for one in empty_module(part).parameters())
    assert 2 * count / 1e9 == pytest.approx(gigabytes, rel=0.003)


@pytest.mark.parametrize(("slug", "tier", "mode"), [("sdxl", "fp16", "none"), ("flux.1-dev", "Q4_K_S", "model")])
def test_a_controlnet_runs_in_every_step_and_its_tensors_are_told(slug: str, tier: str, mode: str) -> None:
    engine, watch = engine_of(slug, tier, mode, controlnet=True)
    calls: list[Any] = []
    engine._pipeline.controlnet.register_forward_hook(lambda *_: calls.append(list(watch.phases)))
    (made,) = passes(engine, watch)
    assert type(engine._pipeline).__name__ == controlnet_of(recipe(slug)).pipeline
    assert [phases[-1] for phases in calls] == ["denoise"]
    assert made.output_digest != plain_digest(slug, tier)
    assert any(one.branch == CONTROLNET for one in engine.tensors)


def test_a_pipeline_without_a_published_controlnet_is_refused_before_a_process_is_started() -> None:
    with pytest.raises(MeasurementError, match=r"for ZImagePipeline, only for flux\.1-dev, sdxl, sd1\.5"):
        DRIVER.check(job("z-image", "bf16", "none", controlnet=True))
    assert controlnet_of(recipe("flux.1-dev")).picture == "control_image"


def test_a_lora_has_the_shapes_of_the_usual_files() -> None:
    """FLUX.1's of ai-toolkit have 172 MB in 16 bit, and 494 pairs of matrices."""
    part = recipe("flux.1-dev").parts["transformer"]
    found = dict(shapes(empty_module(part), str(USUAL_RANK)))
    assert len(found) == 2 * 494
    assert 2 * sum(one.numel() for one in found.values()) == pytest.approx(172e6, rel=0.005)
    assert found["single_transformer_blocks.0.proj_mlp.lora_A.weight"].shape == (USUAL_RANK, 3072)


def test_of_a_unet_a_lora_changes_the_transformers_alone() -> None:
    names = [name for name, _ in shapes(empty_module(recipe("sdxl").parts["unet"]), "16")]
    assert names
    assert all(".attentions." in name for name in names)


@pytest.mark.parametrize(("slug", "tier", "mode"), [("flux.1-dev", "Q4_K_S", "group-leaf"), ("sdxl", "fp16", "none")])
def test_a_lora_changes_what_is_made_and_its_matrices_are_told(slug: str, tier: str, mode: str) -> None:
    pytest.importorskip("peft")
    engine, watch = engine_of(slug, tier, mode, load_lora_weights="16")
    (made,) = passes(engine, watch)
    assert made.output_digest != plain_digest(slug, tier)
    module = getattr(engine._pipeline, engine.recipe.denoisers[0])
    loaded = sum(one.numel() for name, one in module.named_parameters() if ".lora_" in name)
    assert loaded == sum(one.elements for one in engine.tensors if ".lora_" in one.name) > 0


def test_without_peft_a_lora_is_refused_before_a_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.engines.diffusers.put_beside.find_spec", lambda name: None)
    with pytest.raises(MeasurementError, match="--load-lora-weights: diffusers needs peft for it"):
        DRIVER.check(job("flux.1-dev", "bf16", "none", load_lora_weights="16"))


def test_a_decoder_that_is_cast_up_finds_its_files_in_the_type_they_were_written_in() -> None:
    """What the estimate says ``no`` for: fails when diffusers learns it."""
    engine, watch = engine_of("sdxl", "fp16", "group-leaf", offload_to_disk=True)
    with pytest.raises(RuntimeError, match="should be the same"):
        engine.run(watch)
