"""A ControlNet beside a denoiser: when it runs, what it makes and hands on, and what lies there meanwhile."""

from __future__ import annotations

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import CONTROLNET, PipelineArchitecture
from fitcheck.models.families.pipeline.tables import parameters
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers.laid_out import Laid, Layout
from fitcheck.runtimes.diffusers.runtime import architecture_of
from fitcheck.runtimes.recorded import machine_with

RUNTIME = registry.get("diffusers")
MIB = 1 << 20
KNOWN = {"flux.1-dev": "bf16", "sdxl": "fp16", "sd1.5": "fp16"}


def ask_for(slug: str, mode: str, tier: str = "", **options: object) -> Ask:
    model = catalog.get(slug)
    found = model.tier(tier or KNOWN[slug])
    assert found is not None
    wanted = Wanted(tiers=(found.name,), options=(("mode", (mode,)), *options.items()))
    return next(iter(RUNTIME.asks(model, [found], wanted, machine_with(find_card("RTX 4090"), None))))


def laid(slug: str, mode: str, tier: str = "", **options: object) -> tuple[Laid, ...]:
    layout = RUNTIME.footprint(ask_for(slug, mode, tier, controlnet=True, **options)).layout
    assert isinstance(layout, Layout)
    return layout.stages


@pytest.mark.parametrize(("slug", "gigabytes"), [("sd1.5", 0.723), ("sdxl", 2.50), ("flux.1-dev", 4.28)])
def test_it_is_as_large_as_the_published_file(slug: str, gigabytes: float) -> None:
    architecture = catalog.get(slug).architecture
    assert isinstance(architecture, PipelineArchitecture)
    assert architecture.controlnet is not None
    key = architecture.controlnet.component.trace
    assert key is not None
    assert 2 * parameters(key) / 1e9 == pytest.approx(gigabytes, rel=0.003)


@pytest.mark.parametrize("slug", KNOWN)
def test_it_runs_before_the_denoiser_in_every_step(slug: str) -> None:
    stages = [one.stage for one in laid(slug, "none", steps=20) if one.stage.phase == "denoise"]
    assert [one.component.role for one in stages] == [CONTROLNET, "denoiser"] * 2
    assert [one.call for one in stages] == ["forward", "controlled"] * 2
    assert [one.count for one in stages] == [1, 1, 19, 19]


def test_of_one_step_there_is_none_before() -> None:
    assert [one.stage.count for one in laid("flux.1-dev", "none", steps=1) if one.stage.phase == "denoise"] == [1, 1]


@pytest.mark.parametrize("slug", KNOWN)
def test_the_denoiser_is_handed_what_it_makes(slug: str) -> None:
    guide, denoiser = [one.made for one in laid(slug, "none") if one.stage.phase == "denoise"][:2]
    assert guide is not None
    assert denoiser is not None
    assert guide.outputs < denoiser.inputs < guide.outputs + guide.inputs + MIB


