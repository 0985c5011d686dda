"""What prompts leave on the card between calls, and what a text encoder's first layer and a video's loop change."""

from __future__ import annotations

from typing import Any

import pytest

import fitcheck
from fitcheck.memory.constants import cublas_workspace
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import CONNECTOR, TEXT_ENCODER, PipelineArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Placement
from fitcheck.runtimes.diffusers.call_pools import CallPool, LoopPools
from fitcheck.runtimes.diffusers.estimate import estimate
from fitcheck.runtimes.diffusers.laid_out import Laid, Layout
from fitcheck.runtimes.diffusers.offloading import Offload, offload_of
from fitcheck.runtimes.diffusers.residency import groups_of
from fitcheck.runtimes.diffusers.seconds import PLAIN, passes, stage_work
from fitcheck.runtimes.diffusers.stages import DECODE, DENOISE, is_guided
from fitcheck.runtimes.diffusers.traces import ALLOCATE, FREE, Event
from fitcheck.units import GIB, MIB

LTX = Workload(Task.T2V, 768, 512, 2, 3.0, frames=49)


def offload(mode: str) -> Offload:
    return offload_of(Placement("diffusers", "0.42.1", mode))


def laid(slug: str, tier: str, mode: str, workload: Workload) -> list[Laid]:
    model = catalog.get(slug)
    stored, architecture = model.tier(tier), model.architecture
    assert isinstance(architecture, PipelineArchitecture)
    assert stored is not None
    layout = estimate(architecture, stored, workload, offload(mode), (9, 0)).layout
    assert isinstance(layout, Layout)
    return list(layout.stages)


def test_a_prompt_for_connectors_lies_beside_the_next_one() -> None:
    """Gemma's states of 49 layers of 1,024 tokens, 0.36 GiB; an H100 took 25.16 GiB in mode ``model``, where 24.08 were
    said without it."""
    stages = laid("ltx-2.3", "Q8_0", "model", LTX)
    first, second = [one for one in stages if one.stage.component.role == TEXT_ENCODER]
    states = 1024 * 3840 * 49 * 2
    (connectors,) = [one for one in stages if one.stage.component.role == CONNECTOR]
    assert connectors.made is not None
    prompt = connectors.made.inputs // 2
    assert prompt == pytest.approx(states, rel=0.001)
    assert (first.kept, second.kept, connectors.kept) == (0, prompt, prompt)
    assert second.made is not None
    assert second.after == second.made.outputs + 2 * prompt
    assert second.ends[1] == second.held.resident + prompt + second.after


def test_keys_and_values_of_a_language_model_are_part_of_what_it_hands_out() -> None:
    first = laid("ltx-2.3", "Q8_0", "model", LTX)[0]
    assert first.made is not None
    states, logits, cache = 1024 * 3840 * 49 * 2, 1024 * 262208 * 2, 2 * 48 * 8 * 256 * 1024 * 2
    assert first.made.outputs == pytest.approx(states + logits + cache, rel=0.01)


def test_the_other_prompt_stays_where_the_denoiser_is_called_twice() -> None:
    """Krea 2 at a scale of 1: the pipeline guides above 0. An H100 allocated 0.06 GiB more than without it."""
    once, twice = (
        [one for one in laid("krea-2-turbo", "bf16", "none", Workload(Task.T2I, 1024, 1024, 2, cfg)) if one.made]
        for cfg in (0.0, 1.0)
    )
    denoise = next(one for one in twice if one.stage.phase == DENOISE)
    assert denoise.made is not None
    assert denoise.stage.count == 4
    for phase in (DENOISE, DECODE):
        more, less = (next(one.kept for one in stages if one.stage.phase == phase) for stages in (twice, once))
        assert more - less == denoise.made.inputs


@pytest.mark.parametrize(("slug", "cfg", "guided"), [
    ("krea-2-raw", 0.0, False), ("krea-2-raw", 0.5, True), ("z-image", 1.0, True), ("z-image-turbo", 0.0, False),
    ("qwen-image", 1.0, False), ("flux.2-klein-9b", 1.0, False), ("sdxl", 1.5, True),
])  # fmt: skip
def test_a_pipeline_guides_above_its_own_scale(slug: str, cfg: float, guided: bool) -> None:
    architecture = catalog.get(slug).architecture
    assert isinstance(architecture, PipelineArchitecture)
    assert is_guided(architecture, Workload(Task.T2I, 1024, 1024, 2, cfg)) is guided


def test_a_table_of_words_is_gone_when_the_blocks_run() -> None:
    """UMT5's table takes 1.96 GiB: beside it lies what it hands on, not what a block makes. An H100 held 2.0 GiB."""
    first = laid("wan2.2-ti2v-5b", "bf16", "group-leaf-stream", Workload(Task.T2V, 832, 480, 2, 5.0, frames=81))[0]
    assert first.made is not None
    assert first.moved is not None
    assert first.held.window == pytest.approx(256384 * 4096 * 2, rel=0.001)
    assert first.held.window <= first.moved.peak <= first.held.window + first.made.outputs
    assert first.moved.peak < first.held.window + first.made.peak


@pytest.mark.parametrize(
    ("slug", "tier", "work", "held"),
    [("hunyuanvideo-1.5", "Q8_0", Workload(Task.T2V, 640, 368, 2, 6.0, frames=25), 10.13),
     ("ltx-video-0.9.7-13b", "Q8_0", Workload(Task.T2V, 768, 512, 2, 3.0, frames=49), 1.877)],
)  # fmt: skip
def test_the_widest_layer_is_not_there_at_the_widest_moment(slug: str, tier: str, work: Workload, held: float) -> None:
    """Decoders on an H100, layers streamed; 10.55 and 2.08 GiB if both came together."""
    decode = next(one for one in laid(slug, tier, "group-leaf-stream", work) if one.stage.phase == DECODE)
    assert decode.made is not None
    assert decode.moved is not None
    assert decode.brought < decode.held.window / 2
    assert (decode.ends[1] + cublas_workspace((9, 0))) / GIB == pytest.approx(held, rel=0.006)


