"""The table at the end: predicted, measured, error for each cell; and the plan that ``--dry-run`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from bench.job import Job
from bench.jobs import label
from bench.runner import CellRun
from fitcheck.memory.footprint import CardMemory, Footprint
from fitcheck.records.schema import ExternalRecord, PassRecord
from fitcheck.units import GIB, Interval, format_gib, format_seconds


@dataclass(frozen=True, slots=True)
class TableRow:
    """One finished cell as the table shows it."""

    run: CellRun
    record: PassRecord
    predicted: Footprint | None

    @property
    def predicted_card(self) -> CardMemory | None:
        """The estimate of the card that ran."""
        return None if self.predicted is None else self.predicted.cards[0]


def error_percent(predicted: float, measured: float) -> float:
    """Signed error of a prediction, in percent of what was measured."""
    return 100 * (predicted - measured) / measured


def on_card(record: PassRecord) -> int | None:
    """Bytes of the card that the process took: NVML's number for it, else the card's growth."""
    memory = record.memory
    if memory.process is not None:
        return memory.process
    if memory.device is None or memory.device_before is None:
        return None
    return memory.device - memory.device_before


def _pair(predicted: Interval[int] | None, measured: int | None) -> str:
    """``measured`` alone, or with the prediction and its error: ``5.61 (5.58, −0.5 %)`` in GiB."""
    if measured is None:
        return "–" if predicted is None else f"– ({predicted.best / GIB:.2f})"
    if predicted is None or measured == 0:
        return f"{measured / GIB:.2f}"
    return f"{measured / GIB:.2f} ({predicted.best / GIB:.2f}, {error_percent(predicted.best, measured):+.1f} %)"


def print_table(rows: Sequence[TableRow], console: Console) -> None:
    """Measured GiB with (predicted, error) in each cell of the table."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title="measured (predicted, error), GiB" if any(row.predicted for row in rows) else "measured, GiB",
    )
    table.add_column("cell", overflow="fold")
    table.add_column("outcome")
    for name in ("seconds", "allocated", "reserved", "card", "host RSS"):
        table.add_column(name, justify="right")
    for row in rows:
        memory, predicted = row.record.memory, row.predicted_card
        host = row.predicted.host.total if row.predicted else None
        table.add_row(
            label(row.run.cell),
            row.run.outcome,
            _seconds(row.run),
            _pair(predicted.allocated if predicted else None, memory.allocated),
            _pair(predicted.reserved if predicted else None, memory.reserved),
            _pair(predicted.card if predicted else None, on_card(row.record)),
            _pair(host, memory.rss),
        )
    console.print(table)


def _seconds(run: CellRun) -> str:
    if run.median is None:
        return "–"
    spread = f" ±{50 * run.spread:.1f} %" if run.spread is not None and len(run.seconds) > 1 else ""
    return f"{run.median:.2f}{spread}" + (" !" if run.flags else "")


def print_plan(cells: Sequence[tuple[Job, Footprint | None]], cap: int | None, console: Console) -> None:
    """The cells of ``--dry-run`` with what each is predicted to need."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title="predicted need, GiB" + ("" if cap is None else f", card capped to {format_gib(cap)}"),
    )
    table.add_column("cell", overflow="fold")
    for name in ("allocated", "reserved", "card", "pinned", "host"):
        table.add_column(name, justify="right")
    for cell, footprint in cells:
        if footprint is None:
            table.add_row(label(cell), *["unknown"] * 5)
            continue
        host, card = footprint.host, footprint.cards[0]
        values = (card.allocated.best, card.reserved.best, card.card.best, host.pinned, host.total.best)
        table.add_row(label(cell), *(f"{value / GIB:.2f}" for value in values))
    console.print(table)


def line(run: CellRun) -> str:
    """One finished cell in a line."""
    text = f"{label(run.cell)}: {run.outcome}"
    if run.median is not None:
        text += f", {format_seconds(run.median)} median of {len(run.seconds)}"
        if run.flags:
            text += f" (spread {100 * (run.spread or 0):.0f} %: not steady)"
    allocated = run.end.get("allocated", run.failed.get("allocated", run.last_alive.get("allocated")))
    if allocated is not None:
        text += f", {format_gib(allocated, 2)} allocated"
    return text + (f"; {run.message}" if run.message else "")


def external_line(record: ExternalRecord) -> str:
    """A measured program in a line: outcome, time, memory, energy."""
    memory = record.memory
    parts = [
        record.outcome.result + (f" ({record.outcome.message})" if record.outcome.message else ""),
        format_seconds(record.samples[0].total),
    ]
    for name, value in (("host", memory.rss), ("card, process", memory.process), ("card, all", memory.device)):
        if value is not None:
            parts.append(f"{name} {format_gib(value, 2)}")
    if record.power is not None and record.power.joules is not None:
        parts.append(f"{record.power.joules:.0f} J")
    return f"{record.runtime.name}: " + ", ".join(parts)
