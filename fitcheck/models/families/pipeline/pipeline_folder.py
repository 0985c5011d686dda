"""A diffusers folder or repository: which catalog components it holds, by class, shapes and config."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.errors import FileError, ModelError
from fitcheck.models.families.base import Found, ReadTier, Recognized, printable
from fitcheck.models.families.pipeline import catalog, tables
from fitcheck.models.families.pipeline.architecture import (
    DENOISER,
    IMAGE_ENCODER,
    TEXT_ENCODER,
    VAE,
    Component,
    Config,
    PipelineArchitecture,
)
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import Tensor, TensorTable

# parts of model_index.json that have no weights
_WEIGHTLESS = re.compile(r"tokenizer|scheduler|processor|feature_extractor|guider|_|boundary_ratio|expand_timesteps")
_PREFIXES = ("text_model.", "model.", "module.")
_ROLES = {"transformer": DENOISER, "unet": DENOISER, "vae": VAE, "text_encoder": TEXT_ENCODER}
_MOST_CONFIG_KEYS, _MOST_VALUES, _LONGEST_TEXT = 200, 256, 200
# keys that diffusers and transformers write into every config
_ALWAYS = re.compile(r"_.*|quantization_config|torch_dtype|dtype|transformers_version|architectures|model_type")
# keys of published configs that the class took once and never used
_IGNORED = {"QwenImageTransformer2DModel": ("pooled_projection_dim",)}


def recognize(found: Found) -> Recognized | None:
    """The pipeline that lies there; ``None`` when its class is in no catalog, so that its weights alone can be judged.

    Raises ModelError for a class that diffusers does not have, FileError for a component without weights.
    """
    index = found.pipeline or {}
    pipeline = _class_name(found, index)
    slugs = [slug for slug in catalog.slugs() if catalog.entry_of(slug)["pipeline"] == pipeline]
    read = [one for one in found.tiers if one.candidate.components]
    if not slugs or not read:
        return None
    for one in read:
        _require_weights(found, index, one)
    tensors = _by_component(read[0].tier.tensors)
    nearest = max(slugs, key=lambda slug: _agreement(catalog.architecture_of(slug), tensors))
    architecture = _architecture(found, index, catalog.architecture_of(nearest), tensors)
    tiers = tuple(replace(one.tier, tensors=_with_roles(one.tier, architecture)) for one in read)
    return Recognized(_model(found, nearest, architecture, tiers), tiers)


@cache
def _known_classes() -> tuple[frozenset[str], frozenset[str], str]:
    names = load(tables.ROOM, "classes")
    return frozenset(names["pipelines"]), frozenset(names["models"]), str(names["diffusers"])


def _class_name(found: Found, index: Mapping[str, Any]) -> str:
    pipelines, models, version = _known_classes()
    name = printable(index.get("_class_name")) or "nothing"
    if name not in pipelines:
        raise ModelError(
            f"{found.name}: model_index.json names the pipeline {name}, which diffusers {version} does not have; "
            "check its denoiser's file by itself."
        )
    for part, (library, cls) in _parts(index).items():
        if library == "diffusers" and cls not in models:
            raise ModelError(
                f"{found.name}: model_index.json wants {cls} as {part}, which diffusers {version} does not have; "
                "check the files by themselves."
            )
    return name


def _parts(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Component → (library, class) of every part that has weights."""
    found = {}
    for key, value in list(index.items())[:_MOST_VALUES]:
        if isinstance(value, list) and len(value) == 2 and not _WEIGHTLESS.match(_last_word(key)):
            library, cls = printable(value[0]), printable(value[1])
            if library and cls:
                found[key] = (library, cls)
    return found


def _last_word(key: str) -> str:
    """``"tokenizer_2"`` is a tokenizer, ``"image_processor"`` a processor."""
    return "processor" if key.endswith("processor") else key


def _require_weights(found: Found, index: Mapping[str, Any], one: ReadTier) -> None:
    for part, (_, cls) in _parts(index).items():
        if part not in one.candidate.components and part != "safety_checker":
            raise FileError(
                f"{printable(found.name)}: {printable(part)} ({cls}) of model_index.json has no .safetensors weights "
                f"there; download the folder {printable(part)} too."
            )


def _agreement(architecture: PipelineArchitecture, tensors: Mapping[str, Mapping[str, Tensor]]) -> int:
    """Parameters of the components of a catalog pipeline that lie there, in the same shapes."""
    return sum(
        tables.parameters(one.trace)
        for one in architecture.components
        if one.trace is not None and one.name in tensors and _same_shapes(one.trace, tensors[one.name])
    )


def _by_component(table: TensorTable) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for tensor in table:
        name = tensor.name.removeprefix(f"{tensor.branch}.")
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        found.setdefault(tensor.branch, {})[name] = tensor
    return found


