"""``fitcheck plan``: what a model needs, which cards give it, and what to change of the machine that is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.asked_machine import JsonOption, MaxSecondsOption, MinSpeedOption, OsOption, RamOption

if TYPE_CHECKING:
    from fitcheck.verdict.plan import Need, Plan
    from fitcheck.verdict.purchase import Offer

NEEDS = ("tier", "card GiB to fit", "to run", "system GiB", "disk GB", "KLD", "mode")
NEEDS_SPARE = ("disk GB", "system GiB")  # what a narrow terminal goes without
SHOWN = 8


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck plan``."""

    @app.command()
    def plan(
        model: Annotated[str, typer.Argument(metavar="MODEL", help="What `fitcheck check` takes.")],
        task: Annotated[str | None, typer.Option("--task", help="What the model is asked to do.")] = None,
        tier: Annotated[str | None, typer.Option("--tier", "-t", help="Tiers, comma separated.")] = None,
        have: Annotated[
            list[str] | None, typer.Option("--have", help="The card that is there, like 'RTX 3060 12GB'; repeatable.")
        ] = None,
        ram: RamOption = None,
        os: OsOption = None,
        budget: Annotated[str | None, typer.Option("--budget", help="For cards at most, like 700USD.")] = None,
        min_speed: MinSpeedOption = None,
        max_seconds: MaxSecondsOption = None,
        prices: Annotated[Path | None, typer.Option("--prices", help="CSV file: card,usd,date.")] = None,
        offline: Annotated[bool, typer.Option("--offline", help="Use no network.")] = False,
        json_: JsonOption = False,
    ) -> None:
        """What to buy for a model: least memory by tier and mode, the cards that do it, what to change of yours."""
        from fitcheck import api
        from fitcheck.cli.options import split

        found = api.plan(
            model,
            have=have or None,
            task=task,
            tier=split(tier),
            ram=ram,
            system=os,
            budget=budget,
            min_speed=min_speed,
            max_seconds=max_seconds,
            prices=prices,
            offline=offline,
        )
        if json_:
            print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
            return
        if have and found.now is None:
            print("It runs on a graphics card, and this machine has none.")
        tell(found)


def tell(found: Plan) -> None:
    """Print needs, changes and cards, each as a table; what is left out and why goes to stderr."""
    from fitcheck.cli.buying import nearest_line
    from fitcheck.cli.listing import show
    from fitcheck.cli.output import change_line

    if found.now is not None:
        print(found.now.answer)
        if found.free is not None:
            print(f"Two changes that cost nothing: {found.free.words} ({found.free.report.best.verdict}).")
        if found.now.best.flip is not None:
            print(change_line(found.now.best.flip))
        if found.finer is not None:
            print(f"{found.now.best.tier.name} is coarse; a finer file: {found.finer.answer}")
        _tell_steps(found)
    print("needs")
    show(NEEDS, [_need(one) for one in found.needs], NEEDS_SPARE)
    for title, group in (("cards", found.cards.fit), ("price unknown", found.cards.unpriced)):
        if group:
            print(title)
            show(("card", "USD", "verdict", "tier", "speed", "mode"), [_offer(one) for one in group[:SHOWN]], ("mode",))
            if len(group) > SHOWN:
                print(f"  and {len(group) - SHOWN} more; --json lists all")
    if (line := nearest_line(found.cards)) is not None:
        print(line)
    if found.cards.slow:
        print(f"too slow to use: {', '.join(one.name for one in found.cards.slow)}")
    if found.cards.unknown:
        print(f"verdict unknown: {', '.join(one.name for one in found.cards.unknown)}")
    print(
        f"{found.cards.count} cards and pairs were asked, each beside its usual system memory unless --ram says it; "
        f"{len(found.cards.dearer)} cost more than asked, {len(found.cards.lacking)} do not run it. Prices are what "
        "was asked at launch.",
        file=sys.stderr,
    )


def _tell_steps(found: Plan) -> None:
    from fitcheck.cli.listing import show, speed

    if not found.steps:
        stands = found.finer or found.now
        free = stands is not None and stands.best.verdict.rank == 0
        print("Nothing needs to change." if free else _nothing(found))
        return
    print("to buy, cheapest first")
    rows = [
        [step.words, _dollars(step.price), str(step.verdict), step.report.best.tier.name, speed(step.report.best)]
        for step in found.steps[:SHOWN]
    ]
    show(("change", "USD", "verdict", "tier", "speed"), rows)
    if any(" and " in step.words for step in found.steps[:SHOWN]):
        print("USD are the card's alone where system memory comes with it.", file=sys.stderr)


def _nothing(found: Plan) -> str:
    """Why no step is offered: of memory that is shared the check names more, which no module may be."""
    shared = found.now is not None and any(gpu.card.unified_memory for gpu in found.now.machine.gpus)
    if shared:
        return "No card goes beside memory that is shared; where it is soldered, more of it is another machine."
    return "Nothing that goes into this machine and the budget betters it."


def _dollars(price: float | None) -> str:
    return "unknown" if price is None else f"{price:,.0f}"


def _need(one: Need) -> list[str]:
    from fitcheck.cli.output import worst_quality

    amounts = [f"{value / 2**30:.1f}" for value in (one.fits, one.runs, one.host)]
    return [one.tier, *amounts, f"{one.disk / 1e9:.1f}", worst_quality(one.quality), one.mode]


def _offer(one: Offer) -> list[str]:
    from fitcheck.cli.listing import speed

    cell = one.worst.best
    return [one.name, _dollars(one.price), str(one.verdict), cell.tier.name, speed(cell), cell.placement.mode]