def test_each_component_copies_on_a_stream_of_its_own() -> None:
    """FLUX.2 klein 9B reserved 6.81 GiB on an H100: 1.16 of the encoder's stream serve no other, where 6.03 were said
    with one pool for all."""
    work = Workload(Task.T2I, 1024, 1024, 4, 1.0)
    model = catalog.get("flux.2-klein-9b")
    tier, architecture = model.tier("bf16"), model.architecture
    assert isinstance(architecture, PipelineArchitecture)
    assert tier is not None
    found = estimate(architecture, tier, work, offload("group-leaf-stream"), (9, 0)).cards[0].reserved
    assert found.best / GIB == pytest.approx(6.81, rel=0.01)
    encoder, *_, decode = laid("flux.2-klein-9b", "bf16", "group-leaf-stream", work)
    assert encoder.moved is not None
    assert decode.moved is not None
    assert decode.made is not None
    assert found.best > encoder.moved.pool + decode.moved.pool + decode.made.reserved


def test_an_autoencoder_that_goes_frame_by_frame_brings_its_layers_for_each() -> None:
    """21 latent frames: 31 s in tiles on an H100, where 10 were said with the decoder brought once a tile."""
    model, work = catalog.get("wan2.2-ti2v-5b"), Workload(Task.T2V, 832, 480, 2, 5.0, frames=81)
    tier = model.tier("bf16")
    assert tier is not None
    for mode in ("sequential", "group-leaf-stream"):
        stages = laid("wan2.2-ti2v-5b", "bf16", mode, work)
        decode = stages[-1]
        assert decode.made is not None
        assert decode.made.repeats == 21
        works = [stage_work(one, tier, offload(mode)) for one in stages]
        last = list(passes(Layout(tuple(stages)), works, tier, offload(mode), PLAIN))[-1]
        assert last.waited.nbytes == 21 * groups_of(tier, offload(mode), decode.stage).total


def test_what_a_loop_runs_over_counts_beside_the_rest_or_among_it() -> None:
    """The growing tensor fills a piece that the next one needs: among the rest a further segment is asked for."""
    events = [Event(ALLOCATE, 30 * MIB), Event(FREE, 0), Event(ALLOCATE, 12 * MIB, grows=True),
              Event(ALLOCATE, 28 * MIB)]  # fmt: skip
    found = []
    for pool in (CallPool(0.0), CallPool(0.0, among=True), LoopPools(0.0)):
        for event in events:
            pool.take(event)
        found.append(pool.reserved)
    assert found == [42 * MIB, 58 * MIB, 58 * MIB]


@pytest.mark.parametrize(("name", "scale"), [("krea-2-turbo", 0.0), ("z-image-turbo", 0.0), ("flux.1-schnell", 1.0)])
def test_distilled_weights_are_asked_and_run_without_guidance(name: str, scale: float) -> None:
    """Krea 2 and Z-Image guide at every scale above 0, so that a scale of 1 would run each step twice."""
    asked: dict[str, Any] = {"tier": "bf16", "mode": "none", "ram": 256 * GIB}
    report = fitcheck.check(name, "H100 SXM5 80GB", **asked)
    plain, guided = report.best.seconds, fitcheck.check(name, "H100 SXM5 80GB", cfg=4.0, **asked).best.seconds
    assert report.best.workload.cfg == scale
    assert any(f"guidance_scale={scale:g}" in line for line in report.best.commands)
    assert plain is not None
    assert guided is not None
    assert guided.best > 1.5 * plain.best if name != "flux.1-schnell" else guided.best < 1.1 * plain.best


def test_keys_and_values_of_the_prompt_stay_to_the_end() -> None:
    """Qwen-Image-2.1 keeps them in 32 layers of 4,096 features from its first step on. An H100 held 0.11 GiB more while
    decoding than without them."""
    token = 2 * 32 * 4096 * 2
    for cfg, prompts in ((1.0, 1), (4.0, 2)):
        stages = laid("qwen-image-2.1", "bf16", "group-leaf-stream", Workload(Task.T2I, 1024, 1024, 4, cfg))
        first, later = (one for one in stages if one.stage.phase == DENOISE)
        assert first.made is not None
        assert (first.stage.count, later.stage.count) == (prompts, 3 * prompts)
        assert first.made.kept == 256 * token
        # a last prompt's are among what the first step makes
        assert (first.prefix, later.prefix, stages[-1].prefix) == ((prompts - 1) * 256 * token,) + 2 * (
            prompts * 256 * token,
        )
        assert later.made is not None
        assert later.made.flops < first.made.flops


def test_keys_and_values_of_pictures_are_more_than_those_of_the_prompt() -> None:
    work = Workload(Task.EDITING, 1024, 1024, 4, 1.0, references=((1024, 1024),))
    first, later = (one for one in laid("qwen-image-2.1", "bf16", "none", work) if one.stage.phase == DENOISE)
    assert first.made is not None
    assert first.stage.sizes["kept"] == 256 + 1 + 4096
    assert first.made.kept == (256 + 1 + 4096) * 2 * 32 * 4096 * 2
    assert later.ends[1] - later.held.resident > first.made.kept
