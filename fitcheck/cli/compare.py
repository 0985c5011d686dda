"""``fitcheck compare``: machines side by side on the same models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.asked_machine import JsonOption, MaxSecondsOption, MinSpeedOption, RamOption

if TYPE_CHECKING:
    from fitcheck.hardware.card import Sourced
    from fitcheck.hardware.machine import Machine
    from fitcheck.runtimes.base import Wanted
    from fitcheck.verdict.compare import Compared

COLUMNS = ("model", "machine", "verdict", "tier", "speed", "binds", "USD", "W", "USD per", "known by", "mode")
# machines times models: each is a whole check
MOST = 64


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
        min_speed: MinSpeedOption = None,
        max_seconds: MaxSecondsOption = None,
        prices: Annotated[Path | None, typer.Option("--prices", help="CSV file: card,usd,date.")] = None,
        offline: Annotated[bool, typer.Option("--offline", help="Use no network.")] = False,
        json_: JsonOption = False,
    ) -> None:
        """Cards side by side: verdict, best tier and mode, speed, what binds, price, watts, how we know."""
        from fitcheck.cli.options import split
        from fitcheck.hardware.prices import read_prices
        from fitcheck.runtimes.base import Wanted

        known = {} if prices is None else read_prices(prices)
        wanted = Wanted(task, split(tier), None, (), min_speed, max_seconds)
        machines = machines_of(gpu, ram, len(models))
        found = compared(models, machines, wanted, known, offline=offline)
        if json_:
            from fitcheck.verdict.compare import SCHEMA

            print(json.dumps({"schema": SCHEMA, "rows": [one.to_json() for one in found]}, indent=2))
            return
        tell(found, own=prices is not None)


def machines_of(gpu: list[str], ram: str | None, models: int) -> list[Machine]:
    """One machine for each --gpu. Raises InputError for names that are none and for more than is worth a table."""
    from fitcheck.cli.asked_machine import TypedMachine
    from fitcheck.errors import OptionError

    if len(gpu) * models > MOST:
        raise OptionError(f"--gpu: {models} models on {len(gpu)} machines are more than {MOST} checks; name fewer.")
    return [TypedMachine((one,), ram).machine() for one in gpu]


def compared(
    models: list[str], machines: list[Machine], wanted: Wanted, prices: dict[str, Sourced], *, offline: bool
) -> list[Compared]:
    """Every model on every machine. Raises InputError."""
    from fitcheck.cli.asked_machine import records_for
    from fitcheck.hardware.budget import budgets_of
    from fitcheck.models.find import find_model
    from fitcheck.verdict.compare import compare as side_by_side

    size = max(one.vram.best for machine in machines for one in budgets_of(machine))
    found = [find_model(name, tiers=wanted.tiers, size=size, offline=offline) for name in models]
    return side_by_side(found, machines, wanted, records_for(*machines), prices=prices)


def tell(found: list[Compared], *, own: bool) -> None:
    """Print the table; where prices are from goes to stderr."""
    from fitcheck.cli.listing import show

    show(COLUMNS, [_cells(one) for one in found])
    whose = "those of the file, else what was" if own else "what was"
    print(
        f"Prices are {whose} asked at launch; USD per is per image an hour, or per token a second. W is the cards' "
        "board power.",
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
        one.report.place.replace("GeForce ", ""),
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
