"""Layouts, statistics of groups and heads: what a call costs beside its operations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import Component, Config, PipelineArchitecture
from fitcheck.runtimes.diffusers.activations import call_facts
from fitcheck.runtimes.diffusers.attention_flops import head_features
from fitcheck.runtimes.diffusers.card_work import copied_bytes, grouped_bytes, groups_of
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, LEAVE, WORKSPACE, Event


def component(slug: str, name: str) -> Component:
    arch = catalog.get(slug).architecture
    assert isinstance(arch, PipelineArchitecture)
    return arch.component(name)


def test_a_decode_reads_what_torch_was_seen_to_read() -> None:
    facts = call_facts(component("flux.1-dev", "vae"), "decode", (("batch", 1), ("height", 128), ("width", 128)))
    assert facts is not None
    # an H100's profile: 30 GroupNorms over 3.67 GB in 16 bit, in 32 groups
    assert facts.grouped * 32 * 2 == pytest.approx(3.67e9, rel=0.01)
    assert facts.copied == pytest.approx(8.51e9, rel=0.01)


def test_two_pictures_have_twice_the_groups() -> None:
    unet = component("sdxl", "unet")
    one, two = (
        call_facts(unet, "forward", (("batch", batch), ("height", 64), ("text", 77), ("width", 64))) for batch in (2, 4)
    )
    assert one is not None
    assert two is not None
    assert one.grouped == two.grouped > 0


def test_a_norm_is_what_holds_no_other_and_no_layer_norm() -> None:
    inside = [Event(ENTER, path="decoder.norm1.norm_layer"), Event(ALLOCATE, 50), Event(ALLOCATE, 7), Event(LEAVE)]
    events = [
        Event(ENTER, path="decoder.norm1"), Event(ALLOCATE, 300), *inside, Event(LEAVE),
        Event(ENTER, path="transformer_blocks.0.norm1"), Event(ALLOCATE, 900), Event(LEAVE),
        Event(ENTER, path="decoder.conv_in"), Event(ALLOCATE, 900), Event(WORKSPACE, 40), Event(LEAVE),
    ]  # fmt: skip
    assert grouped_bytes(events) == 50
    assert copied_bytes(events) == 40


def test_groups_are_of_what_convolves() -> None:
    assert groups_of(component("sdxl", "unet")) == 32
    assert groups_of(component("pixart-sigma", "transformer")) == 0  # its configuration has a number all the same
    assert groups_of(component("wan2.2-t2v-a14b", "vae")) == 0


@pytest.mark.parametrize(
    ("slug", "name", "features"),
    [("sdxl", "unet", 64), ("sd1.5", "unet", 40), ("flux.1-dev", "transformer", 128), ("lumina-2", "transformer", 96),
     ("z-image-turbo", "transformer", 128), ("pixart-sigma", "transformer", 72)],
)  # fmt: skip
def test_features_of_heads(slug: str, name: str, features: int) -> None:
    assert head_features(component(slug, name)) == features


@pytest.mark.parametrize(
    "config", [{}, {"attention_head_dim": 0}, {"attention_head_dim": "x"}, {"dim": 8, "n_heads": 0}, {"dim": [1]}]
)
def test_a_folder_may_say_anything_of_its_heads(config: dict[str, object]) -> None:
    assert head_features(replace(component("flux.1-dev", "transformer"), config=Config(config))) is None
