"""Pipelines as the bench builds them: the catalog's components, with a scheduler and a call of each class. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from fitcheck.errors import MeasurementError
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import DENOISER, TEXT_ENCODER, Component, PipelineArchitecture
from fitcheck.models.workload import Task

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, slots=True)
class ComponentRecipe:
    """One component: its class and configuration, the key of its trace, what it is loaded in and what it runs in."""

    library: str
    cls: str
    trace: str
    config: Mapping[str, Any]
    dtype: str = "bfloat16"
    computes: str = "bfloat16"
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class PictureCells:
    """How a processor cuts pictures for a language model: ``patch`` pixels, ``merge`` by ``merge`` patches for a token;
    ids of the placeholder and of what stands before it."""

    patch: int
    merge: int = 2
    token: int = 151655
    start: int = 151652

    def grid(self, width: int, height: int) -> tuple[int, int, int]:
        """Frames, rows and columns of patches."""
        cell = self.patch * self.merge
        return 1, round(height / cell) * self.merge, round(width / cell) * self.merge


@dataclass(frozen=True, slots=True)
class Style:
    """What the call of a pipeline class takes beside sizes: a scheduler, fixed lengths of its tokenizers (0 for the
    length of the prompt), arguments, and the name of the argument that says how long prompts may be.

    ``templated`` says that it does not count the template, ``prompt`` is what is asked, ``parts`` how many encoders'
    tokens the denoiser sees one behind the other, ``fixed`` that their number never changes, ``multiple`` what it is
    rounded up to. ``modular`` says that the class is made of blocks, ``without`` some of them; ``one_size`` that it
    makes one size only. ``pictures`` are arguments that take a picture, ``listed`` says that they take a list of them;
    ``vision`` is how the processor shows them to a language model, ``image_side`` how large an image encoder takes
    them. ``built`` are constructor arguments that are objects of a class of diffusers. ``stretch`` is how many latent
    frames an autoencoder decodes at once that cuts longer videos; 0 for one that does not. ``inside`` are the methods
    (path of a child, name, what a trace calls it) that stand for a component of which those alone are called, or again
    and again by a loop of its own. ``stacks`` says that it stacks the states of all layers of its text encoder, and
    looks at no value of them.
    """

    scheduler: tuple[str, Mapping[str, Any]]
    tokenizers: Mapping[str, int]
    call: Mapping[str, Any] = field(default_factory=dict)
    sequence: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    listed: bool = False
    vision: PictureCells | None = None
    image_side: int = 0
    built: Mapping[str, str] = field(default_factory=dict)
    templated: bool = False
    prompt: str = "x"
    parts: int = 1
    fixed: bool = False
    multiple: int = 1
    modular: bool = False
    without: tuple[str, ...] = ()
    inside: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    one_size: bool = False
    stretch: int = 0
    stacks: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """One pipeline. ``text`` is how many tokens a prompt has with its template, ``guide`` the argument that takes the
    picture that guides a ControlNet."""

    pipeline: str
    parts: Mapping[str, ComponentRecipe]
    style: Style
    denoisers: tuple[str, ...]
    text: int
    video: bool
    extras: Mapping[str, Any]
    architecture: PipelineArchitecture
    guide: str = ""

    @property
    def apart(self) -> bool:
        """Whether its class takes pictures where the model's own takes none."""
        return self.pipeline != self.architecture.pipeline

    @property
    def needs_pictures(self) -> bool:
        """Whether nothing is made without one."""
        return self.apart or not {Task.T2I, Task.T2V} & set(self.architecture.tasks)

    @property
    def hidden(self) -> int:
        """Tokens of the template that the denoiser does not see."""
        return max(0, self.text - self.architecture.text_tokens)

    def tokenizers(self, text: int) -> dict[str, int]:
        """How many ids each tokenizer gives for a prompt of so many tokens."""
        return {name: length or text for name, length in self.style.tokenizers.items()}

    def call(self, text: int, cfg: float | None = None) -> dict[str, Any]:
        """Arguments of the call beside prompt, sizes and steps; without ``cfg`` the guidance is the style's."""
        found = dict(self.style.call)
        if self.style.sequence:
            found[self.style.sequence] = text - (self.hidden if self.style.templated else 0)
        if cfg is not None and self.guided_by is not None:
            found[self.guided_by] = cfg
        return found

    @property
    def guided_by(self) -> str | None:
        """The argument that holds the guidance's scale."""
        return next((name for name in ("true_cfg_scale", "guidance_scale") if name in self.style.call), None)

    @property
    def has_guider(self) -> bool:
        """Whether an object of the pipeline guides, which has the scale."""
        return "guider" in self.style.built

    @property
    def cfg(self) -> float:
        """The guidance's scale when nobody says."""
        if self.has_guider:
            return self.architecture.defaults.guidance_scale
        return float(self.style.call[self.guided_by]) if self.guided_by else 1.0


