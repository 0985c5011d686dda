"""A single file that holds a denoiser, GGUF or safetensors: the rest of its pipeline comes from the catalog.

Which pipeline it is of follows from the number of its weights, which fused and split projections share, and where
several have the same shape, from the file's name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from fitcheck.models.families.base import Found, ReadTier, Recognized, printable
from fitcheck.models.families.pipeline import catalog, tables
from fitcheck.models.families.pipeline.architecture import DENOISER, Component, PipelineArchitecture
from fitcheck.models.families.pipeline.schemes import scheme
from fitcheck.models.families.pipeline.tiers import component_table
from fitcheck.models.gguf import GgufHeader
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.models.tier_names import quant_label

# general.architecture of image denoisers, as ComfyUI-GGUF's, stable-diffusion.cpp's and calcuis' converters write it
ARCHITECTURES = frozenset(
    {"flux", "flux2", "sd1", "sdxl", "sd3", "wan", "qwen_image", "lumina2", "ltxv", "hyvid", "hunyuan_video"}
    | {"hidream", "chroma", "krea2", "z_image", "pig"}
)
# tensors that no language model has, one for each layout of a denoiser
_PROBES = re.compile(
    r"(double_blocks|single_blocks|joint_blocks|double_stream_blocks|transformer_blocks|single_transformer_blocks)\.0\."
    r"|noise_refiner\.0\.|blocks\.0\.(self_attn|cross_attn|attn1)\.|layers\.0\.adaLN_modulation|input_blocks\.0\.0\."
)
_WRAPPERS = ("model.diffusion_model.", "diffusion_model.", "net.")
# scales beside quantized weights, which are no parameters of the model
_SCALES = re.compile(r"\.(scale_weight|scale_input|weight_scale(_2)?|input_scale|comfy_quant)$|^scaled_fp8$")
_NEAR = 0.001
# what a class calls its lists of blocks in the files of its first publisher
_LISTS = {
    "double_blocks.": "transformer_blocks.",
    "single_blocks.": "single_transformer_blocks.",
    "joint_blocks.": "transformer_blocks.",
}
_HIGH_OR_LOW = re.compile(r"high|low|2[._]2", re.IGNORECASE)
_LOW = re.compile(r"low[ _-]?noise", re.IGNORECASE)


def recognize(found: Found) -> Recognized | None:
    """The catalog pipeline whose denoiser lies there, with a tier for each file of it; ``None`` for others."""
    fits = [(one, slugs) for one in found.tiers if (slugs := pipelines_of(one))]
    if not fits:
        return None
    slug = fits[0][1][0]
    model = catalog.get(slug)
    same = [one for one, slugs in fits if slug in slugs]
    tiers = _told_apart([tier_of(model, *files) for files in _experts(model, same)])
    return Recognized(replace(model, notes=(*_notes(model, fits[0][1]), *model.notes)), tiers)


def pipelines_of(one: ReadTier) -> list[str]:
    """The catalog pipelines whose denoiser has as many weights as the file, the likeliest by its name first."""
    if not _is_denoiser(one):
        return []
    weights = sum(tensor.elements for tensor in denoiser_tensors(one.tier.tensors))
    fits = [slug for slug in catalog.slugs() if _near(weights, _denoiser(catalog.architecture_of(slug)))]
    said = _words(one.candidate.files[0])
    return sorted(fits, key=lambda slug: _likeness(slug, said, one.candidate.files[0]), reverse=True)


def denoiser_tensors(table: TensorTable) -> list[Tensor]:
    """The denoiser's own tensors, without its wrapper's prefix, without scales and other components."""
    wrapper = next((text for text in _WRAPPERS if any(one.name.startswith(text) for one in table)), "")
    return [
        replace(tensor, name=tensor.name.removeprefix(wrapper))
        for tensor in table
        if tensor.name.startswith(wrapper) and not _SCALES.search(tensor.name)
    ]


def tier_of(model: Model, *files: ReadTier) -> Tier:
    """The files as a tier of the pipeline: their own tensors for the denoisers, the catalog's for the rest. One file
    stands for every denoiser, several for one each."""
    architecture = model.architecture
    assert isinstance(architecture, PipelineArchitecture)
    plain = scheme("plain")
    denoisers = architecture.of_role_or_name(DENOISER)
    own = {each.name: files[min(place, len(files) - 1)] for place, each in enumerate(denoisers)}
    parts: list[Iterable[Tensor]] = []
    for component in architecture.components:
        file = own.get(component.name)
        parts.append(component_table(component, plain) if file is None else _as_component(file.tier.tensors, component))
    table = TensorTable(tensor for part in parts for tensor in part)
    others = table.nbytes - sum(table.bytes_by_branch[each.name] for each in denoisers)
    return replace(
        files[0].tier,
        name=_name(files[0]),
        tensors=table,
        disk_bytes=sum(file.tier.disk_bytes for file in own.values()) + others,
        source="the file's own tensor table; the pipeline's other components from the catalog",
        components=tuple(component.name for component in architecture.components),
    )


def _experts(model: Model, files: list[ReadTier]) -> Iterator[tuple[ReadTier, ...]]:
    """The files of one tier together: of two experts the one for high noise and the one for low."""
    architecture = model.architecture
    assert isinstance(architecture, PipelineArchitecture)
    low = {_name(one): one for one in files if _LOW.search(one.candidate.files[0])}
    if architecture.experts is None or len(low) == len(files):
        yield from ((one,) for one in files)
        return
    for one in files:
        if not _LOW.search(one.candidate.files[0]):
            yield (one, low[_name(one)]) if _name(one) in low else (one,)


def _told_apart(tiers: list[Tier]) -> tuple[Tier, ...]:
    """Two tiers of one name are called after their files."""
    names = Counter(tier.name for tier in tiers)
    return tuple(replace(tier, name=str(tier.file)) if names[tier.name] > 1 else tier for tier in tiers)


def lora(table: TensorTable) -> bool:
    """Whether a file is a LoRA: what it holds are pairs of low-rank matrices."""
    pairs = sum(
        1 for tensor in table if re.search(r"lora_(A|B|up|down|a|b)\b|\.lora\.|\.(up|down)\.weight$", tensor.name)
    )
    return len(table) > 0 and pairs > len(table) / 2


def _is_denoiser(one: ReadTier) -> bool:
    if one.candidate.components:
        return False
    if isinstance(one.header, GgufHeader) and one.header.architecture not in (*ARCHITECTURES, None):
        return False
    return any(_PROBES.search(tensor.name) for tensor in one.tier.tensors)


def _near(weights: int, denoiser: Component) -> bool:
    parameters = tables.parameters(str(denoiser.trace))
    return abs(weights - parameters) <= _NEAR * parameters


def _denoiser(architecture: PipelineArchitecture) -> Component:
    return architecture.of_role_or_name(DENOISER)[0]


def _words(file: str) -> set[str]:
    return set(re.findall(r"[a-z]+|\d+(?:\.\d+)?", PurePosixPath(file).name.lower()))


def _likeness(slug: str, said: set[str], file: str) -> tuple[int, int]:
    """How many words of the slug a file's name has, and how few it lacks. Two experts are told by "high" and "low"."""
    named = _words(slug)
    two = catalog.architecture_of(slug).experts is not None
    expert = 2 if two and _HIGH_OR_LOW.search(PurePosixPath(file).name) else 0
    return len(named & said) + expert, -len(named - said)


def _as_component(table: TensorTable, component: Component) -> Iterable[Tensor]:
    """The file's tensors as those of a component, with its lists of blocks under diffusers' names."""
    for tensor in denoiser_tensors(table):
        name = tensor.name
        for theirs, ours in _LISTS.items():
            name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name
        yield Tensor(f"{component.name}.{name}", tensor.shape, tensor.type, tensor.role, tensor.layer, component.name)


def _name(one: ReadTier) -> str:
    label = quant_label(one.candidate.files[0])
    return label or one.tier.name


def _notes(model: Model, slugs: list[str]) -> list[str]:
    notes = [f"Recognized as the denoiser of {model.name} by its shapes; text encoders and VAE are the catalog's."]
    others = [catalog.entry_of(slug)["name"] for slug in slugs[1:4]]
    if others:
        notes.append(f"Others have the same shape: {printable(', '.join(others))}; name one to check it instead.")
    return notes
