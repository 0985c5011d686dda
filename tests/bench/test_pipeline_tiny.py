"""Scaled-down pipelines: every component of the catalog has a small form, and guidance reaches what guides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.engines.diffusers.building import empty_module
from bench.engines.diffusers.recipes import known, recipe
from bench.engines.diffusers.tiny import tiny
from fitcheck.errors import MeasurementError
from fitcheck.models import catalog


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
