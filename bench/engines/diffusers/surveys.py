"""At which sizes a pipeline is traced, and in which variables the bytes of its components are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.engines.diffusers.recipes import ComponentRecipe, Recipe
from bench.engines.diffusers.traced import Traced
from bench.tracing.packing import Loop
from bench.tracing.recorder import Recording

Term = tuple[int, ...]
# a denoiser of tokens: fused attention makes bytes linear in them, its operations quadratic; positions are made by side
TOKENS = ("batch", "tokens", "text", "height", "width", "frames")
_LINEAR: list[Term] = [(0, 0, 0, 0, 0), *(tuple(int(i == j) for j in range(5)) for i in range(5))]
_SQUARE: list[Term] = [(2, 0, 0, 0, 0), (1, 1, 0, 0, 0), (0, 2, 0, 0, 0)]
TOKEN_TERMS: list[Term] = [(batch, *term) for batch in (1, 0) for term in _LINEAR + _SQUARE]
TEXT = ("batch", "text")
TEXT_TERMS: list[Term] = [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1), (0, 2)]
PIXELS = ("batch", "height", "width", "frames")
PIXEL_TERMS: list[Term] = [
    *((b, h, w, f) for f in (0, 1) for b in (1, 0) for h, w in ((1, 1), (0, 0), (1, 0), (0, 1))),
    (1, 2, 2, 0),
]


Found = dict[tuple[str, str], list[tuple[dict[str, int], Recording]]]
# settings that count blocks of a kind; two of each are enough to see what each size takes
_DEPTHS = ("num_layers", "num_single_layers", "n_layers", "num_hidden_layers")
# whose calls ask for layers by their number, or whose settings of blocks hang together
_WHOLE = ("Qwen3ForCausalLM", "SD3Transformer2DModel", "UNet2DConditionModel", "CLIPTextModel",
          "CLIPTextModelWithProjection", "Qwen3VLModel")  # fmt: skip
FEW = 2


def shallow(part: ComponentRecipe) -> ComponentRecipe:
    """The component with few blocks of each kind."""
    return part if part.cls in _WHOLE else replace(part, config=_cut(part.config))


def _cut(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: FEW if name in _DEPTHS and isinstance(value, int)
        else _cut(value) if name == "text_config" and isinstance(value, Mapping)
        else value
        for name, value in config.items()
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class PipelineRequest:
    """One call of the pipeline; ``text`` counts the prompt's tokens with its template."""

    width: int
    height: int
    frames: int = 1
    batch: int = 1
    text: int = 512


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
            other = next((one for one in reversed(requests) if one.text != requests[0].text), requests[-1])
            self._trace(Traced(self.recipe), [requests[0], other], cut, self.whole)

    def _trace(self, traced: Traced, requests: list[PipelineRequest], wanted: tuple[str, ...], found: Found) -> None:
        for request in requests:
            for call in traced.calls(request.text, wanted[-1], **self._arguments(request)):
                if call.component in wanted:
                    sizes = self.sizes(call.component, request)
                    found.setdefault((call.component, call.method), []).append((sizes, call.recording))

    def _arguments(self, request: PipelineRequest) -> dict[str, Any]:
        call = self.recipe.call(request.text)
        if "negative_prompt" in call:
            call["negative_prompt"] = [call["negative_prompt"]] * request.batch
        if self.recipe.video:
            call["num_frames"] = request.frames
        return {"prompt": ["x"] * request.batch, "width": request.width, "height": request.height,
                "num_inference_steps": 2, "output_type": "pt", **call}  # fmt: skip

    def sizes(self, component: str, request: PipelineRequest) -> dict[str, int]:
        """The variables of a component for a request."""
        shape = self.recipe.architecture
        if component.startswith("text_encoder"):
            return {"batch": request.batch, "text": request.text}
        frames = shape.latent_frames(request.frames)
        pixels = {
            "height": request.height // shape.vae_scale_spatial,
            "width": request.width // shape.vae_scale_spatial,
            "frames": frames,
        }
        if component == "vae":
            return {"batch": request.batch, **pixels}
        doubled = shape.guidance == "batched" and float(self.recipe.style.call.get("guidance_scale", 1.0)) > 1
        return {
            "batch": request.batch * (2 if doubled else 1),
            "tokens": shape.image_tokens(request.width, request.height, request.frames),
            "text": request.text - self.hidden,
            **pixels,
        }

    @property
    def hidden(self) -> int:
        """Tokens of the template that the denoiser does not see."""
        return max(0, self.recipe.text - self.recipe.architecture.text_tokens)


_SIDES = (
    (8, 8), (12, 8), (16, 12), (8, 20), (20, 12), (16, 16), (24, 8), (12, 24), (10, 14), (28, 10), (14, 18),
)  # fmt: skip


def requests_of(recipe: Recipe) -> list[PipelineRequest]:
    """Enough sizes to tell every term apart, and more to check with."""
    shape = recipe.architecture
    unit = max(64, shape.size_multiple) if shape.vae_scale_spatial <= 8 else 128
    lengths = tuple(recipe.text - cut for cut in ((0, 32, 64, 128, 96) if recipe.text > 128 else (0,)))
    if recipe.video:
        return list(_videos(lengths, unit, shape.vae_scale_temporal))
    found = [
        PipelineRequest(w * unit, h * unit, 1, 1, lengths[i * 3 % len(lengths)]) for i, (w, h) in enumerate(_SIDES)
    ]
    if shape.guidance == "batched":
        found += [
            PipelineRequest(w * unit, h * unit, 1, 2, lengths[i % len(lengths)]) for i, (w, h) in enumerate(_SIDES[:5])
        ]
    return found


def _videos(lengths: tuple[int, ...], unit: int, temporal: int) -> Iterator[PipelineRequest]:
    sides = ((4, 4), (6, 4), (4, 8), (8, 6), (6, 6), (10, 4), (4, 12), (8, 8), (10, 6), (6, 10), (14, 4), (4, 10))
    for index, (width, height) in enumerate(sides):
        frames = temporal * (5 + index % 3) + 1
        yield PipelineRequest(width * unit, height * unit, frames, 1, lengths[index % len(lengths)])


LOOPS: Mapping[str, Loop] = {"AutoencoderKLWan": Loop("decoder", "frames", first=3)}
