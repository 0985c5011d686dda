"""What of a component's weights moves together: leaves, or blocks of the lists that are its direct children."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.pipeline.architecture import Component
from fitcheck.runtimes.diffusers.weights import ModuleWeights, pinned_bytes

# sums that are packed, by the names of ``Groups``
GROUP_SUMS = ("whole", "pinned", "largest", "neighbours", "total", "count")


@dataclass(frozen=True)
class Groups:
    """What moves together in one forward, in order: bytes on the card of each group, and ``pinned`` ones of the host
    that hold a copy of them all. ``whole`` stays for the whole forward and is never copied ahead, nor pinned."""

    whole: int
    moving: tuple[int, ...]
    pinned: int

    @cached_property
    def largest(self) -> int:
        """The largest group."""
        return max(self.moving, default=0)

    @cached_property
    def neighbours(self) -> int:
        """The two consecutive groups that take most."""
        return max((a + b for a, b in zip(self.moving, self.moving[1:], strict=False)), default=self.largest)

    @cached_property
    def total(self) -> int:
        """Bytes of all groups that move."""
        return sum(self.moving)

    @cached_property
    def count(self) -> int:
        """How many they are."""
        return len(self.moving)


class PackedGroups(Groups):
    """Sums that were worked out beforehand; the groups themselves are made where somebody asks for them."""

    def __init__(self, sums: Sequence[int], live: Callable[[], Groups]) -> None:
        vars(self).update(zip(GROUP_SUMS, sums, strict=True), live=live)

    @cached_property
    def moving(self) -> tuple[int, ...]:
        """As they are worked out from the leaves."""
        found: Groups = vars(self)["live"]()
        return found.moving


def groups_name(level: str, below: str, blocks: int = 1) -> str:
    """How a pack names groups."""
    return f"{level} {blocks} {below}".rstrip()


def _known(weights: ModuleWeights, name: str, live: Callable[[], Groups]) -> Groups:
    sums = (weights.packed or {}).get(name)
    return live() if sums is None else PackedGroups(sums, live)


@lru_cache(maxsize=1024)
def leaf_groups(weights: ModuleWeights, below: str = "") -> Groups:
    """Every leaf by itself; only those of the child ``below`` where one is named."""
    return _known(weights, groups_name("leaf", below), lambda: live_leaf_groups(weights, below))


def live_leaf_groups(weights: ModuleWeights, below: str) -> Groups:
    """The same worked out from the leaves."""
    leaves = [leaf for leaf in weights.leaves if _inside(leaf.path, below)]
    return Groups(0, tuple(leaf.nbytes for leaf in leaves), sum(pinned_bytes(leaf) for leaf in leaves))


@lru_cache(maxsize=1024)
def block_groups(weights: ModuleWeights, component: Component, blocks: int, below: str = "") -> Groups:
    """``blocks`` entries of a list at a time; what is in no list is one group for the whole forward. Where the class
    names children to look into, ``below`` is the one that runs."""
    name = groups_name("block", below, blocks)
    return _known(weights, name, lambda: live_block_groups(weights, component, blocks, below))


def live_block_groups(weights: ModuleWeights, component: Component, blocks: int, below: str) -> Groups:
    """The same worked out from the leaves."""
    moving: dict[tuple[str, int], int] = {}
    whole = pinned = 0
    for leaf in weights.leaves:
        if not _inside(leaf.path, below):
            continue
        name, _, rest = leaf.path.removeprefix(f"{below}." if below else "").partition(".")
        index = rest.partition(".")[0]
        if index.isdecimal() and (below or name in component.lists):
            key = (name, int(index) // blocks)
            moving[key] = moving.get(key, 0) + leaf.nbytes
            pinned += pinned_bytes(leaf)
        else:
            whole += leaf.nbytes
    return Groups(whole, tuple(moving.values()), pinned)


def _inside(path: str, below: str) -> bool:
    return not below or path == below or path.startswith(f"{below}.")
