"""Where weights live, as a value: what stays on the card, how many layers are in flight, what is pinned.

The estimator and the bench read the same ``Streaming``, so a mode means the same thing when it is predicted and when
it is run. Sources: OpenSenseNova/SenseNova-U1 src/sensenova_u1/utils/layer_offload.py and PR 241 / 243; the ComfyUI
node smthemex/ComfyUI_SenseNova_U1.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.runtimes.base import Placement


class Stream(StrEnum):
    """The unit that is copied to the card at a time."""

    NOTHING = "nothing"
    LAYER = "layer"
    BRANCH = "branch"


class PrefixWeights(StrEnum):
    """When the embedding and the output head are on the card."""

    RESIDENT = "resident"
    OWN_FORWARD = "own forward"
    PREFIX_PHASE = "prefix phase"


@dataclass(frozen=True, slots=True)
class Streaming:
    """One offload mode of one runtime revision.

    ``prefetch`` layers are copied ahead on a second stream, so ``prefetch + 1`` are in flight; 0 copies each layer
    synchronously. ``keep_generation`` keeps generation layers on the card once there, while they fit (mode ``fast``).
    ``policy`` is how streamed weights get their device memory: ``upstream`` allocates and frees through torch's caching
    allocator, ``ring`` reuses ``prefetch + 1`` preallocated slots.
    """

    runtime: str
    revision: str
    mode: str
    stream: Stream = Stream.NOTHING
    prefetch: int = 0
    keep_generation: bool = False
    prefix_weights: PrefixWeights = PrefixWeights.RESIDENT
    pinned: bool = False
    policy: str = "upstream"

    def __hash__(self) -> int:
        # Names tell modes apart; enumerations take long to hash.
        return hash((self.revision, self.mode, self.policy))

    @property
    def keeps_thinking(self) -> bool:
        """Whether understanding layers stay on the card while the model thinks, as far as they fit (PR 246)."""
        return self.keep_generation and self.policy == "upstream" and self.prefix_weights is PrefixWeights.PREFIX_PHASE

    @property
    def in_flight(self) -> int:
        """Streamed units on the card at once."""
        return 0 if self.stream is Stream.NOTHING else self.prefetch + 1


UPSTREAM, NODE = "sensenova", "comfyui"
_PREFETCH = "prefetch-"
MODES = ("full", "fast", "balanced", "low")
REVISIONS = ("v0", "pr241", "pr243", "phase-aware")
NEWEST_REVISION = REVISIONS[-1]
POLICIES = ("upstream", "ring")
# upstream keeps a generation layer while allocated + reserve <= min(fraction × total, total − headroom)
# and free >= headroom + reserve (layer_offload.py, DEFAULT_FAST_*)
FAST_FRACTION = 0.90
FAST_HEADROOM = 2 << 30
FAST_RESERVE = 4 << 30
# what it reserves for the longest prefix before it keeps understanding layers (_EAGER_ATTENTION_BYTES_PER_SCORE)
THINKING_BYTES_PER_SCORE = 12


def fast_limit(total: int) -> int:
    """Allocated bytes up to which mode ``fast`` keeps generation layers on a card of ``total`` bytes."""
    return max(0, min(int(FAST_FRACTION * total), total - FAST_HEADROOM))


_PREFIX_WEIGHTS = {
    "v0": PrefixWeights.RESIDENT,
    "pr241": PrefixWeights.RESIDENT,
    "pr243": PrefixWeights.OWN_FORWARD,
    "phase-aware": PrefixWeights.PREFIX_PHASE,
}


@lru_cache(maxsize=256)
def upstream(mode: str, revision: str = NEWEST_REVISION, policy: str = "upstream") -> Streaming:
    """Upstream's ``--vram_mode`` in one of its revisions. Raises OptionError for names that do not exist."""
    if mode not in MODES:
        raise OptionError(f"--mode: {mode!r} is not an offload mode of SenseNova-U1; choose from {', '.join(MODES)}.")
    if revision not in REVISIONS:
        raise OptionError(
            f"--revision: {revision!r} is not a known upstream revision; choose from {', '.join(REVISIONS)}."
        )
    if policy not in POLICIES:
        raise OptionError(f"--policy: {policy!r} is not a streaming policy; choose from {', '.join(POLICIES)}.")
    if mode == "full":
        return Streaming(UPSTREAM, revision, mode)
    if mode == "fast" and revision == "v0":
        raise OptionError("--mode fast came with PR 241; with --revision v0 choose full, balanced or low.")
    streamed = Streaming(
        UPSTREAM,
        revision,
        mode,
        stream=Stream.LAYER if revision == "v0" else Stream.BRANCH,
        prefetch=0 if mode == "low" else 2,
        keep_generation=mode == "fast",
        prefix_weights=_PREFIX_WEIGHTS[revision],
        pinned=True,
    )
    return replace(streamed, policy=policy)


def comfyui(prefetch_count: int) -> Streaming:
    """The community ComfyUI node: streams both branches of a layer from pageable memory; 0 means no swapping."""
    if not 0 <= prefetch_count <= 1000:
        raise OptionError(f"--prefetch-count: {prefetch_count} is out of range; give 0 (no swapping) to 1000.")
    if prefetch_count == 0:
        return Streaming(NODE, "node", f"{_PREFETCH}0")
    return Streaming(NODE, "node", f"{_PREFETCH}{prefetch_count}", stream=Stream.LAYER, prefetch=prefetch_count)


def placement_of(streaming: Streaming, attention: str = "sdpa") -> Placement:
    """The mode as every runtime's placements look; ``attention`` is ``sdpa`` or ``flash``."""
    settings = (("attention", attention), ("policy", streaming.policy))
    return Placement(streaming.runtime, streaming.revision, streaming.mode, settings)


@lru_cache(maxsize=1024)
def streaming_of(placement: Placement) -> Streaming:
    """What a placement means for the layers. Raises OptionError for names that do not exist."""
    if placement.runtime == UPSTREAM:
        return upstream(placement.mode, placement.revision, placement.get("policy", POLICIES[0]))
    count = placement.mode.removeprefix(_PREFETCH)
    if not count.isdecimal():
        raise OptionError(f"--mode: {placement.mode!r} is no mode of the ComfyUI node; it is {_PREFETCH}N.")
    return comfyui(int(count))
