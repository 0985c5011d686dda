"""A link record for people."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

from fitcheck.records.schema import LinkRecord
from fitcheck.units import GB, GIB, MIB

Direction = Literal["host-to-device", "device-to-host", "device-to-device"]


def print_link(record: LinkRecord, console: Console) -> None:
    """Tables of copies, pinning, matrix products and dequantization; what was not measured has no table."""
    if record.copies:
        rates = {(rate.bytes, rate.direction, rate.pinned): rate.bytes_per_second / GB for rate in record.copies}
        ways: list[tuple[Direction, bool]] = [
            ("host-to-device", True), ("host-to-device", False), ("device-to-host", True), ("device-to-host", False),
        ]  # fmt: skip
        rows = [
            [
                f"{size // MIB} MiB",
                *("" if (rate := rates.get((size, *way))) is None else f"{rate:.1f}" for way in ways),
            ]
            for size in sorted({rate.bytes for rate in record.copies})
        ]
        heads = [f"{direction}, {'pinned' if pinned else 'pageable'}" for direction, pinned in ways]
        _table(console, "copies, GB/s", ["block", *heads], rows)
    if record.pinning:
        rows = [
            [
                f"{rate.bytes / MIB:.0f} MiB",
                f"{rate.seconds * GIB / rate.bytes:.2f}",
                "" if rate.taken is None else f"{rate.taken / MIB:.0f} MiB",
            ]
            for rate in record.pinning
        ]
        _table(console, "pinning", ["asked for", "seconds per GiB", "taken"], rows)
    if record.matmul:
        rows = [[f"{rate.m} × {rate.k} × {rate.n}", rate.dtype, f"{rate.flops / 1e12:.1f}"] for rate in record.matmul]
        _table(console, "matrix products", ["m × k × n", "type", "TFLOP/s"], rows)
    if record.dequantization:
        rows = [
            [rate.type, f"{rate.bytes / MIB:.1f} MiB", f"{rate.bytes_per_second / GB:.1f}",
             f"{1e3 * rate.bytes / rate.bytes_per_second:.2f}",
             "" if rate.temporary_bytes is None else f"{rate.temporary_bytes / MIB:.0f} MiB"]
            for rate in record.dequantization
        ]  # fmt: skip
        _table(console, "dequantization", ["type", "matrix", "GB/s read", "ms", "temporaries"], rows)
    if record.memory_bytes_per_second:
        console.print(f"device memory: {record.memory_bytes_per_second / GB:.0f} GB/s, read and written")
    if record.context_bytes is not None:
        console.print(f"context: {record.context_bytes / GIB:.2f} GiB after the first matrix product")
    if record.pcie_generation and record.pcie_width:
        console.print(f"link under load: PCIe {record.pcie_generation}.0 ×{record.pcie_width}")


def _table(console: Console, title: str, heads: list[str], rows: list[list[str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head == heads[0] else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