_FLOW = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0})
_DYNAMIC = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True})
_WAN = (
    "UniPCMultistepScheduler",
    {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0},
)
_EULER = (
    "EulerDiscreteScheduler",
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1,
     "timestep_spacing": "leading"},
)  # fmt: skip
_SEQUENCE = "max_sequence_length"
STYLES: Mapping[str, Style] = {
    "FluxPipeline": Style(_DYNAMIC, {"tokenizer": 77, "tokenizer_2": 0}, {"guidance_scale": 3.5}, _SEQUENCE),
    "StableDiffusionXLPipeline": Style(
        _EULER, {"tokenizer": 77, "tokenizer_2": 77}, {"guidance_scale": 7.0}, "", {"add_watermarker": False}
    ),
    "StableDiffusionPipeline": Style(
        _EULER, {"tokenizer": 77}, {"guidance_scale": 7.5}, "",
        {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    ),
    "StableDiffusion3Pipeline": Style(
        _FLOW, {"tokenizer": 77, "tokenizer_2": 77, "tokenizer_3": 0}, {"guidance_scale": 4.5}, _SEQUENCE
    ),
    "QwenImagePipeline": Style(_DYNAMIC, {"tokenizer": 0}, {"true_cfg_scale": 4.0, "negative_prompt": " "}),
    "ZImagePipeline": Style(_FLOW, {"tokenizer": 0}, {"guidance_scale": 0.0}),
    "FluxFillPipeline": Style(
        _DYNAMIC, {"tokenizer": 77, "tokenizer_2": 0}, {"guidance_scale": 30.0}, _SEQUENCE,
        pictures=("image", "mask_image"),
    ),
    "FluxKontextPipeline": Style(
        _DYNAMIC, {"tokenizer": 77, "tokenizer_2": 0}, {"guidance_scale": 2.5}, _SEQUENCE, pictures=("image",)
    ),
    "QwenImageEditPlusPipeline": Style(
        _DYNAMIC, {"tokenizer": 0, "processor": 0}, {"true_cfg_scale": 4.0, "negative_prompt": " "},
        pictures=("image",), listed=True, vision=PictureCells(14),
    ),
    "QwenImage21Pipeline": Style(
        _DYNAMIC, {"processor": 0}, {"true_cfg_scale": 1.0}, pictures=("image",), listed=True, vision=PictureCells(16)
    ),
    "WanImageToVideoPipeline": Style(
        _WAN, {"tokenizer": 0}, {"guidance_scale": 5.0}, _SEQUENCE, pictures=("image",), image_side=224
    ),
    "Flux2Pipeline": Style(
        _DYNAMIC, {"tokenizer": 0}, {"guidance_scale": 4.0}, _SEQUENCE, pictures=("image",), listed=True
    ),
    "HunyuanVideo15Pipeline": Style(
        _FLOW, {"tokenizer": 0, "tokenizer_2": 256}, built={"guider": "ClassifierFreeGuidance"},
        prompt='a "sign"', fixed=True,
    ),
    "Flux3ModularPipeline": Style(
        _FLOW, {"tokenizer": 0}, {}, pictures=("image",), listed=True, built={"guider": "ClassifierFreeGuidance"},
        multiple=80, modular=True, without=("prompt_upsampler",),
    ),
    "Flux3DistilledModularPipeline": Style(
        _FLOW, {"tokenizer": 0}, {}, pictures=("image",), listed=True, multiple=80, modular=True,
        without=("prompt_upsampler",),
    ),
    "MiniMaxH3ModularPipeline": Style(
        ("MiniMaxH3Scheduler", {}), {"tokenizer": 0, "processor": 0}, built={"audio_scheduler": "MiniMaxH3Scheduler"},
        modular=True, inside={"text_encoder": ("model", "forward", "forward"), "vae": ("", "_decode_clip", "decode")},
    ),
    "HunyuanVideoPipeline": Style(_FLOW, {"tokenizer": 0, "tokenizer_2": 77}, {"guidance_scale": 6.0}, _SEQUENCE,
                                  templated=True, stretch=5),
    "HiDreamImagePipeline": Style(
        _FLOW, {"tokenizer": 77, "tokenizer_2": 77, "tokenizer_3": 0, "tokenizer_4": 0},
        {"guidance_scale": 5.0}, _SEQUENCE, parts=2,
        fixed=True,
        one_size=True,
    ),
    "LTX2Pipeline": Style(_DYNAMIC, {"tokenizer": 0}, {"guidance_scale": 3.0}, _SEQUENCE, multiple=128,
                           stacks=True),
    # a picture is compressed and read again on the CPU first, which takes a library and no memory of a card
    "LTX2ImageToVideoPipeline": Style(_DYNAMIC, {"tokenizer": 0}, {"guidance_scale": 3.0, "image_crf": 0}, _SEQUENCE,
                                      multiple=128, pictures=("image",), stacks=True),
    "LTXConditionPipeline": Style(_FLOW, {"tokenizer": 0}, {"guidance_scale": 3.0}, _SEQUENCE, pictures=("image",)),
    "CogVideoXImageToVideoPipeline": Style(
        ("CogVideoXDDIMScheduler", {}), {"tokenizer": 0}, {"guidance_scale": 6.0}, _SEQUENCE, fixed=True,
        one_size=True, pictures=("image",),
    ),
    "WanPipeline": Style(_WAN, {"tokenizer": 0}, {"guidance_scale": 5.0}, _SEQUENCE),
    "Flux2KleinPipeline": Style(
        _DYNAMIC, {"tokenizer": 0}, {"guidance_scale": 1.0}, _SEQUENCE, {"is_distilled": True},
        pictures=("image",), listed=True,
    ),
    "ChromaPipeline": Style(_FLOW, {"tokenizer": 0}, {"guidance_scale": 5.0}, _SEQUENCE),
    "Krea2Pipeline": Style(_DYNAMIC, {"tokenizer": 0}, {"guidance_scale": 0.0}, "", {"is_distilled": True}),
    "Lumina2Pipeline": Style(_FLOW, {"tokenizer": 0}, {"guidance_scale": 4.0}, _SEQUENCE),
    "PixArtSigmaPipeline": Style(("DPMSolverMultistepScheduler", {}), {"tokenizer": 0},
                                 {"guidance_scale": 4.5, "use_resolution_binning": False, "clean_caption": False},
                                 _SEQUENCE),
    "CogVideoXPipeline": Style(("CogVideoXDDIMScheduler", {}), {"tokenizer": 0}, {"guidance_scale": 6.0}, _SEQUENCE,
                               fixed=True),
}  # fmt: skip
# constructor arguments that a model's own model_index.json sets
EXTRAS: Mapping[str, Mapping[str, Any]] = {
    "wan2.2-ti2v-5b": {"expand_timesteps": True},
    "wan2.2-t2v-a14b": {"boundary_ratio": 0.875},
    "wan2.2-i2v-a14b": {"boundary_ratio": 0.9},
}
# settings of components that the catalog's of that name lack
CONFIGS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # pipelines/hidream_image/pipeline_hidream_image.py hands CLIP up to 218 tokens
    "hidream-i1": {name: {"max_position_embeddings": 218} for name in ("text_encoder", "text_encoder_2")},
    # mean and deviation of latents stand in the checkpoint alone; any do for what is made
    "minimax-h3": {"audio_vae": {"latents_mean": [0.0] * 32, "latents_std": [1.0] * 32}},
}


