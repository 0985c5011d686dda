"""Packed traces beside a fresh run of the real modules at a size that none of them was made at: every allocation, free
and module in order, to the byte; of most denoisers up to the end of the second block, so that two of them do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from bench.engines.diffusers.building import empty_module, materialize
from bench.engines.diffusers.put_beside import with_controlnet
from bench.engines.diffusers.recipes import ComponentRecipe, recipe
from bench.engines.diffusers.surveys import PipelineRequest, PipelineSurvey, requests_of, shallow
from bench.engines.diffusers.tiny import tiny
from bench.engines.diffusers.traced import RecordedCall, Traced, _Stub
from bench.tracing.recorder import Recording
from fitcheck.models import catalog
from fitcheck.models.families import registry as families
from fitcheck.models.families.pipeline.architecture import CONTROLNET, DENOISER, VAE, PipelineArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, WORKSPACE, Event, trace_of

# of every denoiser that was traced one pipeline
PICTURES = (
    "chroma1-hd", "lumina-2", "pixart-sigma", "flux.1-fill-dev", "flux.2-dev", "qwen-image-edit-2511", "qwen-image-2.1",
    "flux.3-klein", "flux.3-klein-base",
)  # fmt: skip
VIDEOS = (
    "wan2.2-i2v-a14b", "wan2.1-i2v-14b", "hunyuanvideo-1.5", "cogvideox-2b", "cogvideox-5b", "ltx-video-0.9.7-13b",
    "ltx-2.3", "hunyuanvideo", "minimax-h3",
)  # fmt: skip
# compared to the end: small ones, and one whose tables hang on the number of blocks
WHOLE = ("lumina-2", "chroma1-hd", "cogvideox-2b")
# whose pictures another class takes
APART = ("ltx-2.3", "wan2.2-ti2v-5b")
# a few bytes of HunyuanVideo's mask of the prompt and one token of LTX-2.3's sound are counted otherwise at some sizes:
# the larger tensors are compared, in all
ROUGHLY = {"hunyuanvideo": 0.001, "ltx-2.3": 0.001}
SMALL = 64 << 10
_KINDS = {"+": ALLOCATE, "-": FREE, "in": ENTER, "out": LEAVE, "w": WORKSPACE}


def request_of(slug: str, *, given: bool) -> PipelineRequest:
    """A size between those that the trace was fitted on, and for videos more frames."""
    like = next(one for one in requests_of(recipe(slug, given)) if (one.reference is not None) == given)
    unit = like.width // (4 if recipe(slug).video else 8)
    width, height = (unit * 5, unit * 6) if recipe(slug).video else (unit * 11, unit * 9)
    arch = recipe(slug).architecture
    frames = arch.frames_from(141 if arch.duration else 10 * arch.vae_scale_temporal + 1) if recipe(slug).video else 1
    reference = (width, height) if given and not recipe(slug).architecture.references.always else like.reference
    return replace(like, width=width, height=height, frames=frames, reference=reference)


def fresh(slug: str, request: PipelineRequest, until: str = "vae") -> list[tuple[RecordedCall, dict[str, int]]]:
    """What denoiser and autoencoder do, with the sizes that the trace knows."""
    found = recipe(slug, request.reference is not None)
    roles = {one.name: one.role for one in found.architecture.components}
    whole = (DENOISER,) if slug in WHOLE else ()
    parts = {name: part if roles[name] in whole else shallow(part) for name, part in found.parts.items()}
    survey = PipelineSurvey(found)
    matter = {name for name, role in roles.items() if role in (DENOISER, VAE)}
    calls = Traced(replace(found, parts=parts)).calls(request.text, until, matter, **survey.arguments(request))
    return [(one, survey.sizes(one, request)) for one in calls if one.component in matter]


def as_events(recording: Recording) -> list[tuple[int, Any]]:
    return [(_KINDS[kind], value) for kind, value in recording.events]


def flat(events: list[Event]) -> list[tuple[int, Any]]:
    return [(one.kind, one.path if one.kind in (ENTER, LEAVE) else one.value) for one in events]


def made(events: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Without frees: caches of an earlier call go a step earlier or later."""
    return [one for one in events if one[0] != FREE]


def peak(events: list[tuple[int, Any]]) -> int:
    """Most bytes alive at once."""
    sizes, live, top = list[int](), 0, 0
    for kind, value in events:
        if kind == ALLOCATE:
            sizes.append(value)
            live += value
            top = max(top, live)
        elif kind == FREE:
            live -= sizes[value]
    return top


