"""``fitcheck compare``: machines side by side on the same models."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.asked_machine import JsonOption, MaxSecondsOption, MinSpeedOption, OsOption, RamOption

if TYPE_CHECKING:
    from fitcheck.verdict.compare import Compared

COLUMNS = ("model", "machine", "verdict", "tier", "speed", "binds", "USD", "W", "USD per", "known by", "mode")
# what a narrow terminal goes without, the first one first
SPARE = ("mode", "known by", "W", "USD per", "binds")


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck compare``."""

    @app.command()
    def compare(
        models: Annotated[
            list[str], typer.Argument(metavar="MODEL…", help="What `fitcheck check` takes, one or more.")
        ],
        gpu: Annotated[
            list[str],
            typer.Option("--gpu", "-g", help="One machine each: a card, or several like '2x RTX 3090'; repeatable."),
        ],
        task: Annotated[str | None, typer.Option("--task", help="What the models are asked to do.")] = None,
        tier: Annotated[str | None, typer.Option("--tier", "-t", help="Tiers, comma separated.")] = None,
        ram: RamOption = None,
        os: OsOption = None,
        min_speed: MinSpeedOption = None,
        max_seconds: MaxSecondsOption = None,
        prices: Annotated[Path | None, typer.Option("--prices", help="CSV file: card,usd,date.")] = None,
        offline: Annotated[bool, typer.Option("--offline", help="Use no network.")] = False,
        json_: JsonOption = False,
    ) -> None:
        """Cards side by side: verdict, best tier and mode, speed, what binds, price, watts, how we know."""
        from fitcheck import api
        from fitcheck.cli.options import split

        found = api.compare(
            models,
            gpu,
            task=task,
            tier=split(tier),
            ram=ram,
            system=os,
            min_speed=min_speed,
            max_seconds=max_seconds,
            prices=prices,
            offline=offline,
        )
        if json_:
            print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
            return
        tell(found.rows, own=prices is not None)


def tell(found: Sequence[Compared], *, own: bool) -> None:
    """Print the table; where prices are from goes to stderr."""
    from fitcheck.cli.listing import show

    show(COLUMNS, [_cells(one) for one in found], SPARE)
    whose = "those of the file, else what was" if own else "what was"
    print(
        f"Prices are {whose} asked at launch; USD per is per image, video or answer an hour, or per token a "
        "second. W is the cards' board power, both without cards that stay idle.",
        file=sys.stderr,
    )


def _cells(one: Compared) -> list[str]:
    from fitcheck.cli.listing import UNKNOWN, speed

    cell = one.report.best
    price, watts, per = (
        UNKNOWN if value is None else f"{value:,.{digits}f}"
        for value, digits in ((one.price, 0), (one.watts, 0), (one.price_per_hourly, 2))
    )
    return [
        one.report.model.slug,
        one.report.place.replace("GeForce ", "") + (f", {one.idle} idle" if one.idle else ""),
        str(cell.verdict),
        cell.tier.name,
        speed(cell),
        str(cell.judgement.binding),
        price,
        watts,
        per,
        cell.evidence.level,
        cell.placement.mode,
    ]
