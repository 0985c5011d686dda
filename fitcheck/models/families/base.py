"""The seam of families: what recognizes a model, and which models are known by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import ModelError
from fitcheck.models.companions import Companion
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import TensorTable
from fitcheck.models.tier_quality import TierQuality
from fitcheck.models.workload import Task

if TYPE_CHECKING:  # a model known by name is checked without the readers of files
    from fitcheck.models.candidates import Candidate
    from fitcheck.models.gguf import GgufHeader
    from fitcheck.models.safetensors import SafetensorsHeader

    Header = GgufHeader | SafetensorsHeader


@dataclass(frozen=True)
class ReadTier:
    """A candidate whose header could be read."""

    candidate: Candidate
    header: Header
    tier: Tier

    @property
    def gguf(self) -> GgufHeader | None:
        """The header, where it is a GGUF file's."""
        from fitcheck.models.gguf import GgufHeader

        return self.header if isinstance(self.header, GgufHeader) else None


@dataclass(frozen=True)
class Found:
    """What lies at a place: the tiers that could be read, and what describes them. ``config`` reads config.json, of a
    pipeline's component when one is named; ``pipeline`` is a diffusers model_index.json; ``None`` where there is none.
    ``beside`` are files that go with the model and are no tier, like projectors; ``projector`` is the header of the one
    that a program would take."""

    name: str
    tiers: tuple[ReadTier, ...]
    repository: str | None = None
    pipeline: Mapping[str, Any] | None = None
    config: Callable[..., dict[str, Any] | None] = lambda *_: None
    beside: tuple[str, ...] = ()
    projector: GgufHeader | None = None


@dataclass(frozen=True)
class Recognized:
    """A model, and the tiers of it that were found: of a catalog model the rest stands in ``model.tiers``."""

    model: Model
    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list says of a catalog model without making its tiers: ``parameters`` and the day it was ``released``
    (ISO), ``None`` where not known; ``source`` says where that is from; ``sees`` that it takes images. ``seen`` is the
    first day on which a public list has it, where no day of release is recorded."""

    slug: str
    name: str
    tasks: tuple[Task, ...]
    parameters: int | None = None
    released: str | None = None
    source: str = ""
    sees: bool = False
    seen: str | None = None

    @property
    def day(self) -> str | None:
        """The day it was released, or first seen (ISO); ``None`` where neither is known."""
        return self.released or self.seen


class Family(Protocol):
    """Models that share an architecture's meaning. ``tasks`` are what they are asked to do;
    ``by_rule`` says that the tiers of its catalog follow a tool's rules and are not published files one by one."""

    name: str
    tasks: tuple[Task, ...]
    by_rule: bool = False

    def recognize(self, found: Found) -> Recognized | None:
        """The model, if it is of this family, and which of its tiers lie there; ``None`` for what it does not know."""
        ...

    def slugs(self) -> Sequence[str]:
        """The models known by name."""
        return ()

    def get(self, slug: str) -> Model:
        """The model of one of ``slugs``."""
        raise KeyError(slug)

    def listed(self) -> Sequence[Listing]:
        """The models of ``slugs`` as a list needs them. A family with many overrides this, because making every model
        takes long."""
        return [_listing(self.get(slug), self.first_seen(slug)) for slug in self.slugs()]

    def first_seen(self, slug: str) -> str | None:
        """The first day (ISO) on which a public list has the model; ``None`` where none is recorded."""
        return None

    def tier_of_file(self, model: Model, path: str | Path) -> Tier:
        """A local GGUF file as a tier of the catalog model. Raises InputError when it is not one."""
        raise ModelError(f"--gguf: a file cannot stand for a tier of {model.name}; check it by itself.")

    def named(self, text: str) -> Model | None:
        """The catalog model that a person means by ``text``; ``None`` when none is. Raises ModelError listing the
        candidates when it could be several."""
        return None

    def near(self, text: str) -> Sequence[str]:
        """Names of the catalog that ``text`` may be a slip of."""
        return difflib.get_close_matches(text.lower(), self.slugs(), n=3, cutoff=0.5)

    def refuses(self, one: ReadTier) -> str | None:
        """Why a file that was read is no model by itself, in a clause; ``None`` where it may be one."""
        return None

    def quality(self, model: Model, tier: Tier) -> TierQuality | None:
        """What the tier costs in quality, as published for this model or one of its kind; ``None`` where nobody has
        measured it."""
        return None

    def companion(self, header: Header, path: str | None) -> Companion | None:
        """A file that goes beside this family's models, with what it is; ``None`` for any other."""
        return None

    def classify(self, table: TensorTable) -> TensorTable | None:
        """The table with roles, layers and branches by the family's own names; ``None`` when they are not its."""
        return None


def _listing(model: Model, seen: str | None) -> Listing:
    """Parameters are those of the tier that takes most disk."""
    largest = max(model.tiers, key=lambda tier: tier.disk_bytes)
    source = model.sources[0] if model.sources else ""
    return Listing(model.slug, model.name, model.tasks, largest.tensors.elements, None, source, seen=seen)


def printable(value: object) -> str | None:
    """Text from a file as one safe line; ``None`` when it is none."""
    if not isinstance(value, str):
        return None
    return "".join(letter if letter.isprintable() else " " for letter in value[:200]).strip() or None
