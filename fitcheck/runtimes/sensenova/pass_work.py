"""The passes of a SenseNova-U1 workload: the work of each, and the weights that travel for it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING, SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova import forward as work
from fitcheck.runtimes.sensenova.branch_sums import branch_weights, role_bytes
from fitcheck.runtimes.sensenova.guidance import Branch, branches, grown, guiding, thought, written
from fitcheck.runtimes.sensenova.streaming import PrefixWeights, Stream, Streaming
from fitcheck.speed.passes import NOTHING, Pass, Streamed, Work


@dataclass(frozen=True, slots=True)
class _Planner:
    """Lays out the passes of a workload for one tensor table and placement."""

    arch: SenseNovaArchitecture
    table: TensorTable
    placement: Streaming

    def _streamed(self, branch: str) -> Streamed:
        """What one pass of a branch brings to the card: each tensor by itself, or a layer's in one buffer (ring)."""
        if self.placement.stream is Stream.NOTHING:
            return NOTHING
        names = (UNDERSTANDING, GENERATION) if self.placement.stream is Stream.LAYER else (branch,)
        weights = [branch_weights(self.table, name) for name in names]
        tensors = sum(one.tensors for one in weights)
        copies = self.arch.layers if self.placement.policy == "ring" else tensors
        return Streamed(round(sum(one.streamed_bytes for one in weights)), tensors, copies)

    def moved(self, *roles: str) -> Streamed:
        """Embedding or head on their way to the card, which waits for them."""
        return Streamed(sum(role_bytes(self.table, role) for role in roles), len(roles), len(roles))

    def _own_forward(self, *roles: str) -> Streamed:
        """The same where each comes for its own forward alone (PR 243)."""
        if self.placement.stream is Stream.NOTHING or self.placement.prefix_weights is not PrefixWeights.OWN_FORWARD:
            return NOTHING
        return self.moved(*roles)

    def _pass(self, one: Work, count: int, branch: str, waited: Streamed = NOTHING, share: float = 1.0) -> Pass:
        stream = self._streamed(branch)
        stream = stream if share == 1.0 else stream.scaled(share)
        if self.placement.prefetch:
            return Pass(one, count, branch, stream, waited)
        return Pass(one, count, branch, waited=stream + waited)

    def understand(self, count: int, past: int, *moved: str) -> Pass:
        one = work.forward(self.arch, self.table, UNDERSTANDING, count, past, eager=True)
        return self._pass(one, 1, UNDERSTANDING, self._own_forward(*moved))

    def decode(self, past: int, count: int, *, kept_share: float = 0.0) -> list[Pass]:
        """Tokens one after the other, their cache half grown; where layers stay meanwhile, the first brings them."""
        middle = past + count // 2
        one = work.forward(self.arch, self.table, UNDERSTANDING, 1, middle, eager=True) + work.vocabulary(self.arch, 1)
        waited = self._own_forward("embedding", "head")
        first = min(count, int(kept_share > 0))
        passes = [self._pass(one, first, UNDERSTANDING, waited)] if first else []
        rest = count - first
        return passes + ([self._pass(one, rest, UNDERSTANDING, waited, 1 - kept_share)] if rest else [])

    def denoise(self, workload: Workload, found: tuple[Branch, ...], image: int, kept_share: float) -> list[Pass]:
        """All steps of one picture. Where layers stay (mode ``fast``), the first pass brings them."""
        passes = []
        for branch in guiding(found, workload):
            one = work.forward(
                self.arch, self.table, GENERATION, image, branch.prefix, eager=False, batch=workload.batch
            )
            one += work.head(self.arch, image)
            first = int(self.placement.keep_generation and branch == found[0])
            if first:
                passes.append(self._pass(one, first, GENERATION))
            if workload.steps > first:
                share = 1 - kept_share if self.placement.keep_generation else 1.0
                passes.append(self._pass(one, workload.steps - first, GENERATION, share=share))
        return passes

    def with_dropped(self, plan: list[Pass]) -> tuple[Pass, ...]:
        """A change of branch drops the layers that were copied ahead for a next pass of the old one; after the last
        pass comes the next picture's first."""
        placement, found = self.placement, []
        if not placement.prefetch or placement.stream is not Stream.BRANCH:
            return tuple(plan)
        for one, following in zip(plan, (*plan[1:], plan[0]), strict=True):
            stays = placement.keep_generation and one.branch == GENERATION
            if one.branch == following.branch or stays:
                found.append(one)
                continue
            if one.count > 1:
                found.append(replace(one, count=one.count - 1))
            dropped = self._streamed(one.branch).scaled(min(1.0, placement.prefetch / self.arch.layers))
            found.append(replace(one, count=1, ahead=one.ahead + dropped))
        return tuple(found)


@lru_cache(maxsize=4096)
def passes_of(
    arch: SenseNovaArchitecture,
    table: TensorTable,
    workload: Workload,
    placement: Streaming,
    kept_share: float,
    thinking_share: float = 0.0,
) -> tuple[Pass, ...]:
    """The passes of a workload; the same on every card, so it is counted once. ``kept_share`` of the generation layers
    and ``thinking_share`` of the understanding layers stay on the card while they are used (mode ``fast``)."""
    planner, found = _Planner(arch, table, placement), branches(arch, workload)
    headed = ("embedding",) if workload.task in (Task.T2I, Task.EDITING) else ("embedding", "head")
    plan = [planner.understand(branch.prefix, 0, *headed) for branch in found]
    if workload.task is Task.VQA:
        return planner.with_dropped([*plan, *planner.decode(found[0].prefix, written(workload))])
    image = arch.image_tokens(workload.width, workload.height) * workload.batch
    if workload.task is not Task.INTERLEAVE:
        if placement.stream is not Stream.NOTHING and placement.prefix_weights is PrefixWeights.PREFIX_PHASE:
            plan[0] = replace(plan[0], waited=plan[0].waited + planner.moved("embedding", "head"))
        if workload.think:
            plan += planner.decode(found[0].prefix, workload.think, kept_share=thinking_share)
        return planner.with_dropped(plan + planner.denoise(workload, thought(found, workload), image, kept_share))
    text = written(workload) // workload.images
    for number in range(workload.images):
        now = grown(found, text * (number + 1), number * (image + 2))
        plan += planner.decode(now[0].prefix - text, text)
        plan += planner.denoise(workload, now, image, kept_share)
        plan += [planner.understand(image + 1, branch.prefix, "head") for branch in now[:2]]
    return planner.with_dropped(plan)


@lru_cache(maxsize=1024)
def denoising_pass(arch: SenseNovaArchitecture, table: TensorTable, workload: Workload, placement: Streaming) -> Pass:
    """The last kind of pass of the denoising, none of whose layers stay on the card."""
    image = arch.image_tokens(workload.width, workload.height) * workload.batch
    return _Planner(arch, table, placement).denoise(workload, branches(arch, workload), image, 0.0)[-1]
