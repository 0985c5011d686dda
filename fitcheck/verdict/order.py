"""Which cell an answer speaks of: the order of cells, best first. Chosen here once, for every way it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

from fitcheck.memory.weighing import Verdict
from fitcheck.models.workload import Workload
from fitcheck.units import Interval
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.coarseness import is_broken, is_coarse, loss_of

# Cells whose expected time lies within this factor of the fastest fitting one compete on quality instead.
NEAR = 1.15
# Times within this factor are the same: then less card memory is better.
SAME = 1.01
# Tokens per second of silent reading, as the usual floor has them (speed/data/floor.json), and of one word a second at
# about 1.3 tokens a word. Below the first someone who reads along waits, below the second nobody does: both come before
# quality, and between them quality comes first, because who waits anyway waits for what is worth it (our choice).
READING = (5.0, 1.3)
# Above twice the pace of silent reading quality alone matters.
READING_SPEED = 10.0


def order(cells: Sequence[Cell]) -> list[Cell]:
    """Best first: headline, memory bars and the way out speak of the first one. What is read while it is written is
    ordered by reading, everything else by waiting; where nothing runs, by what is missing."""
    if not cells:
        return []
    if _none_runs(cells):
        return sorted(cells, key=_distance)
    return by_reading(cells) if cells[0].workload.task.read_along else by_waiting(cells)


def first_of(cells: Sequence[Cell]) -> Cell:
    """The first of ``order(cells)``, of which there is one at least, without putting the others in order."""
    if _none_runs(cells):
        return min(cells, key=_distance)
    if cells[0].workload.task.read_along:
        return min(cells, key=_reading_key(cells))
    group = min(map(_group, cells))
    return _leading(_ranked([cell for cell in cells if _group(cell) == group]))


def _none_runs(cells: Sequence[Cell]) -> bool:
    return all(cell.verdict is Verdict.NO for cell in cells)


def _distance(cell: Cell) -> tuple[Any, ...]:
    """How far a cell is from running: published first, then by ``Level.way``, as runtimes choose a placement too; then
    what it would be with what is short, time, what is missing, and card memory."""
    level = cell.judgement.level
    return not cell.tier.published, *level.way, level.mended.rank, _wait(cell), level.lack, cell.need


def by_waiting(cells: Sequence[Cell]) -> list[Cell]:
    """By verdict, then published tiers, then time; near the fastest what is not coarse leads, then the better tier,
    then what takes least system memory and card memory. Where times are unknown what takes most of the card leads,
    because that does not travel. Of tight cells the one that is least short in the worst case leads.

    Within one verdict only the head of the list trades time against quality, so that the rest reads as a ranking.
    """
    ranked = _ranked(cells)
    best = _leading(ranked)
    return [best, *(row[4] for row in ranked if row[4] is not best)]


_Group = tuple[tuple[int, int], bool]
# the group, the wait, how fine the tier is, the room it takes, and the cell
_Row = tuple[_Group, float, tuple[float, int], tuple[int, int], Cell]


def _group(cell: Cell) -> _Group:
    """What comes before time."""
    return _standing(cell), not cell.tier.published


def _ranked(cells: Sequence[Cell]) -> list[_Row]:
    rows = [(_group(cell), _wait(cell), _bits(cell), _room(cell), cell) for cell in cells]
    return sorted(rows, key=lambda row: row[:4])


def _leading(ranked: Sequence[_Row]) -> Cell:
    """The one that leads, among the nearly fastest of the first group."""
    group, shortest, _, _, first = ranked[0]
    rivals = [row for row in ranked if row[0] == group and row[1] <= NEAR * shortest]
    rivals = [row for row in rivals if not is_coarse(row[4].ask.model, row[4].tier)] or rivals
    if first.verdict is Verdict.TIGHT:  # what is short in the worst case comes before what is finer
        safest = min(_risk(row[4]) for row in rivals)
        rivals = [row for row in rivals if _risk(row[4]) <= safest]
    finest = min(coarseness for _, _, coarseness, _, _ in rivals)
    fine = [(room, wait, cell) for _, wait, coarseness, room, cell in rivals if coarseness == finest]
    quickest = min(wait for _, wait, _ in fine)
    return min((row for row in fine if row[1] <= SAME * quickest), key=lambda row: row[:2])[2]


def by_reading(cells: Sequence[Cell]) -> list[Cell]:
    """By verdict, the context asked, whether one can read along, more than coarse quality, whole on the cards and a
    comfortable pace of what is not coarse, quality, then speed. A file that is as good as broken stands behind
    everything that runs.

    A part on the host is worth its wait for a file that is not coarse, or for a finer coarse one, but not for a finer
    one of those that are not: a token then waits for system memory, whose speed is seldom known, and takes several
    times as long.
    """
    return sorted(cells, key=_reading_key(cells))


def _reading_key(cells: Sequence[Cell]) -> Callable[[Cell], tuple[Any, ...]]:
    wanted = max(cell.workload.context for cell in cells)

    def key(cell: Cell) -> tuple[Any, ...]:
        rank, *grade = reading_grade(cell)
        lost = loss_of(cell.ask.model, cell.tier)
        return rank, cell.workload.context < wanted, *grade, lost, -pace_of(cell), cell.need

    return key


# what no cell stands better than but in context, quality and speed beyond a comfortable pace
IDEAL = (float(Verdict.FITS.rank), 0, False, False, -READING_SPEED)


def reading_grade(cell: Cell) -> tuple[float, int, bool, bool, float]:
    """Verdict, how one reads, whether the tier is coarse and, of those that are not, whether it is split and a
    comfortable pace: what comes before quality, the least first. Of coarse tiers the finest leads that can be read
    along: comfort is bought there with what the model knows."""
    pace, coarse = pace_of(cell), is_coarse(cell.ask.model, cell.tier)
    split = is_split(cell) and not coarse
    comfort = 0.0 if coarse else -min(pace, READING_SPEED)
    waits = sum(pace < needed for needed in READING) + (not pace)  # a pace that is not known comes last
    return _reading_rank(cell), waits, coarse, split, comfort


def _reading_rank(cell: Cell) -> float:
    """The verdict's rank; of what runs and is as good as broken, behind all else that runs."""
    runs = cell.verdict in (Verdict.FITS, Verdict.TIGHT)
    return Verdict.TIGHT.rank + 0.5 if runs and is_broken(cell.ask.model, cell.tier) else float(cell.verdict.rank)


