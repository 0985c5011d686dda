"""Tiers of a pipeline: how its denoiser's weights are stored, and those of its largest text encoder where that differs.

A tier's name is the denoiser's scheme ("Q4_K_S"), with the encoder's behind it where that is not 16 bit
("Q4_K_S+t5-fp8"): quantizing the denoiser alone often leaves a text encoder that sets the peak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any

from fitcheck.data_files import load
from fitcheck.models.families.pipeline import gguf_mixture, tables
from fitcheck.models.families.pipeline.architecture import DENOISER, TEXT_ENCODER, Component, PipelineArchitecture
from fitcheck.models.families.pipeline.schemes import QUANTIZED, Scheme, scheme
from fitcheck.models.model import Tier
from fitcheck.models.tensors import Tensor, TensorTable

# the GGUF tiers that most repositories have; others are listed where a file of theirs is known
_USUAL = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_0", "Q3_K_M", "Q3_K_S", "Q2_K")
# denoiser and text encoder that people quantize together
_PAIRS = (("fp8", "fp8"), ("int8", "int8"), ("nf4", "nf4"), ("Q8_0", "fp8"), ("Q4_K_M", "fp8"), ("Q4_K_S", "nf4"))
_SMALLEST_PAIRED = 1_000_000_000
_COMFY = {"int8_convrot": "comfy-int8"} | dict.fromkeys(("fp8_scaled", "fp8_e4m3fn", "fp8mixed", "fp8"), "comfy-fp8")
_COMFY_SUFFIX = " (ComfyUI)"


class PipelineTable(TensorTable):
    """The tensors of all components, each named ``component.tensor`` with the component as its branch. They are made
    when somebody asks for them; the sizes come without."""

    def __init__(self, parts: tuple[tuple[Component, Scheme], ...]) -> None:
        self.parts = parts
        sizes = {component.name: component_bytes(component, how) for component, how in parts}
        self.nbytes = sum(sizes.values())
        self.bytes_by_branch = dict(sorted(sizes.items(), key=lambda item: -item[1]))
        self.elements = sum(_parameters(component) for component, _ in parts)

    @cached_property
    def bits(self) -> float:
        """Bits a weight of the denoisers: text encoders read once and lose little."""
        denoisers = [component for component, _ in self.parts if component.role == DENOISER]
        nbytes = sum(self.bytes_by_branch[component.name] for component in denoisers)
        return 8 * nbytes / max(sum(map(_parameters, denoisers)), 1)

    @cached_property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes by storage type, largest first, without making the tensors."""
        counts: Counter[str] = Counter()
        for component, how in self.parts:
            counts.update(component_types(component, how))
        return dict(counts.most_common())

    def __getattr__(self, name: str) -> tuple[Tensor, ...]:
        """Called for what is not there yet: the tensors, the first time."""
        if name != "tensors":
            raise AttributeError(name)
        self.tensors = tuple(tensor for component, how in self.parts for tensor in component_table(component, how))
        return self.tensors

    def scheme_of(self, component: str) -> Scheme:
        """How a component is stored. Raises KeyError."""
        return {one.name: how for one, how in self.parts}[component]

    def of(self, component: str) -> TensorTable:
        """The tensors of one component. Raises KeyError."""
        for one, how in self.parts:
            if one.name == component:
                return component_table(one, how)
        raise KeyError(component)


def elements_of(architecture: PipelineArchitecture) -> int:
    """Parameters of all components of a catalog pipeline, in whatever tier."""
    return sum(map(_parameters, architecture.components))


def _parameters(component: Component) -> int:
    return tables.parameters(component.trace) if component.trace else 0


@cache
def component_table(component: Component, how: Scheme) -> TensorTable:
    """The tensors of a component as ``how`` stores them. Raises KeyError for one whose shapes are in no catalog."""
    return TensorTable(
        Tensor(f"{component.name}.{name}", shape, type_, entry.role, entry.layer, component.name)
        for entry, name, shape, type_ in _stored(component, how)
    )


def component_bytes(component: Component, how: Scheme) -> int:
    """Bytes of ``component_table``."""
    return sum(component_types(component, how).values())


@cache
def component_types(component: Component, how: Scheme) -> dict[str, int]:
    """Bytes of ``component_table`` by storage type: packed with the shapes for the catalog's components, so that no
    table is made."""
    packed = load(tables.ROOM, "sizes").get(component.trace or "", {}).get(size_key(component, how))
    if packed is not None:
        return dict(packed)
    return component_table(component, how).bytes_by_type


def size_key(component: Component, how: Scheme) -> str:
    """Under which name ``data/sizes.json`` holds the bytes of a component."""
    return f"{how.name}/{component.stored}"


def _stored(component: Component, how: Scheme) -> Iterator[tuple[tables.Entry, str, tuple[int, ...], str]]:
    if component.trace is None:
        raise KeyError(component.cls)
    for entry in tables.entries(component.trace):
        for name, shape, type_ in how.stored(component, entry):
            yield entry, name, shape, type_


def denoiser_schemes(cls: str, listed: Mapping[str, Any]) -> tuple[str, ...]:
    """The schemes that a denoiser class is offered in; ``listed`` are tiers of which a file is known."""
    made = gguf_mixture.tier_names(cls)
    return ("plain", *QUANTIZED, *(name for name in made if name in _USUAL or name in listed))