def test_residuals_of_sdxl_are_those_of_its_way_down() -> None:
    """Three of 320 numbers for each cell of the latent, one of 320 and two of 640 for a quarter of them, one of 640 and
    two of 1280 for a sixteenth, and the middle's, in 16 bit for both prompts."""
    cells, both = 128 * 128, 2 * 2
    made = both * (3 * 320 * cells + (320 + 2 * 640) * cells // 4 + (640 + 3 * 1280) * cells // 16)
    guide = next(one.made for one in laid("sdxl", "none") if one.stage.component.role == CONTROLNET)
    assert guide is not None
    assert guide.outputs == made


def test_what_it_made_is_there_until_it_has_made_the_next() -> None:
    first, _, later, _ = (one for one in laid("flux.1-dev", "none") if one.stage.phase == "denoise")
    assert first.made is not None
    assert later.kept - first.kept == first.made.outputs


def test_a_callback_keeps_those_of_the_step_before_at_most() -> None:
    for one in laid("sdxl", "none"):
        again = one.stage.call == "controlled" and one.stage.order_known
        assert (one.told > 0) == again
        low, best, high = one.ends
        assert not again or high - best >= one.told > 0
        assert low <= best


def test_the_text_encoder_still_lies_there_when_it_first_runs() -> None:
    """No hook of a sequence sends anything back for it: an H100 held 13.486 GiB with FLUX.1 in Q4_K_S."""
    first, denoiser, later, _ = (one for one in laid("flux.1-dev", "model", "Q4_K_S") if one.stage.phase == "denoise")
    encoder = next(one for one in laid("flux.1-dev", "model", "Q4_K_S") if one.stage.component.name == "text_encoder_2")
    assert first.held.resident > later.held.resident
    assert first.held.resident - encoder.held.resident > 2 * parameters("flux-controlnet-union-pro-2")
    assert denoiser.held.resident == later.held.resident


def test_it_stays_to_the_end_of_the_call_where_others_go() -> None:
    plain = RUNTIME.footprint(ask_for("flux.1-dev", "model")).layout
    assert isinstance(plain, Layout)
    decode, alone = laid("flux.1-dev", "model")[-1], plain.stages[-1]
    more = decode.held.resident - alone.held.resident
    assert more == pytest.approx(2 * parameters("flux-controlnet-union-pro-2"), rel=0.01)


def test_the_picture_that_guides_flux_is_encoded() -> None:
    calls = [(one.stage.component.name, one.stage.call) for one in laid("flux.1-dev", "none")]
    assert calls.index(("vae", "encode")) < calls.index(("controlnet", "forward"))
    assert ("vae", "encode") not in [(one.stage.component.name, one.stage.call) for one in laid("sdxl", "none")]


def seconds(ask: Ask) -> float:
    found = RUNTIME.duration(ask, RUNTIME.footprint(ask))
    assert found is not None
    assert found.seconds is not None
    return found.seconds.best


@pytest.mark.parametrize("mode", ["none", "model", "group-leaf"])
@pytest.mark.parametrize("slug", KNOWN)
def test_it_takes_more_memory_and_time(slug: str, mode: str) -> None:
    plain, guided = ask_for(slug, mode), ask_for(slug, mode, controlnet=True)
    less, more = RUNTIME.footprint(plain), RUNTIME.footprint(guided)
    assert more.cards[0].allocated.best >= less.cards[0].allocated.best
    assert more.host.total.best >= less.host.total.best
    assert seconds(guided) > seconds(plain)


def test_in_mode_model_it_comes_once() -> None:
    """Twenty steps more take their work, and no weights."""
    more = {
        mode: seconds(ask_for("sdxl", mode, controlnet=True, steps=40))
        - seconds(ask_for("sdxl", mode, controlnet=True, steps=20))
        for mode in ("none", "model")
    }
    assert more["model"] == pytest.approx(more["none"], rel=0.01)


def test_its_lines_are_those_that_were_judged() -> None:
    script = RUNTIME.commands(ask_for("flux.1-dev", "group-leaf-stream", controlnet=True))[-1]
    for line in (
        "from diffusers import FluxControlNetPipeline",
        'guide = FluxControlNetModel.from_pretrained("Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0"',
        "controlnet=guide",
        'control_image=load_image("guide.png")',
    ):
        assert line in script


def test_without_offload_it_is_put_on_the_card_as_the_pipeline_is() -> None:
    lines = RUNTIME.commands(ask_for("sdxl", "none", controlnet=True))[-1]
    assert 'torch_dtype=torch.float16).to("cuda")' in lines
    assert '.to("cuda")' not in RUNTIME.commands(ask_for("sdxl", "model", controlnet=True))[-1]


def test_where_none_is_known_it_is_unknown_with_lower_bounds() -> None:
    ask = ask_for("qwen-image", "model", tier="bf16", controlnet=True)
    assert architecture_of(ask).guide is None
    found = RUNTIME.platform(ask)
    assert found is not None
    assert found.verdict is Verdict.UNKNOWN
    assert RUNTIME.platform(ask_for("sdxl", "model", controlnet=True)) is None
