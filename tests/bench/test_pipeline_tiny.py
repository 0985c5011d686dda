"""Scaled-down pipelines: every component of the catalog has a small form, and guidance reaches what guides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_engine import Watch

from bench.engines.diffusers.building import empty_module
from bench.engines.diffusers.driver import DRIVER
from bench.engines.diffusers.engine import PipelineEngine
from bench.engines.diffusers.recipes import known, recipe
from bench.engines.diffusers.tiny import tiny
from bench.job import Job
from fitcheck.errors import MeasurementError, OptionError
from fitcheck.models import catalog
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Placement


@pytest.mark.parametrize("slug", [slug for slug in catalog.slugs() if known(slug)])
def test_every_pipeline_has_a_small_form(slug: str) -> None:
    full, small = recipe(slug), tiny(recipe(slug))
    for name in full.denoisers:
        assert small.parts[name].config != full.parts[name].config
        assert small.parts[name].cls == full.parts[name].cls


@pytest.mark.parametrize(
    ("slug", "name"), [("hunyuanvideo-1.5", "transformer"), ("hunyuanvideo-1.5", "vae"), ("flux.2-dev", "text_encoder")]
)
def test_the_largest_fit_a_small_machine(slug: str, name: str) -> None:
    """Before, these three took 15, 2.3 and 45 GiB."""
    module = empty_module(tiny(recipe(slug)).parts[name])
    assert sum(one.numel() for one in module.parameters()) < 300e6


def test_a_component_that_nobody_scaled_down_is_refused() -> None:
    full = recipe("flux.1-dev")
    strange = replace(full.parts["transformer"], cls="SomeTransformer2DModel")
    with pytest.raises(MeasurementError, match="SomeTransformer2DModel has no small form"):
        tiny(replace(full, parts={**full.parts, "transformer": strange}))


def test_a_guider_has_the_scale_that_is_asked_for() -> None:
    assert recipe("hunyuanvideo-1.5").has_guider
    assert recipe("hunyuanvideo-1.5").cfg == 6.0  # as the catalog says, not the guider's own 7.5
    assert not recipe("flux.1-dev").has_guider
    assert recipe("flux.1-dev").cfg == 3.5


def small_engine(model: str, tier: str) -> PipelineEngine:
    known_model = catalog.get(model)
    work = Workload(task=Task.T2I, width=128, height=128, steps=1, cfg=1.0)
    job = Job(known_model.slug, tier, Placement("diffusers", "0.42.1", "none"), work, "cpu", tiny=True)
    return PipelineEngine(job)


@pytest.mark.parametrize(("tier", "kind", "beside"), [("nf4", "U8", ("absmax", "quant_map")), ("int8", "I8", ("SCB",))])
def test_bitsandbytes_makes_the_weights_of_its_tiers(tier: str, kind: str, beside: tuple[str, ...]) -> None:
    """Every linear of the denoiser, and nothing else, with what undoes it beside."""
    engine = small_engine("flux.1-dev", tier)
    engine.load(Watch())
    made = {one.name for one in engine.tensors if one.type == kind}
    assert len(made) > 10
    assert all(name.startswith("transformer.") and name.endswith(".weight") for name in made)
    names = {one.name for one in engine.tensors}
    assert {f"{name}.{part}" for name in made for part in beside} <= names
    linears = {
        f"transformer.{path}.weight"
        for path, module in engine._pipeline.transformer.named_modules()
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt")
    }
    assert made == linears
    assert not any(type(one) is torch.nn.Linear for one in engine._pipeline.transformer.modules())


def test_without_bitsandbytes_its_tiers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.engines.diffusers.driver.find_spec", lambda name: None)
    work = Workload(task=Task.T2I, width=128, height=128, steps=1, cfg=1.0)
    job = Job("flux.1-dev", "nf4", Placement("diffusers", "0.42.1", "none"), work, "cpu", tiny=True)
    with pytest.raises(OptionError, match="nf4 is made by bitsandbytes; get it with: pip install bitsandbytes"):
        DRIVER.check(job)
