"""``fitcheck cards --fits MODEL``: the cards that run one or several models, cheapest first."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fitcheck.errors import OptionError

if TYPE_CHECKING:
    from fitcheck.hardware.card import Card
    from fitcheck.models.find import Identified
    from fitcheck.verdict.purchase import Offer, Offers

SCHEMA = "fitcheck.cards-that-fit/1"
COLUMNS = ("card", "price USD", "verdict", "tier", "speed", "card GiB", "usable GiB", "known by", "mode")
# what a narrow terminal goes without, the first one first
SPARE = ("mode", "known by", "usable GiB", "card GiB")
_UNKNOWN = "unknown"
MOST_MODELS = 8
_TRIED_RAM = (32, 64, 128)


def buy(
    fits: Sequence[str],
    cards: Sequence[Card],
    ram: str | None,
    under: float | None,
    *,
    min_speed: float | None = None,
    own_prices: bool = False,
    json_: bool = False,
) -> None:
    """Print the cards that run every model of ``fits``, each beside ``ram`` or its usual system memory, those that
    write fewer than ``min_speed`` tokens a second apart. Raises InputError."""
    from fitcheck.records.run_index import accepted
    from fitcheck.runtimes.base import Wanted
    from fitcheck.units import GIB, parse_memory
    from fitcheck.verdict.purchase import offers

    memory = None if ram is None else parse_memory(ram, "--ram")
    models = _models(fits)
    wanted = Wanted(min_speed=min_speed)
    found = offers(cards, models, wanted, accepted(), ram=memory, under=under)
    if json_:
        print(json.dumps({"schema": SCHEMA, **found.to_json()}, indent=2, ensure_ascii=False))
        return
    show(found, own_prices=own_prices)
    if found.fit:
        return
    for size in (size for size in _TRIED_RAM if size * GIB > (memory or 0)):
        more = offers([one.card for one in found.lacking], models, wanted, accepted(), ram=size * GIB, under=under)
        if more.fit or more.unpriced:
            print(
                f"With {size} GB of system memory {len(more.fit) + len(more.unpriced)} cards run it (--ram {size}GB)."
            )
            return


def _models(names: Sequence[str]) -> list[Identified]:
    from fitcheck.models.find import find_model

    wanted = [part.strip() for name in names for part in name.split(",") if part.strip()]
    if not 1 <= len(wanted) <= MOST_MODELS:
        raise OptionError(f"--fits: {len(wanted)} models; name 1 to {MOST_MODELS}.")
    return [find_model(name) for name in wanted]


def show(found: Offers, *, own_prices: bool) -> None:
    """Print the groups; what was asked goes to stderr. None of the cards is left out."""
    from fitcheck.cli.listing import LEADING
    from fitcheck.cli.listing import show as table
    from fitcheck.verdict.usual_memory import described

    if found.fit or not found.unpriced:
        table(COLUMNS, [row(one) for one in found.fit], SPARE)
    if found.unpriced:
        print("price unknown")
        table(COLUMNS, [row(one) for one in found.unpriced], SPARE)
    if found.slow:
        print(f"too slow to use: {', '.join(_with_price(one) for one in found.slow)}")
    if found.unknown:
        print(f"verdict unknown: {', '.join(_with_price(one) for one in found.unknown)}")
    if (line := nearest_line(found)) is not None:
        print(line)
    whose = "those of the file, else what was" if own_prices else "what was"
    print(
        f"{len(found.fit)} of {found.count} cards; {len(found.unpriced)} more without a known price, "
        f"{len(found.unknown)} whose verdict is unknown, {len(found.dearer)} that cost more, "
        f"{len(found.slow)} too slow, {len(found.lacking)} that do not run it. Prices are {whose} asked at launch. "
        f"Without --ram each card is asked with the system memory that such a machine usually has: {described()}. "
        f"Each row is {LEADING}.",
        file=sys.stderr,
    )


def nearest_line(found: Offers) -> str | None:
    """What comes nearest where nothing fits the price; ``None`` where something does or nothing else runs it."""
    nearest = found.nearest
    if nearest is None:
        return None
    slow = ", too slow to use" if nearest.slow else ""
    return f"Nothing for that price; the cheapest that runs it is {_with_price(nearest)}{slow}."


def row(offer: Offer) -> tuple[str, ...]:
    """The cells of one line, in the order of ``COLUMNS``: of several models the one that runs worst."""
    from fitcheck.cli.listing import speed

    report = offer.worst
    cell = report.best
    return (
        offer.name,
        _UNKNOWN if offer.price is None else f"{offer.price:,.0f}",
        str(cell.verdict),
        cell.tier.name if len(offer.reports) == 1 else f"{report.model.slug} {cell.tier.name}",
        speed(cell),
        f"{cell.need / 2**30:.1f}",
        f"{report.budget.vram.best / 2**30:.1f}",
        str(cell.evidence.level),
        cell.placement.mode,
    )


def _with_price(offer: Offer) -> str:
    return f"{offer.name} ({'price unknown' if offer.price is None else f'{offer.price:,.0f} USD'})"
