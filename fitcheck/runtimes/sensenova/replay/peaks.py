"""What a process reserves for a workload, and the least it can do with, from the replay of its images.

A replay takes some ten milliseconds and depends on nothing but its arguments, so those of the catalog's models with
their usual workloads are kept in ``data/replays.json`` (``scripts/pack_replays.py``; a test replays some of them).
"""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import sha256

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.memory.caching_allocator import CachingAllocator
from fitcheck.memory.storage import ReplayedCard
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.guidance import branches, reference_grids, velocity_branches, written
from fitcheck.runtimes.sensenova.replay.policies import table_of
from fitcheck.runtimes.sensenova.replay.tasks import ReplayedProcess
from fitcheck.runtimes.sensenova.streaming import Stream, Streaming

AT_ONCE = 0  # a card that is never behind


@dataclass(frozen=True, slots=True)
class ReplayQuestion:
    """What a replay depends on, without the tensor table: ``late`` is how many layers the card is behind the host,
    ``keeps`` how many generation layers stay, ``flash`` whether flash-attn attends, ``workspace`` the bytes kept for
    cuBLAS, ``frugal`` whether the allocator gives back what it can at each growth, ``images`` how many the process
    makes one after the other: a second one meets everything that the first left behind; ``thinking_keeps`` how many
    understanding layers stay while the model thinks."""

    arch: SenseNovaArchitecture
    workload: Workload
    placement: Streaming
    keeps: int = 0
    late: int = AT_ONCE
    flash: bool = False
    workspace: int = 0
    frugal: bool = False
    images: int = 1
    thinking_keeps: int = 0

    def key(self, table: TensorTable) -> str:
        """The same for whatever gives the same sequence of storages."""
        workload, placement = self.workload, self.placement
        text = written(workload) if workload.task is Task.INTERLEAVE else workload.new_tokens
        parts: tuple[object, ...] = (
            _digest(table),
            self.arch,
            workload.task.value,
            [branch.prefix for branch in branches(self.arch, workload)],
            reference_grids(self.arch, workload),
            (workload.width, workload.height, workload.batch, workload.images, text),
            (min(workload.steps, 2), velocity_branches(workload), workload.image_cfg == 1),
            (placement.revision == "v0", placement.stream.value, placement.prefetch, placement.prefix_weights.value),
            (placement.keep_generation, placement.policy, self.keeps, self.late, self.flash, self.workspace),
            (self.frugal, self.images),
        )
        if workload.think and workload.task is not Task.INTERLEAVE:
            parts += ((workload.think, self.thinking_keeps),)
        return sha256(repr(parts).encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def _digest(table: TensorTable) -> str:
    return table.digest


@lru_cache(maxsize=16384)
def peak(table: TensorTable, question: ReplayQuestion) -> int:
    """Reserved bytes at the peak: the kept answer, or a replay."""
    known = _packed().get(question.key(table))
    return replay(table, question) if known is None else known


@cache
def _packed() -> dict[str, int]:
    packed: dict[str, int] = load("runtimes.sensenova", "replays")["reserved"]
    return packed


def replay(table: TensorTable, question: ReplayQuestion) -> int:
    """Reserved bytes at the peak, worked out."""
    return replayed(table, question).peak_reserved


def replayed(table: TensorTable, question: ReplayQuestion) -> CachingAllocator:
    """The allocator after the run. The first image takes two steps, which is where a step repeats itself."""
    placement, steps = question.placement, min(question.workload.steps, 2)
    ring = placement.policy == "ring" and placement.stream is not Stream.NOTHING
    allocator = CachingAllocator(expandable=ring, frugal=question.frugal)
    process = ReplayedProcess(
        question.arch,
        table_of(table),
        question.workload,
        placement,
        ReplayedCard(allocator, question.late),
        keeps=question.keeps,
        thinking_keeps=question.thinking_keeps,
        flash=question.flash,
        workspace=question.workspace,
    )
    for number in range(question.images):
        process.run(1 if number else steps)
    return allocator
