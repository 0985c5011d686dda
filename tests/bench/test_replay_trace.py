"""The replay of a cell's tensors against the bench's own model: the same storages in the same order.

The model runs on meta tensors at its true width with three layers. Frees between two allocations have no order that an
allocator could tell, and up to 1 MiB replays make no temporaries.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from bench.engines.sensenova import run_tasks as workloads
from bench.engines.sensenova import traced as meta
from bench.engines.sensenova.placing import Placing
from bench.trace import StorageTracker
from fitcheck.memory.caching_allocator import SMALL, CachedBlock, CachingAllocator
from fitcheck.memory.storage import ReplayedCard
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.families.sensenova.catalog import recipe_table
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.replay.policies import table_of
from fitcheck.runtimes.sensenova.replay.tasks import ReplayedProcess
from fitcheck.runtimes.sensenova.streaming import Streaming, upstream

LAYERS = 3
T2I = Workload(Task.T2I, 1024, 1024, steps=2, cfg=1.0)
GUIDED = replace(T2I, cfg=4.0)
EDITING = Workload(Task.EDITING, 1024, 768, steps=2, cfg=4.0, references=((1024, 1024), (640, 480)))
INTERLEAVE = Workload(Task.INTERLEAVE, 1024, 512, steps=2, cfg=4.0, images=2, new_tokens=5, prompt_tokens=150)
VQA = Workload(Task.VQA, references=((1024, 1024),), new_tokens=4)

Event = tuple[str, int, int]


class Recorder(StorageTracker):
    """Storages of more than 1 MiB as they come and go: ("made", bytes, stream) and ("gone", bytes, 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.stream = 0

    def _see(self, storage: Any) -> None:
        key = storage._cdata
        if not self._counting or key in self._storages or key in self._ignored:
            return
        size = storage.nbytes()

        def died(_: object) -> None:
            del self._storages[key]
            if size > SMALL:
                self.events.append(("gone", size, 0))

        self._storages[key] = weakref.ref(storage, died)
        if size > SMALL:
            self.events.append(("made", size, self.stream))


class Accelerator(meta.MetaAccelerator):
    def __init__(self, recorder: Recorder, total: int, workspace: int) -> None:
        super().__init__(recorder, total, workspace)
        self._recorder = recorder

    def stream(self) -> Any:
        return "side"

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        self._recorder.stream = int(stream == "side")
        yield
        self._recorder.stream = 0


class Recording(CachingAllocator):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self._asked: dict[int, int] = {}

    def allocate(self, nbytes: int, stream: int = 0) -> CachedBlock:
        block = super().allocate(nbytes, stream)
        if nbytes > SMALL:
            self.events.append(("made", nbytes, stream))
            self._asked[block.address] = nbytes
        return block

    def _gone(self, block: CachedBlock) -> None:
        if (nbytes := self._asked.pop(block.address, 0)) > SMALL:
            self.events.append(("gone", nbytes, 0))

    def release(self, block: CachedBlock) -> None:
        self._gone(block)
        super().release(block)

    def release_after(self, block: CachedBlock, moment: int) -> None:
        self._gone(block)
        super().release_after(block, moment)


def ordered(events: list[Event]) -> list[Event]:
    """Frees between two allocations sorted by size."""
    found: list[Event] = []
    gone: list[Event] = []
    for event in events:
        if event[0] == "gone":
            gone.append(event)
        else:
            found += [*sorted(gone), event]
            gone = []
    return found + sorted(gone)


def small(slug: str) -> SenseNovaArchitecture:
    architecture = catalog.get(slug).architecture
    assert isinstance(architecture, SenseNovaArchitecture)
    return replace(architecture, layers=LAYERS)


def traced(architecture: SenseNovaArchitecture, tier: str, workload: Workload, placement: Streaming) -> list[Event]:
    """Two passes of the bench's model."""
    tracker = Recorder()
    accelerator = Accelerator(tracker, 80 << 30, 0)
    table = recipe_table(tier, architecture)
    placing = Placing(architecture, table, meta._NoSource(), placement, accelerator)
    model = placing.skeleton()
    with torch.no_grad(), tracker:
        placing.place(model)
        for module in model.attention_modules():
            module.sdpa = meta._flash
        context = workloads.TaskContext(model, workload, accelerator.device, 0, tracker)
        for _ in range(2):
            workloads.run(context)
    return ordered(tracker.events)


def replayed(architecture: SenseNovaArchitecture, tier: str, workload: Workload, placement: Streaming) -> list[Event]:
    recording = Recording()
    keeps = LAYERS if placement.keep_generation else 0
    table = table_of(recipe_table(tier, architecture))
    process = ReplayedProcess(
        architecture, table, workload, placement, ReplayedCard(recording, 8), keeps=keeps, every_layer=True
    )
    for _ in range(2):
        process.run()
    return ordered(recording.events)


@pytest.mark.parametrize(
    ("slug", "tier", "workload", "placement"),
    [
        ("sensenova-u1-8b-mot", "BF16", T2I, upstream("full")),
        ("sensenova-u1-8b-mot", "BF16", GUIDED, upstream("balanced")),
        ("sensenova-u1-8b-mot", "Q8_0", T2I, upstream("fast")),
        ("sensenova-u1-8b-mot", "Q6_K", T2I, upstream("fast", "pr241")),
        ("sensenova-u1-8b-mot", "BF16", T2I, upstream("low", "v0")),
        ("sensenova-u1-8b-mot", "Q4_K_S", EDITING, upstream("low", "pr243")),
        ("sensenova-u1-8b-mot", "Q4_K_S", EDITING, upstream("balanced", "v0")),
        ("sensenova-u1-8b-mot", "BF16", INTERLEAVE, upstream("full")),
        ("sensenova-u1-8b-mot", "Q4_K_S", INTERLEAVE, upstream("low", "pr243")),
        ("sensenova-u1-8b-mot", "Q4_K_S", VQA, upstream("balanced")),
        ("sensenova-u1.5-8b-mot", "BF16", GUIDED, upstream("low")),
        ("sensenova-u1-8b-mot", "BF16", GUIDED, upstream("full", policy="ring")),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "mode", getattr(value, "task", None)),
)
def test_the_same_storages_in_the_same_order(slug: str, tier: str, workload: Workload, placement: Streaming) -> None:
    architecture = small(slug)
    expected, found = (run(architecture, tier, workload, placement) for run in (traced, replayed))
    last = max(at for at, event in enumerate(found) if event[0] == "made")  # what follows tears the model down
    assert last > 400
    assert found[: last + 1] == expected[: last + 1]
    assert not [event for event in expected[last + 1 :] if event[0] == "made"]
