"""``fitcheck gpu``: what was detected on this machine, and from which source."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fitcheck.hardware.machine import Budget, Gpu, Machine
    from fitcheck.units import Interval

SCHEMA = 1
_UNKNOWN = "unknown"


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck gpu``; the report goes to standard output, notes on what is missing to standard error."""

    @app.command()
    def gpu(
        raw: Annotated[
            bool,
            typer.Option("--raw", help="Every reading with its source, as JSON to paste in a bug report."),
        ] = False,
        json_: Annotated[bool, typer.Option("--json", help="The machine as fitcheck understands it, as JSON.")] = False,
    ) -> None:
        """The cards, memory and disk of this machine, and what a model may take of them.

        --raw holds no name of the machine or of a user, no serial number, identifier or path.
        """
        from fitcheck.hardware.detect import capture, detect

        if raw:
            print(json.dumps(capture(), indent=2, ensure_ascii=False))
            return
        machine = detect()
        if json_:
            print(json.dumps(to_json(machine), indent=2, ensure_ascii=False))
            return
        rows = lines(machine)
        if sys.stdout.isatty():
            _table(rows)
        else:
            for label, text in rows:
                print(f"{label}: {text}")
        for note in machine.notes:
            print(f"· {note}", file=sys.stderr)


def lines(machine: Machine) -> list[tuple[str, str]]:
    """Label and text of each line: the cards, then the host."""
    rows: list[tuple[str, str]] = []
    for position, gpu in enumerate(machine.gpus):
        rows += _card_lines(machine, gpu, position)
    if not machine.gpus:
        rows.append(("card", "none found"))
    else:
        rows.append(("driver", _joined(machine.driver, machine.cuda and f"CUDA {machine.cuda}")))
    ram = _ram_of(machine)
    rows += [
        ("system memory", _UNKNOWN if machine.ram_total is None else f"{_gib(machine.ram_total)} in all, {ram} usable"),
        ("disk", _UNKNOWN if machine.disk_free is None else f"{machine.disk_free / 1e9:.1f} GB free"),
        ("system", machine.operating_system or _UNKNOWN),
    ]
    return rows


def _card_lines(machine: Machine, gpu: Gpu, position: int) -> list[tuple[str, str]]:
    card, link = gpu.card, gpu.link
    name = card.name if gpu.mig is None else f"{card.name}, MIG slice {gpu.mig}"
    total = _gib(gpu.vram_total) if gpu.vram_total else _UNKNOWN
    free = _UNKNOWN if gpu.vram_free is None else _gib(gpu.vram_free)
    found = _budget(machine, position)
    rate = card.tensor_flops
    rows = [
        ("card" if len(machine.gpus) == 1 else f"card {position}", name),
        ("memory", f"{total} in all, {free} free" + (" (shared with the host)" if card.unified_memory else "")),
        ("usable", _UNKNOWN if found is None else f"{_span(found.vram)}: {found.basis}"),
        ("display", {None: _UNKNOWN, True: "attached", False: "none"}[gpu.display]),
        ("tensor rate", _UNKNOWN if rate is None else f"{rate.value / 1e12:.4g} TFLOP/s ({rate.source})"),
        ("compute capability", ".".join(map(str, card.compute_capability)) if card.compute_capability else _UNKNOWN),
        (
            "link",
            _joined(link.pcie_generation and f"PCIe {link.pcie_generation}", link.pcie_lanes and f"x{link.pcie_lanes}"),
        ),
        ("power limit", _UNKNOWN if card.power_watts is None else f"{card.power_watts:g} W"),
    ]
    return [(label, text) for label, text in rows if text != _UNKNOWN or label in ("memory", "usable")]


def to_json(machine: Machine) -> dict[str, Any]:
    """The machine and its budgets: bytes, W; null is unknown."""
    return {
        "schema": SCHEMA,
        "gpus": [_gpu_json(machine, gpu, position) for position, gpu in enumerate(machine.gpus)],
        "ram_total": machine.ram_total,
        "ram_available": machine.ram_available,
        "disk_free": machine.disk_free,
        "driver": machine.driver,
        "cuda": machine.cuda,
        "operating_system": machine.operating_system,
        "notes": list(machine.notes),
    }


def _gpu_json(machine: Machine, gpu: Gpu, position: int) -> dict[str, Any]:
    from fitcheck.cli.cards import to_json as card_json

    found = _budget(machine, position)
    return {
        "card": card_json(gpu.card),
        "vram_total": gpu.vram_total or None,
        "vram_free": gpu.vram_free,
        "usable": None if found is None else {"low": found.vram.low, "best": found.vram.best, "high": found.vram.high},
        "basis": None if found is None else found.basis,
        "display": gpu.display,
        "mig": gpu.mig,
        "pcie_generation": gpu.link.pcie_generation,
        "pcie_lanes": gpu.link.pcie_lanes,
    }


def _budget(machine: Machine, position: int) -> Budget | None:
    """None where the card's memory is not known."""
    from fitcheck.errors import InputError
    from fitcheck.hardware.budget import budget

    try:
        return budget(machine, position)
    except InputError:
        return None


def _ram_of(machine: Machine) -> str:
    from fitcheck.hardware.budget import ram_budget

    found = ram_budget(machine)
    return _UNKNOWN if found is None else _span(found)


def _span(span: Interval[int]) -> str:
    if span.low == span.high:
        return _gib(span.best)
    return f"{_gib(span.best)} ({span.low / 2**30:.1f} to {span.high / 2**30:.1f})"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _joined(*parts: str | int | None) -> str:
    return " ".join(str(part) for part in parts if part) or _UNKNOWN


def _table(rows: list[tuple[str, str]]) -> None:
    from rich.table import Table

    from fitcheck.cli.consoles import console

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for label, text in rows:
        table.add_row(label, text)
    console().print(table)
