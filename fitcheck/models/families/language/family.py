"""Language models: recognized by a GGUF header's architecture or by config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fitcheck.errors import InputError, NotModelledError
from fitcheck.models.architectures import Architecture
from fitcheck.models.companions import Companion, companion_of
from fitcheck.models.families.base import Family, Found, Listing, ReadTier, Recognized, printable
from fitcheck.models.families.language import catalog
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.config import architecture_from_config
from fitcheck.models.families.language.kinds import kind_of_file
from fitcheck.models.families.language.known_models import (
    LanguageEntry,
    known_language_model,
    known_language_models,
    language_entry,
)
from fitcheck.models.families.language.metadata import architecture_of_header
from fitcheck.models.families.language.mixture import mixture_elements, mixture_table
from fitcheck.models.families.language.names import AmbiguousNameError, NoEntryError
from fitcheck.models.families.language.quality import measured
from fitcheck.models.families.unknown import UnknownArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.tier_quality import TierQuality
from fitcheck.models.workload import Task

if TYPE_CHECKING:
    from fitcheck.models.families.base import Header

PROJECTOR = "projector"
COMPANIONS = (PROJECTOR, "adapter", "control vector")
# what a checkpoint is usually converted to, by llama.cpp's own tools
CONVERTED = ("BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M")
# a converted file holds other tensors than the checkpoint when their counts differ by more than this
SAME_WEIGHTS = 0.02
_SIZE = re.compile(r"-(\d{1,4}(?:\.\d)?)b(?:-|$)")


class Language(Family):
    """See ``fitcheck.models.families.base.Family``."""

    name = "language"
    tasks = (Task.CHAT, Task.EMBED)
    by_rule = True

    def slugs(self) -> tuple[str, ...]:
        """The slugs of ``data/language_models.json``, in its order."""
        return known_language_models()

    def get(self, slug: str) -> Model:
        """The model from its published config. Raises ModelError for a slug that the catalog lacks."""
        return catalog.model_of(language_entry(slug))

    def listed(self) -> list[Listing]:
        """Straight from the data file: no tier is sized for it."""
        return [_listing(language_entry(slug)) for slug in self.slugs()]

    def named(self, text: str) -> Model | None:
        """By words of a model's names, in any order. Raises AmbiguousNameError where several models have them,
        NoEntryError where the one that has them cannot be answered of."""
        try:
            return catalog.language_model(text)
        except (AmbiguousNameError, NoEntryError):
            raise
        except InputError:
            return None

    def refuses(self, one: ReadTier) -> str | None:
        """A GGUF file whose header says that it is no model: a projector, an adapter, a vocabulary."""
        if one.gguf is None:
            return None
        kind = kind_of_file(one.gguf)
        return None if kind.model else f"this is {kind.says}"

    def recognize(self, found: Found) -> Recognized | None:
        """By the GGUF header's architecture, else by config.json; notes a projector that lies beside."""
        model = self._files(found) or self._checkpoint(found)
        if model is None:
            return None
        if found.beside:
            model = self._with_projector(model, found)
        return Recognized(model, model.tiers)

    def _with_projector(self, model: Model, found: Found) -> Model:
        """With the projector beside it, as programs load it where they find one."""
        header = found.projector
        companion = None if header is None else self.companion(header, header.name)
        if companion is None or companion.role != PROJECTOR:
            note = f"The projector for images or audio ({found.beside[0]}) is not counted."
            return replace(model, notes=(*model.notes, note))
        tiers = tuple(replace(tier, companions=(companion,)) for tier in model.tiers)
        return replace(model, tiers=tiers)

    def quality(self, model: Model, tier: Tier) -> TierQuality | None:
        """By the name of the mixture; none for text that is not written and for weights that were trained quantized,
        which the tables do not hold."""
        shape = model.architecture
        if not isinstance(shape, LanguageArchitecture) or shape.embeds or catalog.trained_quantized(shape):
            return None
        return measured(model.slug, tier.name) if tier.format == "gguf" else None

    def companion(self, header: Header, path: str | None) -> Companion | None:
        """A projector, an adapter or a control vector."""
        from fitcheck.models.gguf import GgufHeader

        if not isinstance(header, GgufHeader):
            return None
        kind = kind_of_file(header)
        if kind.name not in COMPANIONS:
            return None
        keys = ("clip.projector_type", "clip.vision.projector_type")
        told = (header.metadata.get(key) for key in (("general.architecture",) if kind.name == "adapter" else keys))
        return companion_of(header, kind.name, next((one for one in told if isinstance(one, str)), ""), path)

    def _files(self, found: Found) -> Model | None:
        """GGUF files; each tier keeps its own shape, because a folder may hold several models."""
        tiers: list[Tier] = []
        name = licence = reason = None
        for one in found.tiers:
            header = one.gguf
            if header is None:
                continue
            try:
                architecture = architecture_of_header(header)
            except NotModelledError as problem:
                reason = reason or str(problem)
                continue
            except InputError:
                continue
            tiers.append(replace(one.tier, architecture=architecture))
            name = name or header.metadata.get("general.name")
            licence = licence or header.metadata.get("general.license")
        if not tiers:
            return None if reason is None else self._unmodelled(found, reason)
        assert tiers[0].architecture is not None
        return Model(
            slug=found.repository or found.name,
            name=printable(name) or found.name,
            architecture=tiers[0].architecture,
            tiers=tuple(tiers),
            tasks=_tasks(tiers[0].architecture),
            runtimes=("llama.cpp",),
            repository=found.repository,
            licence=printable(licence) or "unknown",
        )

    def _unmodelled(self, found: Found, reason: str) -> Model | None:
        """Files that llama.cpp runs, or once ran, and whose run is not modelled: their weights can still be judged."""
        kinds = {kind_of_file(one.gguf).name for one in found.tiers if one.gguf is not None}
        if kinds == {"image denoiser"}:
            return None
        header = found.tiers[0].header
        kind = printable(getattr(header, "architecture", None)) or "unknown"
        return Model(
            slug=found.repository or found.name,
            name=found.name,
            architecture=UnknownArchitecture(kind),
            unmodelled=reason,
            tiers=tuple(one.tier for one in found.tiers),
            tasks=(Task.CHAT,),
            runtimes=("weights only",),
            repository=found.repository,
            notes=(f"The run of this model ({kind}) is not modelled: only its weights are judged.",),
        )

    def _checkpoint(self, found: Found) -> Model | None:
        """A safetensors checkpoint: itself, and what llama.cpp's tools would convert it to."""
        config = None if found.tiers[0].candidate.format == "gguf" or found.pipeline else found.config()
        if config is None:
            return None
        try:
            architecture = architecture_from_config(config)
        except InputError:
            return None
        stored = [one.tier for one in found.tiers]
        return Model(
            slug=found.repository or found.name,
            name=found.name,
            architecture=architecture,
            tiers=(*stored, *_converted(architecture, found.name, stored[0])),
            tasks=(Task.CHAT,),
            runtimes=("llama.cpp", "weights only"),
            repository=found.repository,
            notes=tuple(_conversion_notes(config, architecture, stored[0])),
        )


