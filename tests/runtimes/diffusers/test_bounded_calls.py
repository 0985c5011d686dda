"""Calls that were not traced: what a bound that stands in for one says, and what a trace of one says instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

import fitcheck
from fitcheck.memory.weighing import Verdict
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes import registry
from fitcheck.units import GIB
from tests.runtimes.diffusers.test_pipeline_memory import ask
from tests.runtimes.diffusers.test_prompts_kept import laid

WAN = Workload(Task.I2V, 832, 480, 2, 5.0, frames=49, references=((832, 480),))


def test_a_bound_that_stands_in_leaves_the_low_end_open() -> None:
    """Of a call that was not traced nothing is sure but its weights, whatever the bound says."""
    stages = laid("wan2.2-ti2v-5b", "bf16", "model", WAN)
    traced = next(one for one in stages if one.stage.call == "encode")
    assert traced.made is not None
    assert not traced.bounded
    bound = replace(traced, made=replace(traced.made, bounded=True))
    assert bound.ends[0] == traced.held.resident + traced.kept < traced.ends[0]
    assert bound.least[0] == bound.ends[0] < traced.least[0]
    assert bound.ends[1] == traced.ends[1]


def test_a_first_frame_is_encoded_alone_where_every_token_has_its_time() -> None:
    """Wan 2.2 5B hands the encoder one frame, which makes less than a decode of all. In mode ``model`` the text encoder
    is there yet: what comes before the autoencoder in the sequence is the transformer."""
    stages = laid("wan2.2-ti2v-5b", "bf16", "model", WAN)
    first = stages[0]
    encode, decode = (next(one for one in stages if one.stage.call == call) for call in ("encode", "decode"))
    assert encode.stage.sizes["frames"] == 1
    assert encode.made is not None
    assert decode.made is not None
    assert encode.made.peak < decode.made.peak
    assert encode.held.resident == first.held.resident + decode.held.resident


@pytest.mark.parametrize(
    ("slug", "task"), [("wan2.2-ti2v-5b", "i2v"), ("ltx-2.3", "i2v"), ("qwen-image-2.1", "editing")]
)
def test_nothing_stands_in_where_pictures_are_handed_in(slug: str, task: str) -> None:
    best = fitcheck.check(slug, "H100 SXM5 80GB", task=task, ram=256 * GIB, tier="bf16", mode="model").best
    assert not any("a bound stands in" in one for one in best.footprint.assumptions)
    assert best.seconds is not None


def test_a_picture_that_becomes_a_video_is_encoded_as_a_trace_says() -> None:
    """CogVideoX 5B of a picture: its own record's peak is the decode, not a bound on the encode."""
    made = registry.get("diffusers").footprint(ask("cogvideox-5b-i2v", "model", "bf16", card="H100 SXM", frames=49))
    assert made.cards[0].peak.name == "decode"
    assert made.cards[0].allocated.best == pytest.approx(15.235 * GIB, rel=0.01)


def test_tables_lie_on_the_card_through_a_sequential_run() -> None:
    """CogVideoX 2B's positions, 0.25 GiB in float64: an H100 held 4.083 GiB in `sequential`, in tiles."""
    work = Workload(Task.T2V, 720, 480, 2, 6.0, frames=49)
    stages = laid("cogvideox-2b", "fp16", "sequential", work)
    assert {one.held.resident for one in stages} == {273_039_360}


@pytest.mark.parametrize("mode", ["model", "sequential"])
def test_a_modular_pipeline_has_no_switch_for_whole_components(mode: str) -> None:
    best = fitcheck.check("flux.3-klein", "H100 SXM5 80GB", ram=256 * GIB, tier="bf16", mode=mode).best
    assert best.verdict is Verdict.NO
    assert "modular pipeline" in best.reason
