"""Layers that come without a stream share one pool with the activations."""

from __future__ import annotations

import pytest

from fitcheck.runtimes.diffusers import packed
from fitcheck.runtimes.diffusers.offloading import offload_of
from fitcheck.runtimes.diffusers.replay import replay, replay_name, replayed
from fitcheck.runtimes.diffusers.runtime import RUNTIME, architecture_of
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.units import GIB
from tests.runtimes.diffusers.test_pipeline_memory import ask


@pytest.mark.parametrize(
    ("slug", "tier", "reserved"),
    [("flux.2-klein-4b", "bf16", 3.518), ("qwen-image", "Q4_K_S", 4.740), ("flux.1-dev", "Q4_K_S", 4.543),
     ("sdxl", "fp16", 8.670)],
)  # fmt: skip
def test_what_an_h100_reserved(slug: str, tier: str, reserved: float) -> None:
    """Layers fall between the activations: the activations' own cache would take a quarter more of FLUX.2 klein 4B."""
    one = ask(slug, "group-leaf", tier, card="H100 SXM")
    found = RUNTIME.footprint(one).cards[0].reserved
    assert found.best == pytest.approx(reserved * GIB, rel=0.025)
    assert found.low < reserved * GIB < found.high


def test_packed_replays_are_what_a_replay_finds() -> None:
    one = ask("z-image", "group-leaf", "bf16", card="H100 SXM")
    arch, offload = architecture_of(one), offload_of(one.placement)
    stages = stages_of(arch, one.workload, offload)
    whole = replay(arch, one.tier, offload, stages)
    assert whole is not None
    assert (
        packed.whole(replay_name(one.tier, offload, stages))
        == whole.reserved
        == replayed(arch, one.tier, offload, stages)
    )


def test_a_run_of_other_weights_is_replayed_when_it_is_asked() -> None:
    one = ask("z-image", "group-leaf", "bf16", card="H100 SXM", size=(832, 1216))
    arch, offload = architecture_of(one), offload_of(one.placement)
    stages = stages_of(arch, one.workload, offload)
    assert packed.whole(replay_name(one.tier, offload, stages)) is None
    whole = replay(arch, one.tier, offload, stages)
    assert whole is not None
    assert replayed(arch, one.tier, offload, stages) == whole.reserved


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
