"""What a pipeline is made of: its components in the order they run, and the numbers that sizes follow from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil, sqrt
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.models.workload import Task

DENOISER, TEXT_ENCODER, VAE = "denoiser", "text_encoder", "vae"
IMAGE_ENCODER, CONNECTOR, AUDIO, CONTROLNET = "image_encoder", "connector", "audio", "controlnet"
# how guidance costs: not at all, one call over a doubled batch, two calls, or the pipeline's guider (two calls)
GUIDANCE = ("none", "batched", "twice", "guider")


class Config(Mapping[str, Any]):
    """The numbers of a component's config.json; hashable, and ``dict(config)`` builds the module again."""

    __slots__ = ("_text", "_values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._text = json.dumps(self._values, sort_keys=True)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self._text == other._text

    def __repr__(self) -> str:
        return f"Config({self._text})"


@dataclass(frozen=True)  # without slots: its hash is kept
class Component:
    """One part of a pipeline, by the name that model_index.json gives it.

    ``trace`` names the packed trace and tensor table, which components of one class and config share; ``None`` where
    the class or its shapes are in no catalog, so that activations are unknown. ``lists`` are the direct children that
    block-level group offload cuts, in order; ``recursed`` the children that it looks into (the class attribute
    ``_group_offload_block_modules``). ``uncast`` are the patterns that layerwise casting skips beside its defaults,
    ``single_precision`` those of ``_keep_in_fp32_modules``; ``unquantized`` the modules that transformers' quantizers
    leave alone for that attribute, whatever type they then have. ``dtype`` is what it computes in: "bf16", "fp16" or
    "fp32"; ``stored`` what its weights lie in between, which differs for a VAE that is upcast for the decode.
    ``tokens`` is the length of a text encoder's input with its template (padded, or what a prompt usually has), 0 for
    other components. ``buffers`` counts the bytes of tables that are made at load time and stand in no file. ``lora``
    says what LoRA lies beside its linear layers, empty without one.
    """

    name: str
    role: str  # "denoiser", "text_encoder", "vae", "image_encoder", "connector", "audio" or "controlnet"
    library: str
    cls: str
    trace: str | None
    config: Config
    lists: tuple[str, ...] = ()
    recursed: tuple[str, ...] = ()
    uncast: tuple[str, ...] = ()
    single_precision: tuple[str, ...] = ()
    unquantized: tuple[str, ...] = ()
    dtype: str = "bf16"
    stored: str = "bf16"
    tokens: int = 0
    buffers: int = 0
    lora: str = ""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Enough to tell the parts of pipelines apart: they are looked up for stage after stage.
        return hash((self.name, self.cls, self.trace, self.stored, self.lora))


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the pipeline makes when nobody says: pixels, frames (1 for a picture), frames a second, steps, guidance."""

    width: int
    height: int
    steps: int
    guidance_scale: float
    frames: int = 1
    fps: int | None = None


@dataclass(frozen=True, slots=True)
class References:
    """What a pipeline does with the pictures that it is handed. ``area`` is how many pixels it brings them to, all or
    (not ``always``) the larger ones, with sides that divide by ``multiple``; 0 for the size of the result. ``appended``
    says that their latents lengthen the denoiser's sequence; else they lie in its channels. A language model sees them
    at ``seen_area`` pixels, a token for ``seen_cell`` by ``seen_cell`` of them; 0 where it does not."""

    area: int = 0
    multiple: int = 16
    always: bool = False
    appended: bool = True
    seen_area: int = 0
    seen_cell: int = 0

    def encoded(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that the autoencoder is handed."""
        if self.always:
            return _brought(width, height, self.area, self.multiple)
        if self.area and width * height > self.area:
            scale = sqrt(self.area / (width * height))
            width, height = int(width * scale), int(height * scale)
        return max(1, width // self.multiple) * self.multiple, max(1, height // self.multiple) * self.multiple

    def seen(self, width: int, height: int) -> int:
        """Tokens that the language model sees of a picture, with the mark before it."""
        if not self.seen_cell:
            return 0
        across, down = _brought(width, height, self.seen_area, 32)
        return 1 + round(across / self.seen_cell) * round(down / self.seen_cell)


def _brought(width: int, height: int, area: int, multiple: int) -> tuple[int, int]:
    """Sides of a picture of the same shape and of ``area`` pixels, rounded (``calculate_dimensions``)."""
    across = sqrt(area * width / height)
    down = across * height / width
    return max(1, round(across / multiple)) * multiple, max(1, round(down / multiple)) * multiple


@dataclass(frozen=True, slots=True)
class ControlNet:
    """What a ControlNet beside a pipeline's denoiser is: the class of ``pipeline`` that runs one, its ``component``,
    the argument that takes the ``picture`` that guides and whether that is encoded (``encodes``), and the
    ``repository`` whose shape it is."""

    pipeline: str
    component: Component
    picture: str
    encodes: bool
    repository: str


@dataclass(frozen=True)  # without slots: its hash is kept
class PipelineArchitecture:
    """A diffusers pipeline. ``components`` stand in the order in which they run.

    ``offload_sequence`` and ``excluded_from_offload`` are the class attributes ``model_cpu_offload_seq`` and
    ``_exclude_from_cpu_offload``; a component in neither has a hook of its own. A latent is ``latent_channels`` of
    (frames − 1) // ``vae_scale_temporal`` + 1 by height / ``vae_scale_spatial`` by width / ``vae_scale_spatial``, and a
    token of the denoiser is ``patch`` by ``patch`` latent pixels. ``size_multiple`` is what width and height must
    divide by, ``text_tokens`` the length that prompts are padded to (or an usual one where they are not padded, then
    ``text_padded`` is false). ``experts`` are two denoisers that share the steps, with the share of the noise schedule
    at which the second takes over. ``frame_chunk`` (frames, latents, rest) replaces the rule above where a video is
    ``frames`` n + ``latents`` frames and its latent ``latents`` n + ``rest``. ``timestep_per_token`` says that the
    denoiser gets one timestep for every token and not one for all. ``references`` is what becomes of pictures handed
    in; ``whole_video`` says that a first frame is encoded as a video of the whole length. ``sound_rate`` counts the
    latents of a second of sound that are made with a video, in each of ``sound_channels``. ``further_calls`` are calls
    a step beside those of guidance by the prompt, each of a single batch. ``guided_above`` is the scale above which the
    pipeline guides. ``pipeline_for_pictures`` is the class that makes a video of a picture where ``pipeline`` takes
    none.
    ``schedule_ends`` says that the last step is the end of the schedule, for which the denoiser is not called.
    ``one_at_a_time`` says that a call makes one result, ``duration`` the seconds of the shortest and the longest video.
    ``finished_in`` counts the copies in single precision, each as large as the result, that lie beside it while its
    pixels are brought to their range. ``ungrouped`` are components whose class refuses group offload, so that they stay
    on the card. ``untraced`` are tasks with calls that no trace has, and why. ``loads_lora`` says whether the class has
    ``load_lora_weights``, ``controlnet`` the one that is known to run beside it.
    ``keeps_prefix`` says that the denoiser's first step keeps keys and values of prompt and pictures for the others.
    ``encoder_by_encoder`` says that both prompts go through a text encoder before the next one runs, and not the second
    prompt through all of them behind the first.
    """

    pipeline: str
    components: tuple[Component, ...]
    offload_sequence: tuple[str, ...]
    excluded_from_offload: tuple[str, ...]
    tasks: tuple[Task, ...]
    vae_scale_spatial: int
    vae_scale_temporal: int
    patch: int
    latent_channels: int
    size_multiple: int
    text_tokens: int
    guidance: str
    defaults: Defaults
    text_padded: bool = True
    experts: tuple[tuple[str, str], float] | None = None
    frame_chunk: tuple[int, int, int] | None = None
    timestep_per_token: bool = False
    references: References = References()
    whole_video: bool = False
    sound_rate: float = 0.0
    sound_channels: int = 1
    further_calls: int = 0
    guided_above: float = 1.0
    encoder_by_encoder: bool = False
    pipeline_for_pictures: str = ""
    keeps_prefix: bool = False
    schedule_ends: bool = False
    one_at_a_time: bool = False
    duration: tuple[float, float] | None = None
    finished_in: int = 0
    ungrouped: tuple[str, ...] = ()
    untraced: tuple[tuple[Task, str], ...] = ()
    loads_lora: bool = True
    controlnet: ControlNet | None = None

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Enough to tell pipelines apart: what follows from one is looked up for cell after cell.
        return hash((self.pipeline, self.text_tokens, self.components[-1:], self.tasks))

    @property
    def guide(self) -> Component | None:
        """The ControlNet that runs in every step; ``None`` without one."""
        return next((one for one in self.components if one.role == CONTROLNET), None)

    def controlled(self) -> PipelineArchitecture:
        """The pipeline with its ControlNet, which runs before the denoiser; as it is where none is known."""
        if self.controlnet is None or self.guide is not None:
            return self
        at = next(number for number, one in enumerate(self.components) if one.role == DENOISER)
        components = (*self.components[:at], self.controlnet.component, *self.components[at:])
        return replace(self, pipeline=self.controlnet.pipeline, components=components)

    @property
    def family(self) -> str:
        """The key of the registry."""
        return "pipeline"

    @property
    def context_length(self) -> int | None:
        """Means nothing for a pipeline."""
        return None

    def cache_bytes(self, context: int) -> int:
        """A pipeline keeps no cache of keys and values over tokens."""
        return 0

    def component(self, name: str) -> Component:
        """The component of that name. Raises KeyError."""
        return next(iter(self.of_role_or_name(name)))

    def of_role_or_name(self, key: str) -> tuple[Component, ...]:
        """The components of that name, else all of that role. Raises KeyError when there are none."""
        found = tuple(one for one in self.components if one.name == key)
        found = found or tuple(one for one in self.components if one.role == key)
        if not found:
            raise KeyError(key)
        return found

    def latent_frames(self, frames: int) -> int:
        """Frames of the latent for ``frames`` of the video."""
        if self.frame_chunk is not None and frames > 1:
            chunk, latents, rest = self.frame_chunk
            return (frames - latents) // chunk * latents + rest
        return (frames - 1) // self.vae_scale_temporal + 1

    def frames_from(self, frames: int) -> int:
        """The most frames of a video that has no more than ``frames``, of a whole number of latents; of a pipeline that
        makes no shorter ones, those of its shortest."""
        chunk, rest = (self.vae_scale_temporal, 1) if self.frame_chunk is None else self.frame_chunk[:2]
        found = max(0, frames - rest) // chunk * chunk + rest
        least, _ = self.frame_limits
        return found if found >= least else -(-max(0, least - rest) // chunk) * chunk + rest

    @property
    def frame_limits(self) -> tuple[int, int | None]:
        """Frames of the shortest and the longest video; ``None`` where no length is the longest."""
        if self.duration is None:
            return 1, None
        least, most = (one * (self.defaults.fps or 24) for one in self.duration)
        return ceil(least), int(most)

    def image_tokens(self, width: int, height: int, frames: int = 1) -> int:
        """Tokens that the denoiser sees for one picture or video, in pixels and frames."""
        cell = self.vae_scale_spatial * self.patch
        return self.latent_frames(frames) * (width // cell) * (height // cell)

    def tokens_with(self, width: int, height: int, frames: int, handed: Sequence[tuple[int, int]]) -> int:
        """Tokens that the denoiser sees with pictures of these sizes ``handed`` in."""
        own = self.image_tokens(width, height, frames)
        if not self.references.appended:
            return own
        return own + sum(self.image_tokens(*self.references.encoded(*one)) for one in handed)

    def sound(self, frames: int) -> int:
        """Latents of the sound of a video of ``frames``, of all channels."""
        return self.sound_channels * round(frames / (self.defaults.fps or 24) * self.sound_rate)


def is_modular(architecture: PipelineArchitecture) -> bool:
    """Whether its class is made of blocks (diffusers' ``ModularPipeline``), which lacks the
    switches of ``DiffusionPipeline``."""
    return "Modular" in architecture.pipeline
