"""The check turned round: what a model needs, which cards give it, and what to change of a machine that is there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import CardError
from fitcheck.hardware.budget import has_many_channels
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.find import Identified
from fitcheck.models.tier_quality import TierQuality
from fitcheck.records.run_index import Index
from fitcheck.runtimes import held, registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check
from fitcheck.verdict.coarseness import is_coarse
from fitcheck.verdict.lead import lead
from fitcheck.verdict.purchase import Offer, Offers, offers, split_over_cards
from fitcheck.verdict.ranking import change_json, summary_json
from fitcheck.verdict.report import Report
from fitcheck.verdict.two_changes import FreePair, free_pair
from fitcheck.verdict.usual_memory import RAM_SIZES, completed

SCHEMA = "fitcheck.plan/1"
# room enough that no tier and mode lacks any
_PLENTY = 1 << 42
_MEMORY = " GB of system memory"
_TRIED, _SIZES = 12, 3  # cards and sizes of memory that are tried together: an answer within a second or two
# forms of cards that can be put into a machine that is there
_SOLD_ALONE = ("desktop", "workstation", "datacenter")


@dataclass(frozen=True, slots=True)
class Need:
    """One tier in one mode: bytes of usable card memory with which it fits and with which it still runs, of system
    memory in the worst case, and of disk; ``quality`` of the tier where somebody measured it."""

    tier: str
    mode: str
    fits: int
    runs: int
    host: int
    disk: int
    quality: TierQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """By the field names."""
        quality = None if self.quality is None else self.quality.to_json()
        return {**{name: getattr(self, name) for name in self.__slots__}, "quality": quality}


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a machine: in words, what its cards cost in US dollars (``None`` where that is not known, or where
    there is none), and the report that it buys."""

    words: str
    price: float | None
    report: Report

    @property
    def verdict(self) -> Verdict:
        """What the change buys."""
        return self.report.best.verdict

    def to_json(self) -> dict[str, Any]:
        """The change and the headline cell's figures."""
        return {"change": self.words, "price_usd": self.price, **summary_json(self.report)}


@dataclass(frozen=True, slots=True)
class Plan:
    """``needs`` of each tier and mode; ``cards`` that do it; of a machine that is there what it does ``now`` (``None``
    also where it has no card and the model runs on one alone), what it does with a ``finer`` file where that is a
    coarse one, and ``steps`` that better the verdict of the finer file: system memory, then cards by price, those
    without one last. ``free`` are two changes that cost nothing and together better what it does now, where no single
    one does."""

    needs: tuple[Need, ...]
    cards: Offers
    now: Report | None = None
    steps: tuple[Step, ...] = ()
    finer: Report | None = None
    free: FreePair | None = None

    def to_json(self) -> dict[str, Any]:
        """Bytes are integers, prices US dollars; unknown is null."""
        return {
            "schema": SCHEMA,
            "needs": [one.to_json() for one in self.needs],
            "cards": self.cards.to_json(),
            "now": None if self.now is None else {**summary_json(self.now), "change": change_json(self.now.best)},
            "finer": None if self.finer is None else summary_json(self.finer),
            "free": None if self.free is None else {"change": self.free.words, **summary_json(self.free.report)},
            "steps": [one.to_json() for one in self.steps],
        }


def needs(found: Identified, card: Card, wanted: Wanted) -> tuple[Need, ...]:
    """What each tier takes in each mode where there is plenty of memory, on a card of the kind of ``card``: of a
    runtime that splits a model as a machine demands, with all of it on the card; of others as they are placed where
    there is little."""
    plenty, little = (machine_for(card, ram=_PLENTY, vram_override=room) for room in (_PLENTY, GIB))
    report = check(found.model, plenty, wanted, tiers=found.tiers, advise=False)
    saving = _saving(report, little, wanted)
    needed = [
        _need(cell, saving.get((cell.tier.name, cell.placement.mode), cell.footprint))
        for cell in report.cells
        if cell.footprint.cards
    ]
    return tuple(sorted(needed, key=lambda one: (-one.disk, -one.fits)))