def _tasks(architecture: Architecture) -> tuple[Task, ...]:
    assert isinstance(architecture, LanguageArchitecture)
    return catalog.tasks_of(architecture.embeds)


def _converted(architecture: LanguageArchitecture, name: str, stored: Tier) -> list[Tier]:
    """The tiers that llama-quantize would write; none where the shapes of the architecture are not known."""
    short = name.rstrip("/").rpartition("/")[2]
    tiers = []
    for tier in CONVERTED:
        try:
            table = mixture_table(architecture, tier)
        except InputError:
            return []
        tiers.append(
            Tier(
                name=tier,
                tensors=table,
                format="gguf",
                file=f"{short}-{tier}.gguf",
                disk_bytes=table.nbytes + stored.disk_bytes,
                source="llama-quantize's rules on the shape in config.json; disk with the checkpoint it is made from",
                published=False,
            )
        )
    return tiers


def _conversion_notes(config: Mapping[str, object], architecture: LanguageArchitecture, stored: Tier) -> list[str]:
    notes = [
        "llama.cpp does not read safetensors: its rows assume a conversion with its own tools, sizes by their rules."
    ]
    packed = config.get("quantization_config")
    if isinstance(packed, dict):
        notes.append(
            f"The checkpoint is stored packed ({printable(packed.get('quant_method')) or 'unknown'}); whether "
            "llama.cpp's converter takes it is not checked."
        )
        return notes
    try:
        expected = mixture_table(architecture, "BF16").elements
    except InputError as problem:
        return [*notes, f"What a conversion would give is unknown: {problem}"]
    difference = stored.tensors.elements / max(expected, 1) - 1
    if abs(difference) > SAME_WEIGHTS:
        notes.append(
            f"The checkpoint holds {stored.tensors.elements:,} parameters, the language model in config.json "
            f"{expected:,}: only the latter are converted."
        )
    return notes


def _listing(entry: LanguageEntry) -> Listing:
    """An entry as a list shows it. Where the hub's count is not recorded, the count in the model's name stands in, else
    the model's shape gives it."""
    source = f"{entry.source}, looked up {entry.looked_up}"
    return Listing(
        entry.slug,
        entry.name,
        catalog.tasks_of(entry.embeds),
        entry.parameters or _named_size(entry.slug) or mixture_elements(known_language_model(entry.slug)),
        entry.released,
        source,
        entry.projector,
    )


def _named_size(slug: str) -> int | None:
    """``27_000_000_000`` of ``gemma-3-27b``: the first size in a name, which is that of all its parameters."""
    found = _SIZE.search(slug)
    return None if found is None else round(float(found[1]) * 1e9)


FAMILY = Language()