def pace_of(cell: Cell) -> float:
    """Tokens a second that are expected, less what a quantized cache must be quicker to be worth it."""
    rate = cell.pace
    return 0.0 if rate is None else rate.best / cell.loss


def is_split(cell: Cell) -> bool:
    """Whether each token reads weights from the host beside those on the cards."""
    return bool(cell.footprint.cards) and cell.duration is not None and cell.duration.amount("host") > 0


def _bits(cell: Cell) -> tuple[float, int]:
    """What is finer first: of what the result hangs on, then of everything."""
    return -cell.tier.tensors.bits, -cell.tier.tensors.nbytes


def _risk(cell: Cell) -> float:
    """By how much the scarcest resource may be exceeded in the worst case, as a share of what is there; 0 for none."""
    return max((max(-margin.worst, 0) / max(margin.available, 1) for margin in cell.judgement.margins), default=0.0)


def _standing(cell: Cell) -> tuple[int, int]:
    """The verdict; of cells whose platform nobody has tried, what the amounts alone say."""
    unknown = cell.verdict is Verdict.UNKNOWN
    return cell.verdict.rank, cell.judgement.level.weighed.verdict.rank if unknown else 0


def _room(cell: Cell) -> tuple[int, int]:
    """What is better to be small, of cells that are alike in time and quality: system memory, which everything on the
    machine shares, then card memory."""
    return (0, -cell.need) if cell.seconds is None else (cell.footprint.host.total.best, cell.need)


def _wait(cell: Cell) -> float:
    return wait_of(cell.seconds, cell.workload)


def wait_of(seconds: Interval[float] | None, workload: Workload) -> float:
    """Seconds, half way from the expected to the worst case, so that a guess does not lead over what is known; where
    they are unknown, passes of the sampler, so that fewer steps still come first."""
    if seconds is not None:
        return sqrt(seconds.best * seconds.high)
    guidance = 2 if workload.cfg > 1 else 1
    return float(workload.steps * guidance * workload.images)
