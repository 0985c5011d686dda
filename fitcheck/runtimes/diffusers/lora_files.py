"""A LoRA's own file: which layers of a pipeline's denoiser it changes, whatever program wrote its names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from fitcheck.errors import OptionError
from fitcheck.models.companions import LORA, Companion
from fitcheck.models.families.pipeline.architecture import DENOISER, Component, PipelineArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.runtimes.diffusers.lora import (
    changed,
    in_block,
    is_spec,
    is_unet,
    linears_of,
    numberless,
    pairs_of,
    read_spec,
    spec_of,
)
from fitcheck.runtimes.diffusers.options import PipelineOptions

_MATRIX = re.compile(r"(?P<module>.+?)\.(?:lora[._])?(?P<side>A|B|a|b|down|up)(?:\.[A-Za-z_]\w*)?\.weight")
# what programs write before the names of a denoiser's modules, and before those of text encoders
_BEFORE = re.compile(r"^(?:base_model\.model\.|model\.)*(?:(?:transformer|unet|diffusion_model|lora_unet)[._])?")
_ENCODERS = re.compile(r"^(?:lora_)?(?:te\d?|text_encoders?(?:_\d)?|text_model)[._]")
# a file is a model's when so many of its layers are: converters rename and join some
_SHARE = 0.8


class FileLayer(NamedTuple):
    """A layer that the file changes: name, and numbers that go in and come out of its two matrices together."""

    name: str
    rank: int
    inputs: int
    outputs: int


def settled(options: PipelineOptions, model: Model, tiers: Sequence[Tier]) -> PipelineOptions:
    """The options with what the LoRA's file holds in place of its name. Raises OptionError for a LoRA of another model
    and for a pipeline that loads none."""
    if not options.load_lora_weights:
        return options
    text = read_spec(options.load_lora_weights)
    arch = next((one.architecture for one in tiers if one.architecture is not None), model.architecture)
    assert isinstance(arch, PipelineArchitecture)
    if not arch.loads_lora:
        raise OptionError(f"--load-lora-weights: {arch.pipeline} loads no LoRA; leave it out.")
    if is_spec(text):
        _require_layers(text, arch)
        return replace(options, load_lora_weights=text)
    file = next((one for tier in tiers for one in tier.companions if one.role == LORA), None)
    if file is None:
        raise OptionError(f"--load-lora-weights: {text!r} is a file, which check alone reads; give the LoRA's rank.")
    denoiser = next(one for one in arch.components if one.role == DENOISER)
    return replace(options, load_lora_weights=spec_in(file, denoiser, arch.pipeline))


def _require_layers(spec: str, arch: PipelineArchitecture) -> None:
    """Raises OptionError for the name of a layer that no denoiser has."""
    rank, _, names = spec.partition(":")
    denoisers = [one for one in arch.components if one.role == DENOISER and one.trace is not None]
    for name in names.split(",") if names and denoisers else ():
        if not any(pairs_of(replace(one, lora=f"{rank}:{name}")) for one in denoisers):
            raise OptionError(
                f"--load-lora-weights: no linear layer in a block of {arch.pipeline}'s {denoisers[0].name} is called "
                f"{name!r}; give last names of its layers, like 16:to_q,to_k, or the rank alone."
            )


def spec_in(file: Companion, denoiser: Component, pipeline: str) -> str:
    """The file's LoRA as an option's value; of several ranks the largest. Raises OptionError where it is of another
    model."""
    layers = list(layers_of(file))
    if not layers:
        raise OptionError(f"--load-lora-weights: {file.file} changes no layer of a denoiser; leave it out.")
    rank = max(one.rank for one in layers)
    if denoiser.trace is None:  # layers that no catalog lists
        return spec_of(rank)
    blocks = {path: shape for path, shape in linears_of(denoiser) if in_block(path, unet=is_unet(denoiser.cls))}
    found = _by_name(layers, blocks) or _by_shape(layers, blocks)
    if not found:
        one = layers[0]
        raise OptionError(
            f"--load-lora-weights: {file.file} is a LoRA of another model: it changes layers like {one.name[:80]!r} of "
            f"{one.inputs} to {one.outputs} numbers, which the {denoiser.name} of {pipeline} does not have."
        )
    return _named(rank, found, blocks, unet=is_unet(denoiser.cls))


def layers_of(file: Companion) -> Iterator[FileLayer]:
    """The linear layers of a denoiser that the file changes; those of text encoders and convolutions are left out."""
    sides: dict[str, dict[str, tuple[int, ...]]] = {}
    for tensor in file.tensors:
        found = _MATRIX.fullmatch(tensor.name)
        if found is not None and not _ENCODERS.match(tensor.name) and len(tensor.shape) == 2:
            narrow = found["side"].lower() in ("a", "down")
            sides.setdefault(found["module"], {})["down" if narrow else "up"] = tensor.shape
    for name, both in sides.items():
        if len(both) == 2:
            yield FileLayer(name, both["down"][0], both["down"][1], both["up"][0])


def _by_name(layers: Sequence[FileLayer], blocks: Mapping[str, tuple[int, ...]]) -> set[str]:
    """The denoiser's layers that the file names as diffusers does, with dots or underscores; none where it names
    another model's."""
    known = {path.replace(".", "_"): path for path in blocks}
    found = set()
    for one in layers:
        path = known.get(_BEFORE.sub("", one.name, count=1).replace(".", "_"))
        if path is not None and blocks[path] == (one.outputs, one.inputs):
            found.add(path)
    return found if len(found) >= _SHARE * len(layers) else set()


def _by_shape(layers: Sequence[FileLayer], blocks: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Those of the shapes that the file changes, whatever they are called there: of a layer that joins several
    (queries, keys and values) each of them."""
    shapes = {(one.inputs, one.outputs) for one in layers}
    own = {(shape[1], shape[0]) for shape in blocks.values()}
    known = {(inputs, outputs) for inputs, outputs in shapes if any(_is_of(inputs, outputs, one) for one in own)}
    if sum((one.inputs, one.outputs) in known for one in layers) < _SHARE * len(layers):
        return set()
    return {path for path, shape in blocks.items() if any(_is_of(*one, (shape[1], shape[0])) for one in known)}


def _is_of(inputs: int, outputs: int, layer: tuple[int, int]) -> bool:
    return inputs == layer[0] and outputs % layer[1] == 0 and outputs <= 4 * layer[1]


def _named(rank: int, found: set[str], blocks: Mapping[str, tuple[int, ...]], *, unet: bool) -> str:
    """In few words: all layers, else their last names, else those that do not change others as well."""
    if len(found) == len(blocks):
        return spec_of(rank)
    for words in (set(map(_last, found)), set(map(numberless, found))):
        spec = spec_of(rank, sorted(words))
        if changed(spec, blocks.items(), unet=unet).keys() == found:
            return spec
    return spec


def _last(path: str) -> str:
    """The last name of a layer, with the one before it where it is a number."""
    parts = path.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdecimal() else parts[-1]
