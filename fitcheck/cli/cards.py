"""``fitcheck cards``: the card database."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fitcheck.hardware.card import Card, Sourced

SCHEMA = 1
COLUMNS = ("card", "slug", "memory GiB", "GB/s", "tensor TFLOP/s", "launch price USD", "released")
_UNKNOWN = "?"
_LONGEST_FILTER = 120
_WIDE = 120


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck cards``; the command raises InputError for a filter or options that name no card."""

    @app.command()
    def cards(
        filter_: Annotated[
            list[str] | None,
            typer.Argument(metavar="[FILTER]...", help="Words that must all occur: rtx 40 laptop, or blackwell."),
        ] = None,
        all_: Annotated[bool, typer.Option("--all", help="Every card, not only the usual choices.")] = False,
        json_: Annotated[bool, typer.Option("--json", help="As JSON, with the source of each rate and price.")] = False,
        fits: Annotated[
            list[str] | None,
            typer.Option("--fits", help="Only cards that run this model, cheapest first; repeatable: all of them."),
        ] = None,
        under: Annotated[str | None, typer.Option("--under", help="Price at most, like 600USD.")] = None,
        ram: Annotated[str | None, typer.Option("--ram", help="With --fits: system memory, like 32GB.")] = None,
        min_speed: Annotated[
            float | None, typer.Option("--min-speed", help="With --fits: tokens a second at least.")
        ] = None,
        prices: Annotated[Path | None, typer.Option("--prices", help="CSV file: card,usd,date.")] = None,
    ) -> None:
        """The cards that fitcheck knows: the usual choices, all that match a filter, or those that run a model.

        The tensor rate is dense bf16/fp16 with f32 accumulation; ? is unknown.
        """
        from fitcheck.errors import OptionError
        from fitcheck.hardware.catalog import all_cards, common_cards

        words, fits = _models_apart(filter_ or [], fits or [])
        found = _matching(words, all_cards()) if words else list(all_cards() if all_ else common_cards())
        limit = None if under is None else _dollars(under)
        if prices is not None:
            from fitcheck.hardware.prices import priced, read_prices

            own = read_prices(prices)
            found = [priced(card, own) for card in found]
        if fits:
            from fitcheck.cli.buying import buy

            buy(fits, found, ram, limit, min_speed=min_speed, own_prices=prices is not None, json_=json_)
            return
        if ram is not None:
            raise OptionError("--ram goes with --fits, like `fitcheck cards --fits MODEL --ram 32GB`.")
        if min_speed is not None:
            raise OptionError("--min-speed goes with --fits, like `fitcheck cards --fits MODEL --min-speed 20`.")
        if limit is not None:
            found = _affordable(found, limit)
            if unpriced := sum(card.launch_price_usd is None for card in found):
                print(f"Nobody has recorded a price of the last {unpriced}; --prices takes yours.", file=sys.stderr)
        if not (json_ or all_ or words):  # behind every refusal, which is one line
            hint = "give a filter, like `fitcheck cards 4070`, or --all"
            print(f"The usual choices; {len(all_cards()):,} cards are known: {hint}.", file=sys.stderr)
        if json_:
            print(
                json.dumps({"schema": SCHEMA, "cards": [to_json(card) for card in found]}, indent=2, ensure_ascii=False)
            )
        elif sys.stdout.isatty():
            _table(found)
        else:
            print("\t".join(COLUMNS))
            for card in found:
                print("\t".join(row(card)))


def _models_apart(typed: list[str], fits: list[str]) -> tuple[str, list[str]]:
    """The words of the filter as one text, and the models of ``--fits`` with those that were typed behind the first:
    ``--fits qwen3-8b sdxl``."""
    from fitcheck.models.catalog import slugs

    more = [word for word in typed if fits and word.lower() in slugs()]
    return " ".join(word for word in typed if word not in more).strip(), [*fits, *more]


def _dollars(text: str) -> float:
    from fitcheck.hardware.prices import parse_dollars

    return parse_dollars(text, "--under")


def _affordable(cards: list[Card], under: float) -> list[Card]:
    """Cards that cost at most ``under`` US dollars, then those whose price is not known."""
    priced = [(card, card.launch_price_usd) for card in cards]
    return [card for card, price in priced if price is not None and price.value <= under] + [
        card for card, price in priced if price is None
    ]


def _matching(text: str, cards: tuple[Card, ...]) -> list[Card]:
    """Cards whose name, slug, vendor, form, architecture or chip hold every word. Raises InputError when none does."""
    from fitcheck.errors import CardError

    words = text[:_LONGEST_FILTER].lower().split()
    found = [card for card in cards if all(word in _searched(card) for word in words)]
    if not found:
        raise CardError(f"FILTER: no card matches {text[:_LONGEST_FILTER]!r}; use fewer or shorter words, like '4070'.")
    return found


def _searched(card: Card) -> str:
    parts = (card.name, card.slug, card.vendor, card.form, card.architecture, card.chip, *card.aliases)
    return " ".join(part for part in parts if part).lower()


def row(card: Card) -> tuple[str, ...]:
    """The cells of one line, in the order of ``COLUMNS``."""
    memory = "shared" if card.unified_memory and not card.memory else f"{card.memory / 2**30:g}"
    return (
        card.name,
        card.slug,
        memory,
        _UNKNOWN if card.memory_bandwidth is None else f"{card.memory_bandwidth / 1e9:,.0f}",
        _UNKNOWN if card.tensor_flops is None else f"{card.tensor_flops.value / 1e12:,.4g}",
        _UNKNOWN if card.launch_price_usd is None else f"{card.launch_price_usd.value:,.0f}",
        card.released or _UNKNOWN,
    )


def to_json(card: Card) -> dict[str, Any]:
    """One card: bytes, B/s, FLOP/s and W; null is unknown."""
    capability = card.compute_capability
    return {
        "slug": card.slug,
        "name": card.name,
        "aliases": list(card.aliases),
        "vendor": card.vendor,
        "form": card.form,
        "architecture": card.architecture,
        "chip": card.chip,
        "released": card.released,
        "memory": card.memory,
        "memory_type": card.memory_type,
        "memory_bandwidth": card.memory_bandwidth,
        "unified_memory": card.unified_memory,
        "tensor_flops": _sourced(card.tensor_flops),
        "shader_flops": card.shader_flops,
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "pcie_generation": card.pcie_generation,
        "pcie_lanes": card.pcie_lanes,
        "power_watts": card.power_watts,
        "launch_price_usd": _sourced(card.launch_price_usd),
        "corrections": list(card.corrections),
    }


def _sourced(number: Sourced | None) -> dict[str, Any] | None:
    return None if number is None else {"value": number.value, "source": number.source, "read": number.date}


def _table(cards: list[Card]) -> None:
    from fitcheck.cli.consoles import bare_table, console

    out = console()
    # a narrow terminal keeps the names whole and goes without the slug
    shown = [index for index, name in enumerate(COLUMNS) if name != "slug" or out.width >= _WIDE]
    table = bare_table()
    for name in (COLUMNS[index] for index in shown):
        text = name in ("card", "slug", "released")
        table.add_column(name, justify="left" if text else "right", no_wrap=text)
    for card in cards:
        cells = row(card)
        table.add_row(*(cells[index] for index in shown))
    out.print(table)
