"""Graphics devices as Linux lists them under /sys/class/drm, for the vendors without a library of their own.

Every file may be missing, unreadable or odd; every read is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

SYSFS = Path("/sys")
PCI_NAMES = (Path("/usr/share/hwdata/pci.ids"), Path("/usr/share/misc/pci.ids"), Path("/usr/share/pci.ids"))
VENDOR_IDS = {"NVIDIA": "0x10de", "AMD": "0x1002", "Intel": "0x8086"}

_MOST_BYTES = 4096
_MOST_NAME_LINES = 100_000
_CARD = re.compile(r"card\d+")
# PCI Express: transfers a second on one lane -> generation
_GENERATIONS = {
    "2.5": 1,
    "5": 2,
    "5.0": 2,
    "8": 3,
    "8.0": 3,
    "16": 4,
    "16.0": 4,
    "32": 5,
    "32.0": 5,
    "64": 6,
    "64.0": 6,
}
_BRACKETS = re.compile(r"\[([^\]]+)\]\s*$")


def read_text(path: Path) -> str:
    """The first 4 KiB of a small file, stripped. Raises OSError."""
    with path.open("rb") as file:
        return file.read(_MOST_BYTES).decode("utf-8", "replace").strip()


def read_int(path: Path) -> int:
    """A decimal number. Raises OSError or ValueError."""
    return int(read_text(path))


def cards(vendor: str, sysfs: Path = SYSFS) -> list[Path]:
    """The /sys/class/drm/cardN folders of a vendor's devices, in order of N."""
    root = sysfs / "class" / "drm"
    try:
        found = [path for path in root.iterdir() if _CARD.fullmatch(path.name)]
    except OSError:
        return []
    ordered = sorted(found, key=lambda path: int(path.name.removeprefix("card")))
    return [path for path in ordered if _vendor(path) == VENDOR_IDS[vendor]]


def _vendor(card: Path) -> str | None:
    try:
        return read_text(card / "device" / "vendor").lower()
    except OSError:
        return None


def has_display_device(vendor: str, sysfs: Path = SYSFS) -> bool:
    """Whether a display controller (class 0x03) of the vendor is on the bus, with or without a driver."""
    try:
        devices = list((sysfs / "bus" / "pci" / "devices").iterdir())
    except OSError:
        return False
    for device in devices:
        try:
            if read_text(device / "vendor").lower() != VENDOR_IDS[vendor]:
                continue
            if read_text(device / "class").lower().startswith("0x03"):
                return True
        except OSError:
            continue
    return False


def display_connected(card: Path) -> bool | None:
    """Whether a screen hangs on one of the card's connectors; None where it lists none."""
    states = []
    for connector in card.parent.glob(f"{card.name}-*"):
        try:
            states.append(read_text(connector / "status"))
        except OSError:
            continue
    return any(state == "connected" for state in states) if states else None


def link(card: Path) -> dict[str, int]:
    """PCIe generation and width, current and greatest, of the slowest hop between the card and the processor.

    A card may sit behind a bridge of its own, whose link to the card says nothing about the slot.
    """
    values: dict[str, list[int]] = {}
    for hop in _hops(card / "device"):
        for name, file in (
            ("pcie_generation", "current_link_speed"),
            ("pcie_generation_max", "max_link_speed"),
            ("pcie_width", "current_link_width"),
            ("pcie_width_max", "max_link_width"),
        ):
            try:
                text = read_text(hop / file)
                value = _GENERATIONS.get(text.split()[0], 0) if "speed" in file else int(text)
            except (OSError, ValueError, IndexError):
                continue
            if value:
                values.setdefault(name, []).append(value)
    return {name: min(found) for name, found in values.items()}


def _hops(device: Path) -> Iterator[Path]:
    try:
        hop = device.resolve()
    except OSError:
        return
    while (hop / "vendor").is_file() and (hop / "class").is_file():
        yield hop
        hop = hop.parent


def listed_name(vendor_id: str, device_id: str, lists: tuple[Path, ...] = PCI_NAMES) -> str | None:
    """The product in the system's own list of PCI names: "Arc A770" for 8086:56a0; None without list or entry."""
    for path in lists:
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                name = _search(lines, vendor_id.removeprefix("0x"), device_id.removeprefix("0x"))
        except OSError:
            continue
        if name is not None:
            bracketed = _BRACKETS.search(name)
            return bracketed.group(1) if bracketed else name
    return None


def _search(lines: Iterator[str], vendor: str, device: str) -> str | None:
    inside = False
    for count, line in enumerate(lines):
        if count > _MOST_NAME_LINES:
            return None
        if line.startswith(vendor + " "):
            inside = True
        elif inside and line.startswith(f"\t{device} "):
            return line[len(device) + 1 :].strip()[:200]
        elif inside and line[:1] not in ("\t", "#", "\n"):
            return None
    return None
