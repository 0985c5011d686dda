"""A model as fitcheck sees it: tiers with real tensor tables, an architecture, requirements and where to get it."""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from itertools import takewhile

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import ModelError
from fitcheck.models.architectures import Architecture
from fitcheck.models.companions import Companion
from fitcheck.models.quant import TYPES
from fitcheck.models.tensors import TensorTable
from fitcheck.models.tier_names import like_published, publisher_of
from fitcheck.models.workload import Task


@dataclass(frozen=True)
class Tier:
    """A quant tier: a concrete file (or set of shards) with its tensor table.

    ``disk_bytes`` is what the download takes; ``published_bytes`` what the repository states, when it does, to the
    precision in ``source``. ``published`` says whether someone can get these weights. ``distilled_steps`` is set when
    the weights are distilled to that many sampling steps; ``architecture`` where the tier's shape is not the model's;
    ``components`` are a pipeline's parts in order, ``companions`` files that are loaded beside this one.
    """

    name: str
    tensors: TensorTable
    format: str
    file: str | None = None
    repository: str | None = None
    disk_bytes: int = 0
    published_bytes: int | None = None
    source: str = ""
    local_path: str | None = None
    published: bool = True
    distilled_steps: int | None = None
    architecture: Architecture | None = None
    components: tuple[str, ...] = ()
    companions: tuple[Companion, ...] = ()

    def __hash__(self) -> int:
        # The table is compared by identity, so its hash says all; one over every field
        # would cost a sweep over cards a fifth of its time.
        return hash(self.tensors)

    @cached_property
    def quantized(self) -> bool:
        """Whether any tensor is stored in a block-quantized type."""
        return any(TYPES[name].quantized for name in self.tensors.bytes_by_type)


@dataclass(frozen=True)
class Requirement:
    """One row of what a runtime needs: component, minimum, what was tested, source."""

    component: str
    minimum: str
    tested: str = ""
    source: str = ""


@dataclass(frozen=True)
class Model:
    """A model and its tiers: the tasks it can be asked, the runtimes that take it, what they require, and where all
    that is from. ``unmodelled`` says in a clause why its run is not modelled; ``None`` where it is."""

    slug: str
    name: str
    architecture: Architecture
    tiers: tuple[Tier, ...]
    tasks: tuple[Task, ...]
    runtimes: tuple[str, ...]
    repository: str | None = None
    licence: str = "unknown"
    requirements: tuple[Requirement, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = field(default=())
    unmodelled: str | None = None

    def __hash__(self) -> int:
        return hash(self.slug)

    def tier_named(self, name: str) -> Tier:
        """The tier of that name, in any case. Raises ModelError with the names there are."""
        tier = self.tier(name)
        if tier is None:
            known = ", ".join(tier.name for tier in self.tiers)
            raise ModelError(
                self._of_publisher(name) or f"--tier: {self.name} has no tier {name!r}; choose from {known}."
            )
        return tier

    def _of_publisher(self, name: str) -> str:
        """Where to find a mixture that its publisher alone knows, and the nearest here; empty for other names."""
        publisher = publisher_of(name)
        if publisher is None:
            return ""
        wanted = _plain(like_published(name))
        nearest = max(self.tiers, key=lambda tier: _shared(_plain(tier.name), wanted))
        own = (nearest.repository or "").startswith(f"{publisher}/")
        where = nearest.repository if own else f"the repository of {publisher} (org/repo)"
        return (
            f"--tier: {name} is a mixture of {publisher}'s own, and only its files say of which types: check {where} "
            f"with --tier {name} (a few MB of headers), the file itself, or the nearest known here, {nearest.name}."
        )

    def tiers_named(self, name: str) -> tuple[Tier, ...]:
        """The tier of that name, else all that begin with it: ``Q4`` is Q4_0, Q4_1, Q4_K_S and Q4_K_M. Raises
        ModelError with the names there are."""
        found = self.tier(name)
        group = [one for one in self.tiers if begins_with(one.name, name)] if found is None else [found]
        return tuple(group) or (self.tier_named(name),)

    def tier(self, name: str) -> Tier | None:
        """The tier of that name, in any case and with or without its underlines; ``None`` when there is none."""
        exact = next((tier for tier in self.tiers if tier.name.lower() == name.lower()), None)
        return exact or next((tier for tier in self.tiers if _plain(tier.name) == _plain(name)), None)


def begins_with(tier: str, name: str) -> bool:
    """Whether ``name`` is a kind of tiers that ``tier`` is one of: with the number of bits at the least."""
    plain = _plain(name)
    return any(map(str.isdigit, plain)) and _plain(tier).startswith(plain)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _shared(one: str, other: str) -> int:
    """How many letters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