def tiers_of(architecture: PipelineArchitecture, entry: Mapping[str, Any]) -> tuple[Tier, ...]:
    """Every tier of a catalog pipeline, largest first."""
    denoiser, listed = architecture.of_role_or_name(DENOISER)[0], entry.get("published") or {}
    schemes = denoiser_schemes(denoiser.cls, listed)
    made = [_tier(architecture, name, entry) for name in schemes]
    encoder = largest_encoder(architecture)
    if encoder is not None:
        made += [_tier(architecture, den, entry, enc) for den, enc in _PAIRS if den in schemes]
    made += [_comfy_tier(architecture, name, row, entry) for name, row in (entry.get("comfy") or {}).items()]
    return tuple(sorted(made, key=lambda tier: -tier.tensors.nbytes))


def largest_encoder(architecture: PipelineArchitecture) -> Component | None:
    """The text encoder worth quantizing: the largest one, if it has more than a billion parameters."""
    encoders = [one for one in architecture.components if one.role == TEXT_ENCODER and one.trace is not None]
    largest = max(encoders, key=lambda one: tables.parameters(str(one.trace)), default=None)
    if largest is None or tables.parameters(str(largest.trace)) < _SMALLEST_PAIRED:
        return None
    return largest


def short_name(component: Component) -> str:
    """What people call a text encoder: "t5", "qwen", ..."""
    described = load(tables.ROOM, "components")
    return str(described.get(component.trace or "", {}).get("short", component.name))


def table_of(architecture: PipelineArchitecture, denoiser: str, encoder: str | None = None) -> PipelineTable:
    """The table of a tier: the denoisers in one scheme, the largest text encoder in another, the rest unquantized."""
    large = largest_encoder(architecture) if encoder else None
    return PipelineTable(
        tuple(
            (one, scheme(denoiser if one.role == DENOISER else str(encoder) if one == large else "plain"))
            for one in architecture.components
        )
    )


def _tier(architecture: PipelineArchitecture, name: str, entry: Mapping[str, Any], encoder: str | None = None) -> Tier:
    table, how = table_of(architecture, name, encoder), scheme(name)
    denoiser = architecture.of_role_or_name(DENOISER)[0]
    label = denoiser.stored if name == "plain" else name
    file = (entry.get("published") or {}).get(label, {})
    large = largest_encoder(architecture)
    suffix = f"+{short_name(large)}-{encoder}" if encoder and large else ""
    return Tier(
        name=label + suffix,
        tensors=table,
        format=how.format,
        file=file.get("file"),
        repository=file.get("repository") or _repository(how, entry),
        disk_bytes=_download(architecture, table, how, file.get("bytes")),
        published_bytes=file.get("bytes"),
        source=_source(how, file, entry),
        published=how.format != "gguf" or bool(file) or bool(entry.get("gguf_repository")),
        distilled_steps=entry.get("distilled_steps"),
        components=tuple(component.name for component in architecture.components),
    )


def _repository(how: Scheme, entry: Mapping[str, Any]) -> str | None:
    return entry.get("gguf_repository") if how.format == "gguf" else entry["repository"]


def _source(how: Scheme, file: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    if file.get("bytes"):
        return f"{how.source}; denoiser's file: {entry.get('published_source', file.get('source', 'not stated'))}"
    return how.source


def _download(architecture: PipelineArchitecture, table: PipelineTable, how: Scheme, published: int | None) -> int:
    """Bytes on disk: what is quantized while loading is downloaded in 16 bit."""
    if how.format not in ("gguf", "safetensors"):
        return table_of(architecture, "plain").nbytes
    denoisers = sum(table.bytes_by_branch[one.name] for one in architecture.of_role_or_name(DENOISER))
    others = table_of(architecture, "plain").nbytes - table_of_denoisers(architecture)
    return others + (denoisers if published is None else published * len(architecture.of_role_or_name(DENOISER)))


def table_of_denoisers(architecture: PipelineArchitecture) -> int:
    """Bytes of the unquantized denoisers."""
    return sum(component_bytes(one, scheme("plain")) for one in architecture.of_role_or_name(DENOISER))


def _comfy_tier(
    architecture: PipelineArchitecture, name: str, row: Mapping[str, Any], entry: Mapping[str, Any]
) -> Tier:
    """A file that ComfyUI reads and diffusers does not: its size is known or follows from a byte a weight."""
    table = table_of(architecture, _COMFY[name])
    return Tier(
        name=name + _COMFY_SUFFIX,
        tensors=table,
        format="comfy",
        file=row["file"],
        repository=row["repository"],
        disk_bytes=row["bytes"] or table.nbytes,
        published_bytes=row["bytes"],
        source=scheme(_COMFY[name]).source,
        distilled_steps=entry.get("distilled_steps"),
        components=tuple(component.name for component in architecture.components),
    )


def unreadable(tier: Tier) -> str | None:
    """Why diffusers 0.42.1 does not read a tier, in a sentence's second half; ``None`` where it does."""
    if tier.format == "comfy":
        return "it is a file of ComfyUI: diffusers has no loader that keeps its 8-bit weights"
    return None
