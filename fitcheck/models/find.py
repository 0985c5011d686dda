"""From what was typed to a ``Model``: a catalog slug, a file, a folder, a repository on the hub or a URL.

What is known by name is not read for; what lies somewhere is read by ``identify``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import FileError, ModelError, NetworkError, OptionError
from fitcheck.models import catalog
from fitcheck.models.companions import DRAFT, LORA, Companion
from fitcheck.models.families import registry
from fitcheck.models.model import Model, Tier

USUAL_TIER = "Q4_K_M"  # llama.cpp common/arg.cpp: what -hf takes of a repository
_MOST_NEIGHBOURS = 2000
# a tier behind a name: one or two letters with a number of bits (Q4_K_M, IQ3_S), or a number format; behind a space
# only what is no part of any name, as the R1 of DeepSeek R1 is
_FORMAT = r"bf16|(?:mx|nv)?fp\d|int\d"
_TIERED = re.compile(
    rf"(?P<name>.{{1,200}}?)(?:[:-]|\s+(?=(?:[it]?q\d|nf4|f16|{_FORMAT})))"
    rf"(?P<tier>(?:[a-z]{{1,2}}\d|{_FORMAT})\w{{0,20}})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Identified:
    """A model, the tiers of it that were asked about or found, what to say of those that are not looked at, and how
    much was fetched for it (bytes, requests)."""

    model: Model
    tiers: tuple[Tier, ...]
    notes: tuple[str, ...] = ()
    fetched: tuple[int, int] | None = None


def find_model(
    target: str,
    *,
    tiers: Sequence[str] = (),
    gguf: str | Path | None = None,
    size: int | None = None,
    offline: bool = False,
) -> Identified:
    """The model that ``target`` means, with the tiers named, or all it offers.

    ``gguf`` is a local file that stands for the tier of a catalog model. ``size`` in bytes is what the machine has
    room for: where a repository offers more tiers than are read, the ones about as large are. Raises InputError.
    """
    model = catalog.known(target)
    if model is not None:
        return Identified(model, _known(model, tiers, gguf))
    named = None if _is_place(target) else _named(target)
    if named is not None:
        return Identified(named, _known(named, tiers, gguf))
    tiered = None if _is_place(target) else _with_tier(target)
    if tiered is not None:
        if tiers or gguf is not None:
            raise OptionError(f"--tier: {target!r} names its tier; name it once.")
        return Identified(*tiered)
    if gguf is not None:
        raise OptionError(
            f"--gguf goes with a catalog model; to check that file itself, write `fitcheck check {gguf}`."
        )
    _refuse_what_names_nothing(target)
    from fitcheck.models.identify import identify  # with the readers of files, which a name does without
    from fitcheck.models.resolve import resolve

    try:
        with resolve(target, offline=offline) as found:
            try:
                recognized, notes = identify(found, tiers, size)
            finally:
                traffic = found.traffic
    except NetworkError as error:
        raise NetworkError(f"{error}{_known_without_network(target)}") from error
    return Identified(
        recognized.model,
        recognized.tiers,
        tuple(notes),
        None if traffic is None else (traffic.fetched_bytes, traffic.requests),
    )


def _known_without_network(target: str) -> str:
    """What to ask instead of a repository that cannot be read; empty where the catalog has nothing of that name."""
    steps = (target.partition("://")[2].partition("/")[2] or target).split("/")  # org/repo, also of an address
    model = named(steps[1].partition(":")[0].partition("@")[0]) if len(steps) > 1 else None
    return "" if model is None else f" The catalog answers without it: `fitcheck check {model.slug}`."


def _known(model: Model, tiers: Sequence[str], gguf: str | Path | None) -> tuple[Tier, ...]:
    if gguf is not None:
        if not Path(gguf).name:
            raise OptionError(f"--gguf: {str(gguf)!r} is a folder; name a .gguf file.")
        family = registry.get(model.architecture.family)
        return (family.tier_of_file(model, gguf),)
    return tuple({one.name: one for name in tiers for one in model.tiers_named(name)}.values()) or model.tiers


def read_draft(target: str, *, offline: bool = False) -> Companion:
    """The second model that ``target`` means, in the tier that is named behind a colon (``qwen3-0.6b:Q8_0``), else in
    the one that llama.cpp's own download takes: Q4_K_M, or the first there is. Raises InputError."""
    found = find_model(target, offline=offline)
    ready = [one for one in found.tiers if one.format == "gguf"]
    if found.model.unmodelled is not None or not ready:
        why = found.model.unmodelled or "there is no GGUF file of it"
        raise ModelError(f"{target}: it cannot draft: {why}.")
    usual = next((one for one in ready if one.name.upper() == USUAL_TIER), ready[0])
    return draft_of(found.model, usual)