def _saving(report: Report, little: Machine, wanted: Wanted) -> dict[tuple[str, str], Footprint]:
    """What tier and mode take, on the machine of ``report``, with the settings that a runtime turns to on a small
    card; only where these are others. A runtime that searches is not asked: it would split the model."""
    cells = {(cell.tier.name, cell.placement.mode): cell.ask for cell in report.cells if cell.footprint.cards}
    tiers = tuple(dict.fromkeys(ask.tier for ask in cells.values()))
    found = {}
    for runtime in map(registry.get, dict.fromkeys(ask.placement.runtime for ask in cells.values())):
        few = () if runtime.searches else runtime.asks(report.model, tiers, wanted, little)
        more = () if runtime.searches else [runtime.closer(report.model, tier, wanted, little) for tier in tiers]
        for ask in chain(few, *more):
            place = ask.tier.name, ask.placement.mode
            if place in cells and cells[place].placement != ask.placement:
                found[place] = held.shown(runtime, replace(ask, machine=report.machine))
    return found


def _need(cell: Cell, footprint: Footprint) -> Need:
    memory = footprint.cards[cell.ask.gpu]
    return Need(
        cell.tier.name,
        cell.placement.mode,
        memory.card.high,
        memory.required.best,
        footprint.host.total.high,
        footprint.disk,
        cell.quality,
    )


def plan(
    found: Identified,
    cards: Sequence[Card],
    wanted: Wanted,
    index: Index | None = None,
    *,
    have: Machine | None = None,
    ram: int | None = None,
    budget: float | None = None,
    system: str | None = None,
) -> Plan:
    """``cards`` are those to choose from, priced as they are to be; ``ram`` the bytes of system memory beside each,
    ``system`` the operating system by the name that --os takes.
    Raises InputError for what cannot be asked of the model."""
    reference = have.gpus[0].card if have is not None and have.gpus else max(cards, key=lambda card: card.memory)
    listed = needs(found, reference, wanted)
    asked = offers(cards, [found], wanted, index, ram=ram, under=budget, system=system, pairs=True)
    if have is None:
        return Plan(listed, asked)
    have = completed(have)
    now = _now(found, have, wanted, index)
    if now is None:
        return Plan(listed, asked)
    fine = lead(found.model, found.tiers, have, wanted, index)  # as lists have it
    rank = fine.best.verdict.rank
    steps = [step for step in _steps(found, have, fine, wanted, index, asked, cards) if step.verdict.rank < rank]
    affordable = [step for step in steps if budget is None or step.price is None or step.price <= budget]
    if not any(step.verdict is Verdict.FITS and _has_price(step) for step in affordable):
        both = [step for step in _with_memory(found, have, wanted, index, asked, budget) if step.verdict.rank < rank]
        affordable = sorted((*affordable, *both), key=_cost) if both else affordable
    coarse = is_coarse(found.model, now.best.tier) and not is_coarse(found.model, fine.best.tier)
    return Plan(listed, asked, now, tuple(affordable), fine if coarse else None, free_pair(now, index))


def _now(found: Identified, have: Machine, wanted: Wanted, index: Index | None) -> Report | None:
    """What the machine does; ``None`` where it has no card and the model runs on one alone."""
    try:
        return check(found.model, have, wanted, tiers=found.tiers, index=index)
    except CardError:
        if have.gpus:
            raise
        return None


def _steps(
    found: Identified,
    have: Machine,
    now: Report,
    wanted: Wanted,
    index: Index | None,
    asked: Offers,
    cards: Sequence[Card],
) -> Iterator[Step]:
    """Cheapest kind first."""
    yield from _bettering(_more_system_memory(found, have, now, wanted, index), now.best.verdict)
    if not _takes_cards(have):
        return
    runs = sorted(
        (one for one in (*asked.fit, *asked.dearer, *asked.unpriced, *asked.slow) if one.card.form in _SOLD_ALONE),
        key=_cost,
    )
    second = _second_card(found, have, wanted, index, cards)
    bought = [Step(one.name, one.price, _beside(found, one.machine, have, wanted, index)) for one in runs]
    yield from sorted((*second, *bought), key=_cost)


