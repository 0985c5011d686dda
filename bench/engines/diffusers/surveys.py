"""At which sizes a pipeline is traced, and in which variables the bytes of its components are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from bench.engines.diffusers.recipes import ComponentRecipe, Recipe
from bench.engines.diffusers.traced import RecordedCall, Traced
from bench.tracing.packing import Loop
from bench.tracing.recorder import Recording
from fitcheck.models.families.pipeline.architecture import AUDIO, CONNECTOR, IMAGE_ENCODER, TEXT_ENCODER, VAE
from fitcheck.models.workload import Task

Term = tuple[int, ...]
# a denoiser of tokens: fused attention makes bytes linear in them, its operations quadratic; positions are made by side
TOKENS = ("batch", "tokens", "text", "height", "width", "frames", "sound")
_LINEAR: list[Term] = [(0, 0, 0, 0, 0, 0), *(tuple(int(i == j) for j in range(6)) for i in range(6))]
_SQUARE: list[Term] = [
    (2, 0, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0), (0, 2, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 2), (1, 0, 0, 0, 0, 1), (0, 1, 0, 0, 0, 1),
    (0, 0, 1, 1, 0, 0), (0, 0, 2, 0, 0, 0), (0, 0, 0, 2, 0, 0),
]  # fmt: skip
TOKEN_TERMS: list[Term] = [(batch, *term) for batch in (1, 0) for term in _LINEAR + _SQUARE]
# of a denoiser that keeps keys and values of the prompt: a mask for each stretch of text
PREFIXED = ("batch", "tokens", "text", "seen", "height", "width")
PREFIXED_TERMS: list[Term] = [
    (batch, *term) for batch in (1, 0) for term in (
        (0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 1, 1), (0, 0, 0, 1, 0),
        (0, 0, 0, 0, 1), (0, 2, 0, 0, 0), (0, 1, 1, 0, 0), (0, 0, 2, 0, 0),
    )
]  # fmt: skip
# ``seen`` are tokens of pictures among the text
TEXT = ("batch", "text", "seen")
TEXT_TERMS: list[Term] = [(1, 0, 0), (1, 1, 0), (1, 2, 0), (1, 0, 1), (1, 0, 2), (0, 0, 0), (0, 1, 0), (0, 2, 0)]
SOUND = ("batch", "sound")
SOUND_TERMS: list[Term] = [(1, 1), (1, 0), (0, 0), (0, 1)]
PIXELS = ("batch", "height", "width", "frames")
PIXEL_TERMS: list[Term] = [
    *((b, h, w, f) for f in (0, 1) for b in (1, 0) for h, w in ((1, 1), (0, 0), (1, 0), (0, 1))),
    (1, 2, 2, 0), (1, 2, 2, 2),
]  # fmt: skip


Found = dict[tuple[str, str], list[tuple[dict[str, int], Recording]]]
# settings that count blocks of a kind; two of each are enough to see what each size takes
_DEPTHS = ("num_layers", "num_single_layers", "n_layers", "num_hidden_layers", "decoder_num_layers")
# whose calls ask for layers by their number, or whose settings of blocks hang together
_WHOLE = ("Qwen3ForCausalLM", "SD3Transformer2DModel", "UNet2DConditionModel", "ControlNetModel", "CLIPTextModel",
          "CLIPTextModelWithProjection", "Qwen3VLModel", "Gemma3ForConditionalGeneration",
          "FluxControlNetModel",  # as many results as blocks, which the denoiser is handed
          "LlamaForCausalLM", "qwen3-vl-4b", "qwen3-vl-32b")  # fmt: skip
FEW = 2


def shallow(part: ComponentRecipe) -> ComponentRecipe:
    """The component with few blocks of each kind."""
    return part if part.cls in _WHOLE or part.trace in _WHOLE else replace(part, config=_cut(part.config))


def _cut(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: FEW if name in _DEPTHS and isinstance(value, int)
        else value[: 2 * FEW] if name == "llama_layers"  # one for each block of both kinds
        else _cut(value) if name == "text_config" and isinstance(value, Mapping)
        else value
        for name, value in config.items()
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class PipelineRequest:
    """One call of the pipeline; ``text`` counts the prompt's tokens with its template, ``reference`` is the size of the
    picture handed in."""

    width: int
    height: int
    frames: int = 1
    batch: int = 1
    text: int = 512
    reference: tuple[int, int] | None = None


@dataclass(slots=True)
class PipelineSurvey:
    """A pipeline at several requests: recordings by component and method, with their sizes; ``whole`` are those of all
    blocks, where ``found`` has few."""

    recipe: Recipe
    found: Found = field(default_factory=dict)
    whole: Found = field(default_factory=dict)

    def run(self, requests: list[PipelineRequest], wanted: tuple[str, ...]) -> None:
        """Traces every request with few blocks of each kind, and two of them with all: what blocks repeat need not be
        traced at every size."""
        few = {name: shallow(part) for name, part in self.recipe.parts.items()}
        cut = tuple(name for name in wanted if few[name] != self.recipe.parts[name])
        self._trace(Traced(replace(self.recipe, parts=few)), requests, wanted, self.found)
        if cut:
            self._trace(Traced(self.recipe), list(_ends(requests)), cut, self.whole)

    def _trace(self, traced: Traced, requests: list[PipelineRequest], wanted: tuple[str, ...], found: Found) -> None:
        for request in requests:
            for call in traced.calls(request.text, wanted[-1], **self.arguments(request)):
                if call.component in wanted:
                    sizes = self.sizes(call, request)
                    found.setdefault((call.component, call.method), []).append((sizes, call.recording))

    def arguments(self, request: PipelineRequest) -> dict[str, Any]:
        """What the pipeline is called with."""
        style, call = self.recipe.style, self.recipe.call(request.text)
        if "negative_prompt" in call:
            call["negative_prompt"] = [call["negative_prompt"]] * request.batch
        if self.recipe.video:
            call["num_frames"] = request.frames
        if self.recipe.guide:
            call[self.recipe.guide] = Image.new("RGB", (request.width, request.height))
        if request.reference is not None:
            picture = Image.new("RGB", request.reference)
            call |= {name: [picture] if style.listed else picture for name in style.pictures}
        prompt = style.prompt if style.modular else [style.prompt] * request.batch
        return {"prompt": prompt, "width": request.width, "height": request.height,
                "num_inference_steps": 2, "output_type": "pt", **call}  # fmt: skip

    def sizes(self, call: RecordedCall, request: PipelineRequest) -> dict[str, int]:
        """The variables of a call that a request led to."""
        shape, role = self.recipe.architecture, self.recipe.architecture.component(call.component).role
        handed = request.reference
        if role in (TEXT_ENCODER, CONNECTOR):
            seen = 0 if handed is None else shape.references.seen(*handed)
            text = {"batch": call.shapes[0][0], "text": call.shapes[0][1], "seen": seen}
            return {**text, "pictures": int(seen > 0)}
        if role == IMAGE_ENCODER:
            return {"batch": request.batch, "text": 1, "seen": 0}
        if call.method == "encode":
            return {"batch": request.batch, **self._latent(call.shapes[0])}
        pixels = {
            "height": request.height // shape.vae_scale_spatial,
            "width": request.width // shape.vae_scale_spatial,
            "frames": shape.latent_frames(request.frames),
        }
        if role == VAE:
            latent = call.shapes[0]
            frames = latent[2] if len(latent) == 5 else 1
            return {"batch": latent[0], "height": latent[-2], "width": latent[-1], "frames": frames}
        if role == AUDIO:
            return {"batch": request.batch, **pixels, "sound": shape.sound(request.frames)}
        doubled = shape.guidance == "batched" and float(self.recipe.style.call.get("guidance_scale", 1.0)) > 1
        seen = 0 if handed is None else shape.references.seen(*handed)
        edits = () if handed is None or Task.EDITING not in shape.tasks else (handed,)
        return {
            "batch": request.batch * (2 if doubled else 1),
            "tokens": shape.tokens_with(request.width, request.height, request.frames, edits),
            "text": self._text(request) + seen,
            "seen": seen,
            **pixels,
            "sound": shape.sound(request.frames),
            "pictures": int(handed is not None),
        }

    def _text(self, request: PipelineRequest) -> int:
        """Tokens of the prompt that the denoiser sees: of other encoders too, whose number does not change."""
        recipe = self.recipe
        others = max(0, recipe.architecture.text_tokens - recipe.text * recipe.style.parts)
        tokens = -(-request.text // recipe.style.multiple) * recipe.style.multiple
        return tokens * recipe.style.parts - recipe.hidden + others

    def _latent(self, pixels: tuple[int, ...]) -> dict[str, int]:
        shape, (height, width) = self.recipe.architecture, pixels[-2:]
        frames = pixels[2] if len(pixels) == 5 else 1
        return {
            "height": height // shape.vae_scale_spatial,
            "width": width // shape.vae_scale_spatial,
            "frames": shape.latent_frames(frames),
        }


def _ends(requests: list[PipelineRequest]) -> Iterator[PipelineRequest]:
    """Of the requests with and without pictures, two whose prompts differ in length where any do."""
    for given in (False, True):
        some = [one for one in requests if (one.reference is not None) == given]
        if some:
            first = some[0]
            yield first
            yield max(some[1:] or some, key=lambda one: (one.text != first.text, one.width != one.height, one.width))


_SIDES = (
    (8, 8), (12, 8), (16, 12), (8, 20), (20, 12), (16, 16), (24, 8), (12, 24), (10, 14), (28, 10), (14, 18),
)  # fmt: skip
# results and pictures are of two sizes then
_MORE_SIDES = ((22, 8), (8, 26), (18, 16))
_CLIPS = (
    (4, 4), (6, 4), (4, 8), (8, 6), (6, 6), (10, 4), (4, 12), (8, 8), (10, 6), (6, 10), (14, 4), (4, 10), (12, 6),
    (6, 14), (8, 10), (12, 7),
)  # fmt: skip
_MORE_CLIPS = ((5, 9), (9, 5), (7, 7), (11, 4), (5, 13), (13, 8))
_RATIOS = ((1, 1), (4, 3), (1, 1), (3, 4), (1, 1), (16, 9), (1, 1), (9, 16), (1, 1), (3, 2), (2, 1))


def requests_of(recipe: Recipe) -> list[PipelineRequest]:
    """Enough sizes to tell every term apart, and more to check with."""
    shape = recipe.architecture
    unit = max(64, shape.size_multiple) if shape.vae_scale_spatial <= 8 else 128
    cuts = (
        (0,)
        if recipe.style.fixed or recipe.text < 128
        else (0, 32, 64, 128, 96)
        if recipe.text > 128
        else (0, 16, 32, 8)
    )
    step = recipe.style.multiple
    lengths = tuple(recipe.text - cut if step == 1 else recipe.text + step * (i - 1) for i, cut in enumerate(cuts))
    if recipe.style.one_size:
        usual = shape.defaults
        # a table of positions of one picture's size may still serve fewer frames
        counts = range(usual.frames, 1, -2 * shape.vae_scale_temporal) if recipe.video else (1,)
        return _given(recipe, [PipelineRequest(usual.width, usual.height, one, 1, recipe.text) for one in counts])
    if shape.frame_chunk:
        return _given(recipe, list(_chunked(lengths, shape.size_multiple, shape.frame_chunk)))
    if recipe.video:
        pairs = any(
            (part.cls, "decode") in LOOPS and LOOPS[part.cls, "decode"].every > 1 for part in recipe.parts.values()
        )
        fewest = recipe.style.stretch - 2 if recipe.style.stretch else 9 if pairs else 6
        return _given(recipe, list(_videos(lengths, unit, shape.vae_scale_temporal, fewest, 2 if pairs else 1)))
    sides = _SIDES + (_MORE_SIDES if len({Task.T2I, Task.EDITING} & set(shape.tasks)) > 1 else ())
    found = [PipelineRequest(w * unit, h * unit, 1, 1, lengths[i * 3 % len(lengths)]) for i, (w, h) in enumerate(sides)]
    if shape.guidance == "batched":
        found += [
            PipelineRequest(w * unit, h * unit, 1, 2, lengths[i % len(lengths)]) for i, (w, h) in enumerate(_SIDES[:5])
        ]
    return _given(recipe, found)


def _given(recipe: Recipe, requests: list[PipelineRequest]) -> list[PipelineRequest]:
    """The requests with pictures handed in, for a pipeline that needs one; beside those without for one that may."""
    if not recipe.style.pictures:
        return requests
    shape = recipe.architecture
    found = []
    for index, request in enumerate(requests):
        width, height = request.width, request.height
        if shape.references.always:
            across, down = _RATIOS[index % len(_RATIOS)]
            width, height = 96 * across, 96 * down
        found.append(replace(request, reference=(width, height)))
    return found if recipe.needs_pictures else requests + found


# of a pipeline that makes no shorter ones
_LONG = 7


def _chunked(lengths: tuple[int, ...], unit: int, chunk: tuple[int, int, int]) -> Iterator[PipelineRequest]:
    """Videos of five whole numbers of chunks: latents of their sound are rounded, so that three lie on one line."""
    for index, (width, height) in enumerate(_CLIPS + _MORE_CLIPS):
        frames = chunk[0] * (_LONG + (2 * index + index // len(lengths)) % 5) + chunk[1]
        yield PipelineRequest(width * unit, height * unit, frames, 1, lengths[index % len(lengths)])


def _videos(lengths: tuple[int, ...], unit: int, temporal: int, fewest: int, step: int) -> Iterator[PipelineRequest]:
    """Videos of three numbers of latent frames, the ``fewest`` and ``step`` and twice that more: of latents that are
    decoded two by two it takes more to see what repeats."""
    for index, (width, height) in enumerate(_CLIPS):
        frames = temporal * (fewest - 1 + step * (index % 3)) + 1
        yield PipelineRequest(width * unit, height * unit, frames, 1, lengths[index % len(lengths)])


LOOPS: Mapping[tuple[str, str], Loop] = {
    ("AutoencoderKLWan", "decode"): Loop("decoder", "frames", first=3),
    ("AutoencoderKLWan", "encode"): Loop("encoder", "frames", first=3),
    ("AutoencoderKLCogVideoX", "decode"): Loop("decoder", "frames", first=2, every=2, rest=1),
}
