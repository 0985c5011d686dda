"""Calls that were not traced: what a bound that stands in for one says, and what a trace of one says instead."""

from __future__ import annotations

import pytest

import fitcheck
from fitcheck.runtimes import registry
from fitcheck.units import GIB
from tests.runtimes.diffusers.test_pipeline_memory import ask


def test_a_bound_that_stands_in_leaves_the_low_end_open() -> None:
    """What an autoencoder makes of a picture was not traced for Wan 2.2 5B: at the low end it makes nothing, and the
    rest of the run decides, as it does where nothing is encoded."""
    asked = {"ram": 64 * GIB, "tier": "bf16", "mode": "model", "vae": "whole"}
    kinds = [fitcheck.check("wan2.2-ti2v-5b", "RTX 4090", task=task, **asked).best for task in ("t2v", "i2v")]  # type: ignore[arg-type]
    traced, bounded = (kind.memory for kind in kinds)
    assert any("a bound stands in" in one for one in kinds[1].footprint.assumptions)
    assert bounded.allocated.low == traced.allocated.low < traced.allocated.best < bounded.allocated.best
    assert bounded.reserved.low <= traced.reserved.low
    assert bounded.required.low <= traced.required.low


def test_a_picture_that_becomes_a_video_is_encoded_as_a_trace_says() -> None:
    """CogVideoX 5B of a picture: its own record's peak is the decode, not a bound on the encode."""
    made = registry.get("diffusers").footprint(ask("cogvideox-5b-i2v", "model", "bf16", card="H100 SXM", frames=49))
    assert made.cards[0].peak.name == "decode"
    assert made.cards[0].allocated.best == pytest.approx(15.235 * GIB, rel=0.01)