def beginning(events: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Up to the entry of a third block, or of what follows the second."""
    blocks = [value for kind, value in events if kind == ENTER and value.rpartition(".")[2].isdecimal()]
    firsts = [value for value in blocks if value.endswith(".0")]
    first = next((value for value in firsts if value.count(".") == 1), firsts[0]).removesuffix("0")
    return events[: max(at for at, (kind, value) in enumerate(events) if (kind, value) == (LEAVE, f"{first}1"))]


def copying(events: list[tuple[int, Any]], uncopied: tuple[str, ...]) -> list[tuple[int, Any]]:
    """Without the copies of convolutions that make none."""
    inside: list[str] = []
    found = []
    for kind, value in events:
        if kind == ENTER:
            inside.append(value)
        elif kind == LEAVE:
            inside.pop()
        if kind != WORKSPACE or not any(part in inside[-1] for part in uncopied):
            found.append((kind, value))
    return found


def large(events: list[tuple[int, Any]]) -> list[int]:
    """Sizes of the tensors that weigh, in order."""
    return [value for kind, value in events if kind == ALLOCATE and value > SMALL]


@pytest.mark.parametrize(
    ("slug", "given"),
    [
        *((slug, bool(recipe(slug).style.pictures)) for slug in (*PICTURES, *VIDEOS)),
        *((slug, True) for slug in APART),
        ("qwen-image-2.1", False),
    ],
)
def test_a_trace_says_of_a_new_size_what_a_run_does(slug: str, given: bool) -> None:
    compared = set()
    for call, sizes in fresh(slug, request_of(slug, given=given)):
        component = recipe(slug).architecture.component(call.component)
        found = trace_of(component.trace, component.dtype)
        if found is None or (component.role == DENOISER and call.shapes[0][0] != sizes["batch"]):
            continue  # LTX-2.3 guides by a smaller call beside the one of both prompts, which the estimate goes by
        said = found.call(call.method, sizes)
        told, seen = flat(list(said.events(sizes))), copying(as_events(call.recording), said.uncopied_of(sizes))
        assert said.total("inputs", sizes) == pytest.approx(call.recording.inputs, rel=ROUGHLY.get(slug, 0))
        if component.role == DENOISER and slug in ROUGHLY:
            mine, theirs = large(beginning(told)), large(beginning(seen))
            assert len(mine) == len(theirs), call.component
            assert sum(mine) == pytest.approx(sum(theirs), rel=ROUGHLY[slug]), call.component
        elif shallow(recipe(slug, given).parts[call.component]) != recipe(slug, given).parts[call.component] and (
            slug not in WHOLE
        ):
            assert beginning(told) == beginning(seen), call.component
        else:
            assert made(told) == made(seen), (call.component, call.method)
            assert peak(told) == peak(seen)
            assert said.total("flops", sizes) == call.recording.flops
        compared.add(component.role)
    assert DENOISER in compared


@pytest.mark.parametrize("slug", ["flux.1-dev", "sd1.5"])
def test_a_trace_with_a_controlnet_says_of_a_new_size_what_a_run_does(slug: str) -> None:
    found, request = with_controlnet(recipe(slug)), request_of(slug, given=False)
    parts = {name: shallow(part) for name, part in found.parts.items()}
    survey = PipelineSurvey(found)
    denoiser = found.denoisers[0]
    calls = Traced(replace(found, parts=parts)).calls(
        request.text, denoiser, (CONTROLNET, denoiser), **survey.arguments(request)
    )
    compared = []
    for call in calls:
        if call.component not in (CONTROLNET, denoiser):
            continue
        component, sizes = found.architecture.component(call.component), survey.sizes(call, request)
        packed = trace_of(component.trace, component.dtype)
        assert packed is not None
        said = packed.call(call.method, sizes)
        told, seen = flat(list(said.events(sizes))), copying(as_events(call.recording), said.uncopied_of(sizes))
        assert said.total("inputs", sizes) == call.recording.inputs
        if parts[call.component] == found.parts[call.component]:
            assert made(told) == made(seen)
            assert said.total("outputs", sizes) == call.recording.outputs
            assert said.total("flops", sizes) == call.recording.flops
        else:
            assert beginning(told) == beginning(seen)
        compared.append((call.component, call.method))
    assert compared == [(CONTROLNET, "forward"), (denoiser, "controlled")]


def test_a_trace_of_one_picture_size_says_of_fewer_frames_what_a_run_does() -> None:
    slug = "cogvideox-5b-i2v"
    like = requests_of(recipe(slug))[0]
    request = replace(like, frames=37)  # between those that were traced
    assert request.frames not in {one.frames for one in requests_of(recipe(slug))}
    call, sizes = next(one for one in fresh(slug, request, "transformer") if one[0].component == "transformer")
    component = recipe(slug).architecture.component("transformer")
    found = trace_of(component.trace, component.dtype)
    assert found is not None
    said = found.call(call.method, sizes)
    assert beginning(flat(list(said.events(sizes)))) == beginning(as_events(call.recording))
    assert said.total("inputs", sizes) == call.recording.inputs


def test_a_picture_of_another_shape_takes_what_the_square_one_took() -> None:
    # HiDream brings every picture to one area and pads its tokens to one number
    slug = "hidream-i1"
    like = requests_of(recipe(slug))[0]
    peaks = []
    for width, height in ((like.width, like.height), (1248, 832)):
        request = replace(like, width=width, height=height)
        call, _ = next(one for one in fresh(slug, request, "transformer") if one[0].component == "transformer")
        peaks.append(call.recording.peak())
    assert peaks[1] == pytest.approx(peaks[0], rel=0.001)


def test_minimax_h3_packs_what_the_catalog_says() -> None:
    # one sequence of prompt, video and both channels of sound; one clip of the video at a time
    slug = "minimax-h3"
    request = requests_of(recipe(slug))[0]
    found = {call.component: (call, sizes) for call, sizes in fresh(slug, request, "vae")}
    call, sizes = found["transformer"]
    video, sound, text, *_ = call.shapes
    assert (video[1], sound[1], text[1]) == (sizes["tokens"], sizes["sound"], sizes["text"])
    assert (found["vae"][0].method, found["vae"][1]["frames"]) == ("decode", 7)


@pytest.mark.parametrize(("width", "height", "frames"), [(448, 320, 124), (256, 192, 124), (320, 512, 158)])
def test_a_decode_in_clips_and_tiles_holds_what_its_stages_say(width: int, height: int, frames: int) -> None:
    """The whole decode of an autoencoder without layers, whose tiles are as large as the real one's, by torch's own
    allocator; what the layers make within a tile is the trace's."""
    small = tiny(recipe("minimax-h3"))
    arch = small.architecture
    workload = Workload(Task.T2V, width, height, 25, 1.0, frames=frames)
    (stage,) = (one for one in stages_of(arch, workload, Offload("none")) if one.component.role == VAE)
    outputs = 3 * 28 * stage.sizes["width"] * stage.sizes["height"] * 16**2 * 2
    latent = torch.zeros(1, 24, arch.latent_frames(frames), height // 16, width // 16, dtype=torch.bfloat16)
    module: Any = real_module(small.parts["vae"])
    module.decoder.forward = lambda z: torch.zeros(1, 3, 28, 16 * z.shape[-2], 16 * z.shape[-1], dtype=torch.bfloat16)
    with torch.no_grad():
        real = allocated_by(lambda: module.decode(latent, return_dict=False))
    assert real == pytest.approx(stage.joined * outputs, rel=0.005)
    pixels = torch.zeros(1, 3, frames, height, width, dtype=torch.bfloat16)
    finished = allocated_by(lambda: (pixels.float() * torch.ones(1, 3, 1, 1, 1) + 1.0).clamp(0, 1))
    both = pixels.numel() * pixels.element_size() + finished
    assert both == pytest.approx(stage.finished * (1 + 2 * arch.finished_in) * outputs, rel=0.001)


@pytest.mark.parametrize(("once", "stacks"), [(True, True), (False, True), (True, False)])
def test_states_that_are_stacked_and_do_not_matter_come_back_without_memory(once: bool, stacks: bool) -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        module = torch.nn.Linear(8, 8)
    style = replace(recipe("ltx-2.3").style, stacks=stacks)
    stub = _Stub(mode, module, "text_encoder", "forward", module.forward, [], "", {}, once, style)
    with torch.no_grad():
        states = torch.stack([stub(torch.zeros(4, 8))] * 3)
    assert isinstance(states, FakeTensor) == (once and stacks)
    assert (states.shape, states.dtype) == ((3, 4, 8), torch.float32)


def real_module(part: ComponentRecipe) -> Any:
    """The component with weights of zeros."""
    module = empty_module(part)
    materialize(part, module, lambda _, one, dtype: torch.zeros(one.shape, dtype=dtype))
    return module


def allocated_by(run: Callable[[], object]) -> int:
    """Most bytes that torch had allocated at once on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    live = top = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            top = max(top, live)
    return top


def test_every_new_trace_is_compared() -> None:
    denoisers = {
        one.trace for slug in (*PICTURES, *VIDEOS) for one in recipe(slug).architecture.of_role_or_name(DENOISER)
    }
    before = {"flux-transformer-guidance", "flux-transformer", "sdxl-unet", "sd15-unet", "qwen-image-transformer",
              "z-image-transformer", "wan-14b-transformer", "wan-5b-transformer", "wan-1.3b-transformer",
              "flux2-klein-4b-transformer", "flux2-klein-9b-transformer", "krea2-transformer",
              "sd3.5-large-transformer", "sd3.5-medium-transformer"}  # fmt: skip
    one_size = {"hidream-i1-transformer", "cogvideox-5b-i2v-transformer"}
    for slug in families.get("pipeline").slugs():
        shape = catalog.get(slug).architecture
        assert isinstance(shape, PipelineArchitecture)
        traced = {one.trace for one in shape.of_role_or_name(DENOISER) if trace_of(one.trace, one.dtype) is not None}
        assert traced <= denoisers | before | one_size, slug