def known(slug: str) -> bool:
    """Whether the bench can build that model."""
    try:
        return getattr(catalog.get(slug).architecture, "pipeline", "") in STYLES
    except MeasurementError:
        return False


@cache
def recipe(slug: str, pictured: bool = False) -> Recipe:
    """How to build a catalog pipeline, ``pictured`` the one that takes pictures where that is another class. Raises
    InputError for one that the bench cannot build."""
    architecture = catalog.get(slug).architecture
    if not isinstance(architecture, PipelineArchitecture) or architecture.pipeline not in STYLES:
        raise MeasurementError(f"model: the bench builds no pipeline {slug!r}.")
    pipeline = (architecture.pipeline_for_pictures if pictured else "") or architecture.pipeline
    own = CONFIGS.get(slug, {})
    parts = {one.name: part_of(one, own.get(one.name, {})) for one in architecture.components}
    encoders = [one for one in architecture.components if one.role == TEXT_ENCODER]
    return Recipe(
        pipeline=pipeline,
        parts=parts,
        style=STYLES[pipeline],
        denoisers=tuple(one.name for one in architecture.components if one.role == DENOISER),
        text=max((one.tokens for one in encoders), default=0),
        video=architecture.defaults.frames > 1,
        extras=EXTRAS.get(slug, {}),
        architecture=architecture,
    )


def part_of(one: Component, own: Mapping[str, Any]) -> ComponentRecipe:
    """How to build a component, with settings of its ``own``."""
    stored = one.stored if one.role != DENOISER else one.dtype
    config = {**one.config, **own}
    return ComponentRecipe(
        one.library, one.cls, one.trace or "", config, _DTYPES[stored], _DTYPES[one.dtype], one.tokens
    )
