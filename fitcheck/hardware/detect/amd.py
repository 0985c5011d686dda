"""AMD cards on Linux: the amdgpu driver's files, and the library amdsmi for what they lack, where it is installed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from fitcheck.hardware.detect import pci
from fitcheck.hardware.detect.readings import FoundGpu, Readings, VendorReport

_VENDOR = "AMD"
_MARKETING_NAMES = Path("/usr/share/libdrm/amdgpu.ids")
_MOST_LINES = 10_000
# the firmware's usual share for an integrated GPU; what the database says of a known card goes before this
_SMALL_CARVE_OUT = 1 << 30


def find(
    sysfs: Path = pci.SYSFS,
    names: Path = _MARKETING_NAMES,
    lists: tuple[Path, ...] = pci.PCI_NAMES,
    smi: Any = None,
) -> VendorReport:
    """Every card that amdgpu drives. ``smi`` stands in for the library amdsmi."""
    cards = pci.cards(_VENDOR, sysfs)
    if not cards:
        if pci.has_display_device(_VENDOR, sysfs):
            return VendorReport(notes=("An AMD card is in this machine but the amdgpu driver does not run it.",))
        return VendorReport()
    system = Readings()
    driver = system.take(
        "driver", "/sys/module/amdgpu/version", lambda: pci.read_text(sysfs / "module" / "amdgpu" / "version")
    )
    market = _Market(smi)
    return VendorReport(
        tuple(_card(card, names, lists, market, index) for index, card in enumerate(cards)), driver, readings=system
    )


def _card(card: Path, names: Path, lists: tuple[Path, ...], market: _Market, index: int) -> FoundGpu:
    device, readings = card / "device", Readings()

    def ask(name: str, file: str) -> int | None:
        return readings.take(name, f"sysfs {file}", lambda: pci.read_int(device / file))

    for source, read in (
        ("sysfs product_name", lambda: pci.read_text(device / "product_name") or None),
        ("libdrm amdgpu.ids", lambda: _marketing_name(device, names)),
        ("amdsmi market_name", lambda: market.name(index)),
        ("pci.ids", lambda: pci.listed_name(pci.VENDOR_IDS[_VENDOR], pci.read_text(device / "device"), lists)),
    ):
        if readings.take("name", source, read):
            break
    total, used = ask("memory_total", "mem_info_vram_total"), ask("memory_used", "mem_info_vram_used")
    host_total, host_used = ask("host_total", "mem_info_gtt_total"), ask("host_used", "mem_info_gtt_used")
    link = readings.take("link", "sysfs current_link_speed, current_link_width", lambda: pci.link(card)) or {}
    return FoundGpu(
        vendor=_VENDOR,
        name=readings.value("name"),
        memory_total=total,
        memory_free=_less(total, used),
        host_total=host_total,
        host_free=_less(host_total, host_used),
        pcie_generation=link.get("pcie_generation"),
        pcie_generation_max=link.get("pcie_generation_max"),
        pcie_width=link.get("pcie_width"),
        pcie_width_max=link.get("pcie_width_max"),
        display=readings.take("display", "sysfs connector status", lambda: pci.display_connected(card)),
        power_limit=readings.take("power_limit", "sysfs hwmon power1_cap", lambda: _power_cap(device)),
        shared=None if total is None else total <= _SMALL_CARVE_OUT,
        readings=readings,
    )


def _less(total: int | None, used: int | None) -> int | None:
    return None if total is None or used is None else max(0, total - used)


def _marketing_name(device: Path, names: Path) -> str | None:
    """libdrm's table by device and revision: "744C,\\tC8,\\tAMD Radeon RX 7900 XTX"."""
    wanted = [pci.read_text(device / part).removeprefix("0x").upper() for part in ("device", "revision")]
    with names.open(encoding="utf-8", errors="replace") as lines:
        for _, line in zip(range(_MOST_LINES), lines, strict=False):
            fields = [field.strip() for field in line.split(",", 2)]
            if (
                len(fields) == 3
                and [field.upper().zfill(len(w)) for field, w in zip(fields, wanted, strict=False)] == wanted
            ):
                return fields[2][:200]
    return None


def _power_cap(device: Path) -> float | None:
    """W; the file is in microwatts."""
    for file in sorted(device.glob("hwmon/hwmon*/power1_cap")):
        return pci.read_int(file) / 1e6
    return None


class _Market:
    """Names by amdsmi, which is imported only when no file tells the name."""

    def __init__(self, smi: Any) -> None:
        self._smi = smi

    def name(self, index: int) -> str | None:
        smi = self._smi or importlib.import_module("amdsmi")
        smi.amdsmi_init()
        try:
            handles = smi.amdsmi_get_processor_handles()
            return str(smi.amdsmi_get_gpu_asic_info(handles[index])["market_name"]) or None
        finally:
            smi.amdsmi_shut_down()
