"""Blocks that a replay passes over leave what they would have left, to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.caching_allocator import CachedBlock, CachingAllocator, OutOfMemory
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers import block_runs, forwards, replay
from fitcheck.runtimes.diffusers.block_runs import EventSpan, Listed, shifted
from fitcheck.runtimes.diffusers.offloading import offload_of, placement_of
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.runtime import RUNTIME
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, Call, Event

MIB = 1 << 20
MODES = ("none", "model", "group-block", "group-block-stream", "group-leaf", "group-leaf-stream", "sequential")


def cell(model: str, tier: str, mode: str) -> Ask:
    known = catalog.get(model)
    asks = RUNTIME.asks(known, (known.tier_named(tier),), Wanted(), asked_machine("RTX 4090", ram=64 << 30))
    return replace(next(iter(asks)), placement=placement_of(mode, PipelineOptions()))


def peaks(ask: Ask, allocator: CachingAllocator | None = None) -> list[tuple[int, int]]:
    """Of two pictures, phase by phase."""
    arch, offload = ask.tier.architecture or ask.model.architecture, offload_of(ask.placement)
    assert isinstance(arch, PipelineArchitecture)
    stages = tuple(stages_of(arch, ask.workload, offload))
    found = replay.replay(arch, ask.tier, offload, (*stages, *stages), allocator=allocator)
    assert found is not None
    return [(one.allocated, one.reserved) for one in found.phases.values()]


def whole(call: Call, sizes: block_runs.Sizes) -> Listed:
    """All events, none of them in a run."""
    events = list(call.events(dict(sizes)))
    return Listed(events, (EventSpan(0, len(events)),))


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks were passed over, each time."""
    found: list[int] = []
    before = forwards.Forward._pass_over

    def counted(self: forwards.Forward, onward: object, head: str, blocks: int, made: int) -> None:
        found.append(blocks)
        before(self, onward, head, blocks, made)  # type: ignore[arg-type]

    monkeypatch.setattr(forwards.Forward, "_pass_over", counted)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("model", "tier"), [("flux.1-dev", "Q4_K_S"), ("wan2.1-t2v-1.3b", "bf16"), ("sd3.5-medium", "bf16")]
)
def test_blocks_that_are_passed_over_change_nothing(
    model: str, tier: str, mode: str, passed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = cell(model, tier, mode)
    found = peaks(ask)
    assert sum(passed) > 20
    monkeypatch.setattr(replay, "listed", whole)
    assert found == peaks(ask)


def test_neither_do_they_where_room_is_short(passed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    ask = cell("flux.1-dev", "Q4_K_S", "group-leaf")
    limit = max(reserved for _, reserved in peaks(ask)) * 9 // 10
    found = peaks(ask, CachingAllocator(limit)), peaks(ask, CachingAllocator(frugal=True))
    assert passed
    monkeypatch.setattr(replay, "listed", whole)
    assert found == (peaks(ask, CachingAllocator(limit)), peaks(ask, CachingAllocator(frugal=True)))


def blocks(*sizes: int, kept: bool = False, temporary: Sequence[int] = ()) -> list[Event]:
    """Blocks of a list, each of which makes a tensor of so many MiB and frees what the one before it left; ``kept``
    leaves all of them. ``temporary`` ones are there meanwhile, and go in the same order."""
    events, made = [Event(ALLOCATE, 2 * MIB)], 1
    for index, size in enumerate(sizes):
        events += [Event(ENTER, path=f"blocks.{index}"), *(Event(ALLOCATE, one * MIB) for one in temporary)]
        events += [Event(ALLOCATE, size * MIB), *([] if kept else [Event(FREE, made - 1)])]
        events += [*(Event(FREE, made + at) for at in range(len(temporary))), Event(LEAVE, path=f"blocks.{index}")]
        made += 1 + len(temporary)
    return [*events, Event(ENTER, path="head"), Event(LEAVE, path="head")]


def runs(events: list[Event]) -> list[tuple[int, int]]:
    """(first block, how many) of each run."""
    return [(one.first, one.blocks) for one in block_runs._stretches(events) if one.blocks]


def test_a_run_ends_where_a_block_does_something_else() -> None:
    assert runs(blocks(*[4] * 8)) == [(0, 7)]  # what comes behind the last is no part of a block
    assert runs(blocks(4, 4, 4, 4, 4, 6, 4, 4, 4, 4, 4)) == [(0, 5), (6, 4)]
    assert runs(blocks(4, 4, 4, 6, 4, 4, 4, 6)) == []  # too short to gain by


@given(st.lists(st.sampled_from((2, 4, 12)), min_size=1, max_size=24), st.booleans())
@settings(deadline=None)
def test_stretches_are_all_events_in_order(sizes: list[int], kept: bool) -> None:
    events = blocks(*sizes, kept=kept)
    found = list(block_runs._stretches(events))
    assert [at for one in found for at in range(one.start, one.until)] == list(range(len(events)))


@dataclass
class Brought:
    """Weights of each block in MiB, which come one block ahead where it is ``ahead``."""

    allocator: CachingAllocator
    sizes: Sequence[int]
    ahead: bool
    loaded: dict[str, list[CachedBlock]] = field(default_factory=dict)

    def enter(self, path: str) -> None:
        for at in (self._index(path), self._index(path) + 1) if self.ahead else (self._index(path),):
            name = f"blocks.{at}"
            if 0 <= at < len(self.sizes) and name not in self.loaded:
                self.loaded[name] = [self.allocator.allocate(self.sizes[at] * MIB)]

    def leave(self, path: str) -> None:
        for block in self.loaded.pop(path, ()):
            self.allocator.release(block)

    def of_block(self, head: str, index: int) -> tuple[object, ...]:
        return tuple(self.sizes[index : index + 1 + self.ahead])

    @staticmethod
    def _index(path: str) -> int:
        return int(path.rpartition(".")[2]) if "." in path else -2


@given(
    made=st.lists(st.tuples(st.sampled_from((2, 3, 12)), st.integers(1, 9)), min_size=1, max_size=4),
    brought=st.lists(st.tuples(st.sampled_from((4, 11, 30)), st.integers(1, 9)), min_size=1, max_size=4),
    temporary=st.lists(st.sampled_from((2, 3, 5, 9, 14, 21)), max_size=3),
    kept=st.booleans(),
    ahead=st.booleans(),
    limit=st.sampled_from((None, 60, 90)),
)
@settings(deadline=None, max_examples=300)
def test_any_blocks_are_passed_over_or_replayed_alike(
    made: list[tuple[int, int]],
    brought: list[tuple[int, int]],
    temporary: list[int],
    kept: bool,
    ahead: bool,
    limit: int | None,
) -> None:
    sizes = [size for size, count in made for _ in range(count)]
    weights = ([size for size, count in brought for _ in range(count)] * len(sizes))[: len(sizes)]
    events = blocks(*sizes, kept=kept, temporary=temporary)

    def ends(call: Listed) -> object:
        allocator = CachingAllocator(None if limit is None else limit * MIB)
        moving: Any = Brought(allocator, weights, ahead)
        try:
            left = forwards.Forward(allocator, moving, {}).run(call)
        except OutOfMemory:
            return "full", allocator.reserved
        places = sorted((block.address, block.size) for block in left)
        return allocator.peak_allocated, allocator.peak_reserved, allocator.layout(), places, sorted(moving.loaded)

    everything = Listed(events, (EventSpan(0, len(events)),))
    assert ends(Listed(events, tuple(block_runs._stretches(events)))) == ends(everything)


def test_all_that_a_block_finds_must_be_the_same() -> None:
    before = forwards._Found((1,), {3: (0, 8), 0: (64, 8)}, {"blocks.4": [(16, 8)]})
    now = forwards._Found((1,), {13: (0, 8), 0: (64, 8)}, {"blocks.5": [(16, 8)]})

    def onward(found: forwards._Found) -> forwards._Onward | None:
        return forwards._onward(before, found, "blocks", 1, 10)

    assert onward(now) == forwards._Onward([13], ["blocks.5"])
    others: list[dict[str, Any]] = [
        {"layout": (2,)},
        {"tensors": {13: (8, 8), 0: (64, 8)}},
        {"tensors": {12: (0, 8), 0: (64, 8)}},
        {"tensors": {13: (0, 8)}},
        {"weights": {"blocks.4": [(24, 8)]}},
        {"weights": {}},
    ]
    assert [onward(replace(now, **other)) for other in others] == [None] * len(others)


def test_a_path_moves_with_its_block_alone() -> None:
    assert shifted("blocks.7.attn.0", "blocks", 2) == "blocks.9.attn.0"
    assert shifted("blocks.7", "blocks", -7) == "blocks.0"
    assert shifted("other.7", "blocks", 2) == "other.7"
    assert shifted("blocks.norm", "blocks", 2) == "blocks.norm"
