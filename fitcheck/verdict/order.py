"""Which cell an answer speaks of: the order of cells, best first. Chosen here once, for every way it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from fitcheck.memory.weighing import Verdict
from fitcheck.verdict.report import Cell

# Cells whose expected time lies within this factor of the fastest fitting one compete on quality instead.
NEAR = 1.15
# Times within this factor are the same: then less card memory is better.
SAME = 1.01
# Tokens per second of silent reading: 238 words a minute (Brysbaert 2019) at about 1.3 tokens a word. Below it someone
# who reads along waits, which comes before quality.
SILENT_READING = 5.2
# Above twice that pace quality alone matters.
READING_SPEED = 10.0
# Bits a weight below which quality falls fast: in llama.cpp's tables (models/families/language/data/tier_quality.json)
# every type below lies 0.07 or more from the unquantized model by mean KL divergence, IQ4_XS and Q4_K_S below 0.05.
COARSE_BITS = 4.0
# Bits a weight above which speed matters more than what is left of quality: Q6_K, 0.005 from the unquantized model in
# the same tables.
ENOUGH_BITS = 6.5


def order(cells: Sequence[Cell]) -> list[Cell]:
    """Best first: headline, memory bars and the way out speak of the first one. What is read while it is written is
    ordered by reading, everything else by waiting; where nothing runs, by what is missing."""
    if not cells:
        return []
    if all(cell.verdict is Verdict.NO for cell in cells):
        return sorted(cells, key=_distance)
    return by_reading(cells) if cells[0].workload.task.read_along else by_waiting(cells)


def _distance(cell: Cell) -> tuple[object, ...]:
    """How far a cell is from running: published first, then by ``Level.way``, as runtimes choose a placement too; then
    time, what is missing, and card memory."""
    level = cell.judgement.level
    return not cell.tier.published, *level.way, _wait(cell), level.lack, cell.need


def by_waiting(cells: Sequence[Cell]) -> list[Cell]:
    """By verdict, then published tiers, then time; near the fastest the better tier leads, then memory. Of tight cells
    the one that is least short in the worst case leads.

    Within one verdict only the head of the list trades time against quality, so that the rest reads as a ranking.
    """
    ranked = sorted(
        ((cell.verdict.rank, not cell.tier.published, _wait(cell), -_bits(cell), cell.need, cell) for cell in cells),
        key=lambda row: row[:5],
    )
    shortest = ranked[0][2]
    rivals = [row for row in ranked if row[:2] == ranked[0][:2] and row[2] <= NEAR * shortest]
    if ranked[0][5].verdict is Verdict.TIGHT:  # what is short in the worst case comes before what is finer
        safest = min(_risk(row[5]) for row in rivals)
        rivals = [row for row in rivals if _risk(row[5]) <= safest]
    finest = min(coarseness for _, _, _, coarseness, _, _ in rivals)
    fine = [(need, wait, cell) for _, _, wait, coarseness, need, cell in rivals if coarseness == finest]
    quickest = min(wait for _, wait, _ in fine)
    best = min((row for row in fine if row[1] <= SAME * quickest), key=lambda row: row[:2])[2]
    ordered = [row[5] for row in ranked]
    return [best, *(cell for cell in ordered if cell is not best)]


def by_reading(cells: Sequence[Cell]) -> list[Cell]:
    """By verdict, the context asked, a pace to read at, more than coarse quality, a comfortable pace, quality, then
    speed."""
    wanted = max(cell.workload.context for cell in cells)

    def key(cell: Cell) -> tuple[object, ...]:
        rate = cell.rate("generation")
        pace = 0.0 if rate is None else rate.best
        return (
            cell.verdict.rank,
            cell.workload.context < wanted,
            -min(pace, SILENT_READING),
            _bits(cell) < COARSE_BITS,
            -min(pace, READING_SPEED),
            -min(_bits(cell), ENOUGH_BITS),
            -pace / cell.loss,
            cell.need,
        )

    return sorted(cells, key=key)


def _risk(cell: Cell) -> float:
    """By how much the scarcest resource may be exceeded in the worst case, as a share of what is there; 0 for none."""
    return max((max(-margin.worst, 0) / max(margin.available, 1) for margin in cell.judgement.margins), default=0.0)


def _wait(cell: Cell) -> float:
    """Seconds, half way from the expected to the worst case, so that a guess does not lead over what is known; where
    they are unknown, passes of the sampler, so that fewer steps still come first."""
    if cell.seconds is not None:
        return sqrt(cell.seconds.best * cell.seconds.high)
    guidance = 2 if cell.workload.cfg > 1 else 1
    return float(cell.workload.steps * guidance * cell.workload.images)


def _bits(cell: Cell) -> float:
    table = cell.tier.tensors
    return 8 * table.nbytes / max(table.elements, 1)
