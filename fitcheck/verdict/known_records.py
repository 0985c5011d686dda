"""Which records say anything of a question. Light: what they say is worked out where there are any."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fitcheck.errors import InputError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Machine
from fitcheck.models.model import Model
from fitcheck.records.run import Run
from fitcheck.records.run_index import Index
from fitcheck.records.sampling import spread, varied
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask
from fitcheck.speed.rates import Calibration

if TYPE_CHECKING:
    from fitcheck.verdict.evidence import Known

MOST_BORROWED = 12  # runs of other cards of the architecture


def known_of(index: Index | None, machine: Machine, model: Model) -> Known | None:
    """The records that say something of the model on the machine's cards, where it has one kind of them; ``None`` where
    there are none."""
    if index is None or len({gpu.card.slug for gpu in machine.gpus}) != 1:
        return None
    card = machine.gpus[0].card
    place = card, model.slug, machine.detected
    if place not in index.follows:
        index.follows[place] = _known(index, card, model, detected=machine.detected)
    known: Known | None = index.follows[place]
    return known


def _known(index: Index, card: Card, model: Model, *, detected: bool) -> Known | None:
    of_any: Known | None = index.follows.get((card, detected))
    borrowed = _relatives(index, card) if of_any is None else of_any.borrowed
    short = _short(index, card, model)
    if not borrowed and not short and not index.runs_of(card.slug) and not index.links_of(card.slug):
        return None
    if of_any is None:
        of_any = index.follows[card, detected] = _of_any_model(index, card, borrowed, detected=detected)
    return replace(of_any, short=short)


def _of_any_model(index: Index, card: Card, borrowed: tuple[Run, ...], *, detected: bool) -> Known:
    """What is known whatever the model. All that is worked out of it is kept beside it, for other models too."""
    from fitcheck.verdict.evidence import Known

    mine = (run for run in index.runs_of(card.slug) if run.own) if detected else ()
    here = max(mine, key=lambda run: (run.created, run.id), default=None)
    return Known(card, index, None if here is None else here.machine, borrowed)


def concerning(index: Index, card: Card, model: Model) -> Index:
    """The records that can say anything of ``model`` on ``card``: those of runtimes that run it, on this card and on
    others of its architecture, and what ran out of memory on others of the vendor."""
    own, borrowed = index.of(card.slug), _relatives(index, card)
    told = {run.id: run for run in (*own.rows, *borrowed, *_short(index, card, model))}
    return Index(tuple(run for run in told.values() if run.cell.runtime in model.runtimes), own.links)


def calibration_of(ask: Ask, index: Index) -> Calibration:
    """What the records of an index change in the predicted seconds of one cell."""
    known, runtime = known_of(index, ask.machine, ask.model), registry.get(ask.placement.runtime)
    return Calibration() if known is None else known.of(runtime, ask, runtime.footprint(ask))[1]


def _short(index: Index, card: Card, model: Model) -> tuple[Run, ...]:
    """Runs of the model that ran out of memory under a limit, on other cards of the vendor: the sequence of tensors is
    the same there."""
    found = [run for run in index.short_of(model.slug) if run.card != card.slug]
    vendors = {slug: _vendor(slug) for slug in {run.card for run in found}}
    return tuple(spread([run for run in found if vendors[run.card] == card.vendor], MOST_BORROWED * 4))


def _vendor(slug: str) -> str | None:
    try:
        return find_card(slug).vendor
    except InputError:
        return None


def _relatives(index: Index, card: Card) -> tuple[Run, ...]:
    """Some finished runs of other cards of the same architecture."""
    related = [slug for slug in index.cards if slug != card.slug and _related(slug, card)]
    chosen = [run for slug in related for run in varied(spread(index.runs_of(slug)), MOST_BORROWED)]
    return tuple(varied(chosen, MOST_BORROWED * 4))


def _related(slug: str, card: Card) -> bool:
    try:
        other = find_card(slug)
    except InputError:
        return False
    if card.compute_capability is not None:
        return other.compute_capability == card.compute_capability
    return card.architecture is not None and (other.vendor, other.architecture) == (card.vendor, card.architecture)
