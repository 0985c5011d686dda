"""``fitcheck runs``: what of the catalog runs on a machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.asked_machine import GpuOption, JsonOption, MaxSecondsOption, MinSpeedOption, RamOption, TypedMachine

if TYPE_CHECKING:
    from fitcheck.verdict.purposes import Purpose
    from fitcheck.verdict.ranking import Ranking, Row

COLUMNS = ("model", "rated", "tier", "KLD", "verdict", "speed", "card GiB", "system GiB", "mode")
# purposes shown when nobody names one, and how many models of each
USUAL = ("chat", "image", "video")
SHORT = 6
MOST = 200


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck runs``."""

    @app.command()
    def runs(
        gpu: GpuOption = None,
        ram: RamOption = None,
        for_: Annotated[
            str | None, typer.Option("--for", help="chat, code, image, video, edit or vision; default: the first ones.")
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
        from fitcheck.errors import OptionError

        if most is not None and not 1 <= most <= MOST:
            raise OptionError(f"--most: {most} is out of range; give 1 to {MOST}.")
        said = TypedMachine(tuple(gpu or ()), ram)
        names = (for_,) if for_ is not None else USUAL
        found = rankings(said, names, min_speed, max_seconds, most or (10 if for_ else SHORT), every_tier)
        if json_:
            from fitcheck.verdict.ranking import SCHEMA

            lists = [one.to_json(said.words) for one in found]
            print(json.dumps({"schema": SCHEMA, "purposes": lists}, indent=2, ensure_ascii=False))
            return
        for one in found:
            tell(one, said)


def rankings(
    said: TypedMachine,
    names: Sequence[str],
    min_speed: float | None,
    max_seconds: float | None,
    most: int,
    every_tier: bool,
) -> list[Ranking]:
    """One list for each purpose. Raises InputError."""
    from fitcheck.cli.asked_machine import records_for
    from fitcheck.runtimes.base import Wanted
    from fitcheck.verdict.purposes import purpose_named
    from fitcheck.verdict.ranking import rank

    purposes = [purpose_named(name) for name in names]
    machine = said.machine()
    wanted, index = Wanted(min_speed=min_speed, max_seconds=max_seconds), records_for(machine)
    return [rank(purpose, machine, wanted, index, most=most, every_tier=every_tier) for purpose in purposes]


def tell(ranking: Ranking, said: TypedMachine) -> None:
    """Print one list with its misses; how it is ordered goes to stderr."""
    from fitcheck.cli.listing import show

    makes = ranking.purpose.makes
    if not ranking.listed:
        print(f"{ranking.purpose.name}: no model in the catalog makes {makes} yet.")
        return
    head = "runs" if ranking.rows else "nothing in the catalog fits; nearest"
    print(f"{ranking.purpose.name}: {head}")
    if ranking.rows:
        show(COLUMNS, [_cells(row, ranking.purpose) for row in ranking.rows])
    if ranking.misses:
        print("just misses")
        columns = ("model", "tier", "verdict", "speed", "binds", "what would change it")
        show(columns, [_miss(row) for row in ranking.misses])
    first = next(iter((*ranking.rows, *ranking.misses)), None)
    if first is not None:
        print(f"  {first.command(said.words)}")
    print(
        f"Order: {ranking.purpose.order}. Of {ranking.listed} models {ranking.larger} are too large in a usual tier (4.5 bits "
        f"a weight), {ranking.unseen} were not checked. Each row is one tier; `fitcheck check` shows "
        "all, --every-tier the best.",
        file=sys.stderr,
    )


def _cells(row: Row, purpose: Purpose) -> list[str]:
    from fitcheck.cli.listing import speed
    from fitcheck.cli.output import quality

    cell = row.report.best
    host = cell.footprint.host.total.best
    amounts = [f"{cell.need / 2**30:.1f}", f"{host / 2**30:.1f}"]
    head = [row.listing.slug, _rated(row, purpose), cell.tier.name, quality(cell), str(cell.verdict)]
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
