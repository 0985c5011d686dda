"""``fitcheck cards --fits MODEL``: the cards that run a model, cheapest first."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fitcheck.errors import OptionError

if TYPE_CHECKING:
    from fitcheck.hardware.card import Card
    from fitcheck.verdict.report import Report

COLUMNS = ("card", "price USD", "verdict", "tier", "mode", "card GiB", "usable GiB", "seconds", "known by")
_UNKNOWN = "?"
# a narrow terminal keeps names and times whole and goes without these
_WIDE = 110
_LEAST_NAME = 18
_DISPENSABLE = ("mode", "card GiB", "usable GiB")


def runs_on(model: str, cards: Sequence[Card], ram: int | None, under: float | None) -> list[tuple[Card, Report]]:
    """Cards on which ``model`` fits, then those where it is tight, each cheapest first, unknown prices last.

    ``ram`` is the machine's system memory in bytes, by default what a machine with such a card usually has; ``under``
    a launch price in US dollars. Raises InputError for an unknown model and an amount that is none.
    """
    from fitcheck.memory.weighing import Verdict
    from fitcheck.models import catalog
    from fitcheck.records.evidence import accepted
    from fitcheck.verdict.usual_machine import ask

    if under is not None and not (math.isfinite(under) and under > 0):
        raise OptionError(f"--under: {under:g} is not a price; give US dollars, like 600.")
    known, index = catalog.get(model), accepted()
    found = []
    for card in cards:
        price = card.launch_price_usd
        if not card.memory or (under is not None and (price is None or price.value > under)):
            continue
        asked = ask(known, card, index)
        report = (asked if ram is None else replace(asked, ram=ram)).report(advise=False)
        if report.best.verdict in (Verdict.FITS, Verdict.TIGHT):
            found.append((card, report))
    return sorted(found, key=lambda pair: (pair[1].best.verdict.rank, _price(pair[0]), pair[0].name))


def _price(card: Card) -> float:
    return math.inf if card.launch_price_usd is None else card.launch_price_usd.value


def row(card: Card, report: Report) -> tuple[str, ...]:
    """The cells of one line, in the order of ``COLUMNS``."""
    from fitcheck.units import format_seconds, format_span

    cell = report.best
    span = cell.seconds
    return (
        card.name,
        _UNKNOWN if card.launch_price_usd is None else f"{card.launch_price_usd.value:,.0f}",
        str(cell.verdict),
        cell.tier.name,
        cell.placement.mode,
        f"{cell.need / 2**30:.1f}",
        f"{report.budget.vram.best / 2**30:.1f}",
        _UNKNOWN if span is None else format_span(format_seconds(span.low), format_seconds(span.high)),
        str(cell.evidence.level),
    )


def show(found: Sequence[tuple[Card, Report]], asked: int) -> None:
    """Print the list; what it was asked with goes to stderr."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        console = Console(highlight=False, markup=False)
        shown = [name for name in COLUMNS if console.width >= _WIDE or name not in _DISPENSABLE]
        lines = [dict(zip(COLUMNS, row(card, report), strict=True)) for card, report in found]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in shown:
            right, wraps = name.endswith(("USD", "GiB", "seconds")), name == "card"
            longest = _LEAST_NAME if wraps else max(len(line[name]) for line in (*lines, {name: name.split()[0]}))
            table.add_column(
                name.replace(" ", "\n"),
                justify="right" if right else "left",
                min_width=longest,
                no_wrap=name == "seconds",
            )
        for line in lines:
            table.add_row(*(line[name].removeprefix("GeForce ") for name in shown))
        console.print(table)
    else:
        print("\t".join(COLUMNS))
        for card, report in found:
            print("\t".join(row(card, report)))
    from fitcheck.verdict.usual_memory import described

    print(
        f"{len(found)} of {asked} cards. Prices are what was asked at launch. Without --ram each card is asked with "
        f"the system memory that such a machine usually has: {described()}.",
        file=sys.stderr,
    )
