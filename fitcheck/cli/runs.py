"""``fitcheck runs``: what of the catalog runs on a machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.asked_machine import GpuOption, JsonOption, MaxSecondsOption, MinSpeedOption, OsOption, RamOption

if TYPE_CHECKING:
    from fitcheck.hardware.machine import Machine
    from fitcheck.verdict.purposes import Purpose
    from fitcheck.verdict.ranking import Ranking, Row

COLUMNS = ("model", "rated", "tier", "KLD", "verdict", "speed", "card GiB", "system GiB", "mode")
# what a narrow terminal goes without, the first one first
SPARE = ("mode", "system GiB", "card GiB", "KLD", "rated")


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck runs``."""

    @app.command()
    def runs(
        gpu: GpuOption = None,
        ram: RamOption = None,
        os: OsOption = None,
        for_: Annotated[
            str | None,
            typer.Option(
                "--for",
                help="Of chat, code, image, video, edit, vision, with commas; default: chat,image,video.",
            ),
        ] = None,
        min_speed: MinSpeedOption = None,
        max_seconds: MaxSecondsOption = None,
        most: Annotated[int | None, typer.Option("--most", help="Models to show; default 10 of one purpose.")] = None,
        every_tier: Annotated[
            bool, typer.Option("--every-tier", help="The best of every tier of each model; takes minutes.")
        ] = False,
        json_: JsonOption = False,
    ) -> None:
        """What runs here: the catalog on a machine, one row a model, and what just misses."""
        from fitcheck import api

        names = api.USUAL_PURPOSES if for_ is None else for_
        found = api.runs(
            gpu or None,
            purpose=names,
            ram=ram,
            system=os,
            min_speed=min_speed,
            max_seconds=max_seconds,
            most=most,
            every_tier=every_tier,
        )
        if json_:
            print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
            return
        for one in found.purposes:
            tell(one, found.said)


def tell(ranking: Ranking, said: Sequence[str]) -> None:
    """Print one list with its misses; how it is ordered goes to stderr."""
    from fitcheck.cli.listing import LEADING, show

    makes = ranking.purpose.makes
    if not ranking.listed:
        print(f"{ranking.purpose.name}: no model in the catalog makes {makes} yet.")
        return
    print(f"{ranking.purpose.name}: {_head(ranking)}")
    if ranking.rows:
        rows = [_cells(row, ranking.purpose) for row in ranking.rows]
        at = COLUMNS.index("KLD")
        if all(row[at] == "?" for row in rows):  # no table of others has such tiers
            show([*COLUMNS[:at], *COLUMNS[at + 1 :]], [[*row[:at], *row[at + 1 :]] for row in rows], SPARE)
        else:
            show(COLUMNS, rows, SPARE)
    if ranking.more:
        print(f"and {ranking.more} more that {'fits' if ranking.more == 1 else 'fit'}; --most shows more")
    if ranking.misses:
        print("just misses")
        columns = ("model", "tier", "verdict", "speed", "binds", "what would change it")
        show(columns, [_miss(row) for row in ranking.misses], ("speed", "binds"))
    first = next(iter((*ranking.rows, *ranking.misses)), None)
    if first is not None:
        print(f"  {first.command(said)}")
    unseeing = " Chat models are judged without the mmproj file that sees for them." if ranking.purpose.sees else ""
    print(
        f"Asked: {_described(ranking.machine)}. Order: {ranking.purpose.order}. Of {ranking.listed} models "
        f"{ranking.larger} are too large in a usual tier (4.5 bits a weight), {ranking.unseen} were not checked. Each "
        f"row is {LEADING}; --every-tier looks at those too.{unseeing}",
        file=sys.stderr,
    )


def _described(machine: Machine) -> str:
    """The cards and the system memory that were asked about: a short name may have meant another card."""
    cards = ", ".join(gpu.card.name for gpu in machine.gpus) or "no card"
    return cards if machine.ram_total is None else f"{cards}, {machine.ram_total / 2**30:.3g} GB of system memory"


def _head(ranking: Ranking) -> str:
    if ranking.rows:
        return "runs"
    if ranking.misses:
        return "nothing in the catalog fits; nearest"
    return "nothing in the catalog fits" if ranking.machine.gpus else "nothing in the catalog runs without a card"


def _cells(row: Row, purpose: Purpose) -> list[str]:
    from fitcheck.cli.listing import speed
    from fitcheck.cli.output import worst_quality

    cell = row.report.best
    host = cell.footprint.host.total.best
    amounts = [f"{cell.need / 2**30:.1f}", f"{host / 2**30:.1f}"]
    head = [row.listing.slug, _rated(row, purpose), cell.tier.name, worst_quality(cell.quality), str(cell.verdict)]
    return [*head, speed(cell), *amounts, cell.placement.mode]


def _rated(row: Row, purpose: Purpose) -> str:
    """The public rating, else the day of release or when it was first seen."""
    score = purpose.score(row.listing)
    return str(score.value) if score is not None else row.listing.day or "?"


def _miss(row: Row) -> list[str]:
    from fitcheck.cli.listing import speed

    cell = row.report.best
    change = row.change or "`fitcheck check` says"
    return [row.listing.slug, cell.tier.name, str(cell.verdict), speed(cell), str(cell.judgement.binding), change]
