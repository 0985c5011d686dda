"""Intel graphics on Linux, from the files of the i915 and xe drivers. They tell little about memory."""

from __future__ import annotations

from pathlib import Path

from fitcheck.hardware.detect import pci
from fitcheck.hardware.detect.readings import FoundGpu, Readings, VendorReport

_VENDOR = "Intel"
# Intel's integrated graphics have always been this device of the root complex; a card has a bus of its own
_INTEGRATED_SLOT = "0000:00:02.0"


def find(sysfs: Path = pci.SYSFS, lists: tuple[Path, ...] = pci.PCI_NAMES) -> VendorReport:
    """Every Intel GPU with a driver."""
    return VendorReport(tuple(_card(card, lists) for card in pci.cards(_VENDOR, sysfs)))


def _card(card: Path, lists: tuple[Path, ...]) -> FoundGpu:
    device, readings = card / "device", Readings()
    name = readings.take(
        "name", "pci.ids", lambda: pci.listed_name(pci.VENDOR_IDS[_VENDOR], pci.read_text(device / "device"), lists)
    )
    integrated = readings.take("shared", "sysfs bus address", lambda: device.resolve().name == _INTEGRATED_SLOT)
    total = free = None
    if not integrated:
        # only Intel's own build of i915 has these; the drivers in the kernel keep the sizes to themselves
        total = readings.take("memory_total", "sysfs lmem_total_bytes", lambda: pci.read_int(card / "lmem_total_bytes"))
        free = readings.take("memory_free", "sysfs lmem_avail_bytes", lambda: pci.read_int(card / "lmem_avail_bytes"))
    link = {} if integrated else readings.take("link", "sysfs current_link_speed", lambda: pci.link(card)) or {}
    return FoundGpu(
        vendor=_VENDOR,
        name=None if name is None else f"Intel {name}",
        memory_total=total,
        memory_free=free,
        pcie_generation=link.get("pcie_generation"),
        pcie_generation_max=link.get("pcie_generation_max"),
        pcie_width=link.get("pcie_width"),
        pcie_width_max=link.get("pcie_width_max"),
        display=readings.take("display", "sysfs connector status", lambda: pci.display_connected(card)),
        shared=integrated,
        readings=readings,
    )
