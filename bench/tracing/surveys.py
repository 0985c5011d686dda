"""At which sizes a pipeline is traced, and in which variables the bytes of its components are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from bench.engines.diffusers.recipes import Recipe
from bench.tracing.packing import Loop
from bench.tracing.pipelines import Traced
from bench.tracing.recorder import Recording

Term = tuple[int, ...]
# a denoiser of tokens: fused attention makes bytes linear in them, its operations quadratic
TOKENS = ("batch", "tokens", "text")
_PLAIN = [(0, 0, 0), (0, 1, 0), (0, 0, 1)]
TOKEN_TERMS: list[Term] = [
    *((1, *rest) for _, *rest in _PLAIN), *_PLAIN, (1, 2, 0), (1, 1, 1), (1, 0, 2), (0, 2, 0), (0, 1, 1), (0, 0, 2),
]  # fmt: skip
TEXT = ("batch", "text")
TEXT_TERMS: list[Term] = [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1), (0, 2)]
PIXELS = ("batch", "height", "width", "frames")
PIXEL_TERMS: list[Term] = [
    (b, h, w, f) for f in (0, 1) for b in (1, 0) for h, w in ((1, 1), (0, 0), (1, 0), (0, 1))
] + [(1, 2, 2, 0), (1, 2, 2, 1), (1, 2, 2, 2), (1, 1, 1, 2)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scales:
    """Pixels of a latent pixel and of a token, frames of a latent frame; ``hidden`` are tokens of the prompt's template
    that the denoiser does not see, ``doubled`` says that guidance doubles the batch."""

    latent: int = 8
    token: int = 16
    temporal: int = 4
    hidden: int = 0
    doubled: bool = False
    padded_text: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the pipeline."""

    width: int
    height: int
    frames: int = 1
    batch: int = 1
    text: int = 512


@dataclass(slots=True)
class Survey:
    """A pipeline at several requests: recordings by component and method, with their sizes."""

    recipe: Recipe
    scales: Scales
    found: dict[tuple[str, str], list[tuple[dict[str, int], Recording]]] = field(default_factory=dict)

    def run(self, requests: list[Request], wanted: tuple[str, ...]) -> None:
        """Traces every request; what has been traced at the same sizes is not kept twice."""
        traced = Traced(self.recipe)
        # the first call may fill caches that later ones read, a table of rotations for one: it is not kept
        for position, request in enumerate([requests[0], *requests]):
            last = wanted[-1]
            for call in traced.calls(request.text, last, **self._arguments(request)):
                sizes = self.sizes(call.component, request)
                rows = self.found.setdefault((call.component, call.method), [])
                if position and call.component in wanted and all(sizes != other for other, _ in rows):
                    rows.append((sizes, call.recording))

    def _arguments(self, request: Request) -> dict[str, Any]:
        call = self.recipe.call(request.text)
        if "negative_prompt" in call:
            call["negative_prompt"] = [call["negative_prompt"]] * request.batch
        if self.recipe.video:
            call["num_frames"] = request.frames
        return {"prompt": ["x"] * request.batch, "width": request.width, "height": request.height,
                "num_inference_steps": 2, "output_type": "pt", **call}  # fmt: skip

    def sizes(self, component: str, request: Request) -> dict[str, int]:
        """The variables of a component for a request."""
        latent, token = self.scales.latent, self.scales.token
        frames = (request.frames - 1) // self.scales.temporal + 1
        if component.startswith("text_encoder"):
            return {"batch": request.batch, "text": request.text}
        pixels = {"height": request.height // latent, "width": request.width // latent}
        if component == "vae":
            return {"batch": request.batch, "frames": frames, **pixels}
        batch = request.batch * (2 if self.scales.doubled else 1)
        tokens = (request.width // token) * (request.height // token) * frames
        return {"batch": batch, "tokens": tokens, "text": request.text - self.scales.hidden, "frames": frames, **pixels}


def requests_of(video: bool, texts: tuple[int, ...], unit: int = 64) -> list[Request]:
    """Enough sizes to tell every term apart, and more to check with."""
    small, middle, large, last = (
        (8 * unit, 8 * unit),
        (12 * unit, 8 * unit),
        (16 * unit, 12 * unit),
        (8 * unit, 20 * unit),
    )
    if video:
        return list(_video(texts, unit))
    one, two, three = (*texts, *texts[-1:] * 2)[:3]
    return [
        Request(*small, text=one), Request(*middle, text=one), Request(*large, text=one), Request(*last, text=one),
        Request(*small, text=two), Request(*middle, text=three), Request(*last, text=two),
        Request(*small, text=one, batch=2), Request(*middle, text=two, batch=2), Request(*large, text=three, batch=2),
        Request(*last, text=one, batch=2), Request(*small, text=three, batch=3), Request(*large, text=two, batch=3),
    ]  # fmt: skip


def _video(texts: tuple[int, ...], unit: int) -> Iterator[Request]:
    for index, (size, frames) in enumerate(product(((4, 4), (6, 4), (4, 8), (8, 6)), (17, 25))):
        yield Request(size[0] * unit, size[1] * unit, frames, 1, texts[index % len(texts)])
    for index, (size, frames) in enumerate(product(((4, 4), (6, 4)), (17, 25))):
        yield Request(size[0] * unit, size[1] * unit, frames, 2, texts[index % len(texts)])


LOOPS: Mapping[str, Loop] = {
    "AutoencoderKLWan": Loop("decoder", "frames"),
}
SCALES: Mapping[str, Scales] = {
    "flux.1-dev": Scales(),
    "sdxl": Scales(token=8, doubled=True),
    "qwen-image": Scales(hidden=34),
    "z-image-turbo": Scales(padded_text=512),
    "wan2.2-ti2v-5b": Scales(latent=16, token=32),
    "wan2.2-t2v-a14b": Scales(),
    "flux.2-klein-4b": Scales(padded_text=512),
    "flux.2-klein-9b": Scales(padded_text=512),
}