def _has_price(step: Step) -> bool:
    """Whether somebody can say what it costs: system memory costs little, whatever its price is today."""
    return step.price is not None or step.words.endswith(_MEMORY)


def _with_memory(
    found: Identified, have: Machine, wanted: Wanted, index: Index | None, asked: Offers, budget: float | None
) -> Iterator[Step]:
    """Cards with a known price that system memory alone keeps from fitting, with the least that ends that: for who
    would otherwise be told of cards without a price alone. The cheapest are tried."""
    if not _takes_cards(have) or have.ram_total is None:
        return
    offered = (*asked.fit, *asked.slow, *asked.lacking)
    priced = sorted((one for one in offered if one.price is not None and one.card.form in _SOLD_ALONE), key=_cost)
    for one in [one for one in priced if budget is None or _cost(one) <= budget][:_TRIED]:
        best = _beside(found, one.machine, have, wanted, index).best
        if best.verdict is Verdict.FITS or best.judgement.binding is not Constraint.RAM:
            continue
        for size in [size for size in RAM_SIZES if size > have.ram_total][:_SIZES]:
            more = replace(have, ram_total=size, ram_available=None)
            report = _beside(found, one.machine, more, wanted, index)
            if report.best.verdict is Verdict.FITS:
                yield Step(f"{one.name} and {size // GIB}{_MEMORY}", one.price, report)
                break


def _bettering(steps: Iterable[Step], verdict: Verdict) -> Iterator[Step]:
    """The least system memory that betters the verdict, and the least that betters that one again while it is system
    memory that is scarce."""
    for step in steps:
        if step.verdict.rank < verdict.rank:
            yield step
            verdict = step.verdict
            if step.report.best.judgement.binding is not Constraint.RAM:
                return


def _cost(one: Step | Offer) -> float:
    """Unknown prices last."""
    return math.inf if one.price is None else one.price


def _takes_cards(have: Machine) -> bool:
    """Whether another card can be put into the machine: not into a laptop, nor beside memory that is shared."""
    return not any(gpu.card.unified_memory or gpu.card.form == "laptop" for gpu in have.gpus)


def _more_system_memory(
    found: Identified, have: Machine, now: Report, wanted: Wanted, index: Index | None
) -> Iterator[Step]:
    """What does not run may be worth another board; what runs is not quicker beside more memory of the same one."""
    if have.ram_total is None or any(gpu.card.unified_memory for gpu in have.gpus):
        return
    for size in (size for size in RAM_SIZES if size > have.ram_total):
        machine = replace(have, ram_total=size, ram_available=None)
        if now.best.verdict is not Verdict.NO and has_many_channels(machine) != has_many_channels(have):
            return
        words = f"{size // GIB}{_MEMORY}"
        yield Step(words, None, lead(found.model, found.tiers, machine, wanted, index))


def _second_card(
    found: Identified, have: Machine, wanted: Wanted, index: Index | None, cards: Sequence[Card]
) -> Iterator[Step]:
    if len(have.gpus) != 1 or not split_over_cards([found], wanted):
        return
    gpu = have.gpus[0]
    card = next((one for one in cards if one.slug == gpu.card.slug), gpu.card)
    machine = replace(have, gpus=(gpu, replace(gpu, index=1, display=False, vram_free=None)))
    price = None if card.launch_price_usd is None else card.launch_price_usd.value
    report = lead(found.model, found.tiers, machine, wanted, index)
    yield Step(f"a second {card.name}", price, report)


def _beside(found: Identified, bought: Machine, have: Machine, wanted: Wanted, index: Index | None) -> Report:
    """The bought cards in the machine that is there, with its system memory and disk."""
    machine = replace(
        bought,
        ram_total=have.ram_total,
        ram_available=have.ram_available,
        disk_free=have.disk_free,
        operating_system=have.operating_system,
        assumed=(),
    )
    return lead(found.model, found.tiers, machine, wanted, index)