def _same_shapes(trace: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether every parameter of a catalog component is there with its shape; packed weights have other shapes, and
    the file may hold tied tensors and tables besides."""
    for entry in tables.entries(trace):
        name = entry.name
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        tensor = tensors.get(name)
        if tensor is None or (tensor.shape != entry.shape and not _packed(tensor)):
            return False
    return True


def _packed(tensor: Tensor) -> bool:
    return tensor.type in ("U8", "I8", "F4", "I32")


def _architecture(
    found: Found,
    index: Mapping[str, Any],
    like: PipelineArchitecture,
    tensors: Mapping[str, Mapping[str, Tensor]],
) -> PipelineArchitecture:
    """The catalog's architecture with the components that lie there; one with other shapes has no trace."""
    parts, components = _parts(index), []
    for name in _in_order(tensors, like):
        known = next((one for one in like.components if one.name == name), None)
        library, cls = parts.get(name, ("unknown", "unknown"))
        config = _config(found, name)
        if known is None or known.cls != cls:
            components.append(_unknown(name, library, cls, Config(_tidy(config)), tensors[name]))
            continue
        _require_known_keys(found, config, known)
        if known.trace is not None and _same_shapes(known.trace, tensors[name]):
            components.append(replace(known, config=Config({**dict(known.config), **_tidy(config)})))
        else:
            components.append(_unknown(name, library, cls, Config(_tidy(config)), tensors[name]))
    return replace(like, components=tuple(components))


def _in_order(names: Iterable[str], like: PipelineArchitecture) -> list[str]:
    order = {name: place for place, name in enumerate(like.offload_sequence)}
    return sorted(names, key=lambda name: order.get(name, len(order)))


def _unknown(name: str, library: str, cls: str, config: Config, tensors: Mapping[str, Tensor]) -> Component:
    lists = dict.fromkeys(
        parts[0] for parts in (path.split(".", 2) for path in tensors) if len(parts) == 3 and parts[1].isdigit()
    )
    role = next((role for start, role in _ROLES.items() if name.startswith(start)), IMAGE_ENCODER)
    return Component(name, role, library, cls, None, config, tuple(lists))


def _config(found: Found, name: str) -> dict[str, Any]:
    """The component's config.json without what diffusers writes for itself."""
    return {key: value for key, value in (found.config(name) or {}).items() if not _ALWAYS.fullmatch(key)}


def _require_known_keys(found: Found, config: Mapping[str, Any], known: Component) -> None:
    """Raises FileError for a key that the class of a catalog component does not have: of another version, it may
    change what the model computes. One that switches nothing on is ignored, as diffusers ignores it."""
    if known.library != "diffusers":
        return
    ignored = _IGNORED.get(known.cls, ())
    strange = sorted(key for key, value in config.items() if key not in known.config and key not in ignored and value)
    if strange:
        raise FileError(
            f"{printable(found.name)}: {known.name}/config.json has {printable(strange[0])!r}, which {known.cls} of "
            f"diffusers {_known_classes()[2]} does not know; it belongs to another version or class."
        )


def _tidy(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in list(config.items())[:_MOST_CONFIG_KEYS] if _plain(value)}


def _plain(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= _MOST_VALUES and all(isinstance(one, int | float | bool | str) for one in value)
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT
    return value is None or isinstance(value, int | float | bool)


def _with_roles(tier: Tier, architecture: PipelineArchitecture) -> TensorTable:
    """The tier's tensors with the kind of module that holds each, where the catalog knows it."""
    known: dict[tuple[str, str], tables.Entry] = {}
    for one in architecture.components:
        for entry in tables.entries(one.trace) if one.trace is not None else ():
            known[one.name, entry.name] = entry
    return TensorTable(_named(tensor, known) for tensor in tier.tensors)


def _named(tensor: Tensor, known: Mapping[tuple[str, str], tables.Entry]) -> Tensor:
    name = tensor.name.removeprefix(f"{tensor.branch}.")
    entry = known.get((tensor.branch, name)) or known.get((tensor.branch, name.removeprefix("text_model.")))
    return tensor if entry is None else replace(tensor, role=entry.role, layer=entry.layer)


def _model(found: Found, slug: str, architecture: PipelineArchitecture, tiers: tuple[Tier, ...]) -> Model:
    like = catalog.get(slug)
    strangers = [one.name for one in architecture.components if one.trace is None]
    notes = [f"Recognized by its model_index.json and shapes as a pipeline like {like.name}."]
    if strangers:
        notes.append(f"{', '.join(strangers)}: shapes of no catalog component, so that activations are not known.")
    return replace(
        like,
        slug=found.repository or found.name,
        name=found.name,
        architecture=architecture,
        tiers=tiers,
        repository=found.repository,
        notes=(*notes, *like.notes),
        licence=like.licence if found.repository == like.repository else "unknown",
    )