def read_companion(place: str, role: str, *, offline: bool = False) -> Companion:
    """The file at ``place`` as what goes beside a model. Raises InputError where it is not of that role."""
    if role == DRAFT:
        return read_draft(place, offline=offline)
    from fitcheck.models.gguf import GgufHeader
    from fitcheck.models.resolve import resolve

    with resolve(place, offline=offline) as found:
        header = found.header(found.candidates[0])
        local = found.files.local_path(found.candidates[0].files[0])
    path = None if local is None else str(local)
    read = next((one for family in registry.every() if (one := family.companion(header, path)) is not None), None)
    if not isinstance(header, GgufHeader) and role != LORA:
        raise FileError(
            f"{place}: this is no .gguf file, and {_one(role)} beside a GGUF model is one; name a .gguf file. The "
            "LoRA of an image or video pipeline is asked for with --load-lora-weights."
        )
    if read is None or read.role != role:
        what = "model" if read is None else read.role
        raise FileError(f"{place}: this is {_one(what)} and no {role}; name the {role}'s own file.")
    return read


def _one(role: str) -> str:
    return f"{'an' if role[0] in 'aeiou' else 'a'} {role}"


def named(text: str) -> Model | None:
    """The catalog model that a name means, like that of a file without its tier; ``None`` for none or several."""
    with suppress(ModelError):
        return catalog.known(text) or _named(text)
    return None


def slug_of(text: str) -> str:
    """The slug of the catalog model that a person calls ``text``; ``text`` itself where it is a file or no model of the
    catalog. Raises ModelError when it could be several."""
    model = None if _is_place(text) else catalog.known(text) or _named(text)
    return text if model is None else model.slug


def _named(text: str) -> Model | None:
    """The catalog model that a person means by ``text``. Raises ModelError when it could be several."""
    return next((model for family in registry.each() if (model := family.named(text)) is not None), None)


def _with_tier(target: str) -> tuple[Model, tuple[Tier, ...]] | None:
    """Model and tiers of a name as ollama and llama-server take it, or as people say it: ``qwen3-8b:Q4_K_M``,
    ``llama3.1:8b-instruct-q4_K_M``, ``qwen3 8b q4``, which has all that ``--tier q4`` has. ``None`` where it is none.
    Raises ModelError for a tier that the model lacks."""
    found = _TIERED.fullmatch(target)
    if found is None:
        return None
    model = catalog.known(found["name"]) or _named(found["name"])
    return None if model is None else (model, model.tiers_named(found["tier"]))


def _is_place(target: str) -> bool:
    """Whether ``target`` is a path that exists, written as a path, a hub name or an address."""
    if target.startswith(("http://", "https://", ".", "/", "~")) or "\\" in target or not target.isprintable():
        return True
    with suppress(OSError, RuntimeError, ValueError):
        if Path(target).expanduser().exists():
            return True
    return target.lower().endswith((".gguf", ".safetensors")) or _is_hub_name(target)


def _is_hub_name(target: str) -> bool:
    """Raises ModelError for a repository with an unusable revision or file."""
    if "/" not in target:  # what reads from a hub takes longer to import than a name to find
        return False
    from fitcheck.models.hub import parse_hub_name

    return parse_hub_name(target) is not None


def _refuse_what_names_nothing(target: str) -> None:
    """A word that is neither a path nor a hub name is most often a slip; say what it may have been meant to be."""
    if not target.strip() or not target.isprintable() or target.startswith(("http://", "https://")):
        return
    with suppress(OSError, RuntimeError, ValueError):
        if Path(target).expanduser().exists():
            return
        if Path(target).expanduser().is_symlink():  # as a cache of the hub keeps when its files go
            raise FileError(f"{target}: this link leads to no file; fetch the file again, or name where it lies now.")
        is_path = target.startswith((".", "/", "~")) or "\\" in target
        if not is_path and _is_hub_name(target):
            return
        near = [name for family in registry.every() for name in family.near(target)][:3] or _files_like(target)
        meant = f"; did you mean {', '.join(near)}?" if near else "."
        kind = FileError if _is_place(target) else ModelError
        raise kind(
            f"{target!r} is neither a catalog model, nor a file or folder, nor a hub name like org/repo or "
            f"org/repo:file.gguf{meant} `fitcheck models` lists the catalog."
        )


def _files_like(target: str) -> list[str]:
    """Model files beside the place that was named, with nearly that name."""
    path = Path(target).expanduser()
    try:
        beside = [one.name for one in islice(path.parent.iterdir(), _MOST_NEIGHBOURS)]
    except OSError:
        return []
    names = [name for name in beside if name.isprintable() and name.endswith((".gguf", ".safetensors"))]
    return [str(path.parent / name) for name in difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)]


def draft_of(model: Model, tier: Tier) -> Companion:
    """A model in one tier as what drafts for another."""
    return Companion(
        DRAFT,
        tier.file or "",
        tier.tensors,
        kind=tier.name,
        path=tier.local_path,
        architecture=tier.architecture or model.architecture,
        repository=tier.repository,
        disk_bytes=tier.disk_bytes,
        name=model.name,
    )
