"""What runs say of cells that need more or less card memory than they did: one that ran out says that those that need
at least as much run out too, one that ran that those that need no more run. Which needs more is the estimator's order,
in which a scale that is off changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import CardMemory
from fitcheck.models.workload import Workload
from fitcheck.records.run import Run
from fitcheck.records.sizes import used_sizes
from fitcheck.runtimes.base import Ask
from fitcheck.units import Interval

# runs that agree that it takes for each that is called wrong; assumed, as the share of records that are wrong is (one
# in ten, data/evidence.json): with fewer than three to one nobody can say which side is
MAJORITY = 3


@dataclass(frozen=True, slots=True)
class CellNeed:
    """A cell, what the estimator says that it takes of its card, and ``runs`` of it of one kind."""

    ask: Ask
    memory: CardMemory
    runs: tuple[Run, ...] = ()

    def covers(self, other: CellNeed) -> bool:
        """Whether it needs at least as much as ``other``: the same model in the same runtime, the same tier or a larger
        one, a workload that is larger in no size smaller, and no less memory by the estimate, at the least and with
        room."""
        mine, theirs = self.ask, other.ask
        return (
            (mine.model.slug, mine.placement.runtime) == (theirs.model.slug, theirs.placement.runtime)
            and (mine.tier.name == theirs.tier.name or mine.tier.tensors.nbytes > theirs.tier.tensors.nbytes)
            and at_least_as_large(mine.workload, theirs.workload)
            and self.memory.required.best >= other.memory.required.best
            and self.memory.card.best >= other.memory.card.best
        )


@dataclass(frozen=True, slots=True)
class Implied:
    """What other cells of the card say of one. ``failed`` ran out of its memory though they need no more; ``doubted``
    did so too, but a clear majority of what needs as much ran. ``ran`` finished although they need at least as much.
    ``fails`` ran out under a limit though they need no more; ``works`` ran within a limit, or within what they took of
    the card, though they need at least as much."""

    failed: tuple[Run, ...] = ()
    doubted: tuple[Run, ...] = ()
    ran: tuple[Run, ...] = ()
    fails: tuple[Run, ...] = ()
    works: tuple[Run, ...] = ()

    def beyond(self, required: Interval[int], own: Sequence[Run]) -> Implied:
        """Without limits that say no more than the least that works does as it is known, nor those of ``own`` runs."""
        works = (run for run in self.works if run not in own and (ran_within(run) or required.high) < required.high)
        fails = (run for run in self.fails if (run.ran_out_under or 0) > required.best)
        return replace(self, fails=tuple(fails), works=tuple(works))


NOTHING = Implied()


def implied(asked: CellNeed, short: Sequence[CellNeed], finished: Sequence[CellNeed]) -> Implied:
    """What other cells say of ``asked``: ``short`` ran out of memory or searched for the limit at which they do,
    ``finished`` did not run out."""
    failed, doubted = list[Run](), list[Run]()
    for one in short:
        out = [run for run in one.runs if run.outcome != "ok" and run.ran_out_under is None]
        if out and asked.covers(one):
            against = sum(len(other.runs) for other in finished if other.covers(one))
            (doubted if against >= MAJORITY * len(out) else failed).extend(out)
    ran = tuple(run for one in finished if one.covers(asked) for run in one.runs)
    return Implied(
        tuple(failed),
        tuple(doubted),
        ran,
        tuple(run for one in short if asked.covers(one) for run in one.runs if run.ran_out_under is not None),
        (*ran, *(run for one in short if one.covers(asked) for run in one.runs)),
    )


def ran_within(run: Run) -> int | None:
    """Bytes of card memory, context included, within which it is known to run; ``None`` for none."""
    return run.works or ((run.cap or run.on_card) if run.outcome == "ok" else None)


def at_least_as_large(one: Workload, other: Workload) -> bool:
    """Whether ``one`` is the same task and in none of the sizes that take memory smaller. Steps take none."""
    if one.task is not other.task:
        return False
    mine, theirs = _amounts(one), _amounts(other)
    return all(mine[name] >= theirs[name] for name in mine)


def _amounts(workload: Workload) -> dict[str, float]:
    """Sizes as amounts: pixels of a picture and of all that is handed in, whether guidance takes passes of its own."""
    sizes = used_sizes(workload)
    found = {"pixels": float(workload.width * workload.height)} if "width" in sizes else {}
    for name, value in sizes.items():
        if name == "references":
            found[name] = float(sum(width * height for width, height in workload.references))
        elif name in ("cfg", "image_cfg"):
            found[name] = float(value != 1)
        elif name not in ("width", "height", "steps"):
            found[name] = float(value or 0)  # type: ignore[arg-type]
    return found
