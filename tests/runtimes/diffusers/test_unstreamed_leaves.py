"""Layers that come without a stream share one pool with the activations."""

from __future__ import annotations

import pytest

from fitcheck.runtimes.diffusers.estimate import Layout, widest_moment
from fitcheck.runtimes.diffusers.offloading import offload_of
from fitcheck.runtimes.diffusers.replay import replay
from fitcheck.runtimes.diffusers.runtime import RUNTIME, architecture_of
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.units import GIB
from tests.runtimes.diffusers.test_pipeline_memory import ask


@pytest.mark.parametrize(("slug", "tier"), [("z-image", "bf16"), ("sd3.5-medium", "bf16"), ("sdxl", "fp16")])
def test_a_replay_with_weights_lies_inside(slug: str, tier: str) -> None:
    one = ask(slug, "group-leaf", tier, card="H100 SXM")
    found, layout = RUNTIME.footprint(one).cards[0].reserved, RUNTIME.footprint(one).layout
    assert isinstance(layout, Layout)
    stages = stages_of(architecture_of(one), one.workload, offload_of(one.placement))
    whole = replay(architecture_of(one), one.tier, offload_of(one.placement), stages)
    assert whole is not None
    assert found.low < whole.reserved < found.high
    assert found.best < widest_moment(layout.stages, stages) < found.high, "one of activations alone takes more"


def test_the_record_that_set_nothing_lies_inside() -> None:
    """FLUX.2 klein 4B bf16 on an H100 reserved 3.52 GiB, where the activations' own cache takes 4.69."""
    found = RUNTIME.footprint(ask("flux.2-klein-4b", "group-leaf", "bf16", card="H100 SXM")).cards[0].reserved
    assert found.low < 3.518 * GIB < found.best
    assert (
        RUNTIME.footprint(ask("flux.2-klein-4b", "group-leaf-stream", "bf16", card="H100 SXM")).cards[0].reserved.best
        > found.best
    ), "a stream's layers have a pool of their own"


def test_prompts_go_through_hidreams_encoders_one_after_the_other() -> None:
    """A record in mode model held Llama's 15 GiB while it encoded, not T5's 8.9 beside them: both prompts go through an
    encoder before the next one comes."""
    one = ask("hidream-i1", "model", "fp8", card="H100 SXM")
    phases = {phase.name: phase.allocated for phase in RUNTIME.footprint(one).cards[0].phases}
    assert phases["encode"] == pytest.approx(15.13 * GIB, rel=0.02)
    assert RUNTIME.footprint(one).cards[0].allocated.best == pytest.approx(17.04 * GIB, rel=0.02)
    encoders = [
        stage.component.name for stage in stages_of(architecture_of(one), one.workload, offload_of(one.placement))
    ]
    assert encoders[:8] == [
        name for name in ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4") for _ in "12"
    ]
    sdxl = ask("sdxl", "model", "fp16", card="H100 SXM")
    names = [
        stage.component.name for stage in stages_of(architecture_of(sdxl), sdxl.workload, offload_of(sdxl.placement))
    ]
    assert names[:4] == ["text_encoder", "text_encoder_2"] * 2, "prompt by prompt, as most pipelines"
