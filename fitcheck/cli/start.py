"""Bare ``fitcheck`` on a terminal: what this machine is, what runs on it, and what to type next. One screen."""

from __future__ import annotations

from fitcheck.units import format_gib

SHOWN = 4
NEXT = (
    ("fitcheck runs --for code", "more of what runs here, by purpose: chat, code, image, video, edit, vision"),
    ("fitcheck check MODEL", "one model here: every tier and mode, how fast, how we know"),
    ("fitcheck plan MODEL", "what to buy for it"),
    ("fitcheck compare MODEL --gpu 'RTX 4070' --gpu 'RTX 5070'", "cards side by side"),
    ("fitcheck --help", "all commands"),
)


def start() -> None:
    """Print it. Without a card the commands that name one come first."""
    from fitcheck.errors import CardError
    from fitcheck.hardware.asked import asked_machine

    try:
        machine = asked_machine()
    except CardError as problem:
        print(f"{str(problem)[:1].upper()}{str(problem)[1:]}")
        print("What would run on a card: fitcheck runs --gpu 'RTX 4070' --ram 32GB")
    else:
        names = [f"{gpu.card.name} ({format_gib(gpu.vram_total)})" for gpu in machine.gpus]
        cards = ", ".join(names) or "no graphics card"
        memory = "unknown system memory" if machine.ram_total is None else f"{format_gib(machine.ram_total)} of memory"
        print(f"This machine: {cards}; {memory}.")
        _what_runs()
    width = max(len(command) for command, _ in NEXT)
    for command, words in NEXT:
        print(f"  {command:{width}}  {words}")


def _what_runs() -> None:
    from fitcheck import api
    from fitcheck.cli.listing import speed

    for ranking in api.runs(most=SHOWN).purposes:
        for row in ranking.rows[:SHOWN]:
            cell = row.report.best
            print(f"  {ranking.purpose.name:6} {row.listing.slug} {cell.tier.name}: {cell.verdict}, {speed(cell)}")
        if ranking.listed and not ranking.rows:
            print(f"  {ranking.purpose.name:6} nothing fits; `fitcheck runs --for {ranking.purpose.name}` says why")
