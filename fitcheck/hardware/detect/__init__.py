"""The machine that fitcheck runs on: every vendor's own library or files, each value with its source.

No GPU, no driver, two GPUs and a MIG slice are normal states; ``Machine.notes`` has a sentence for each.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.detect.readings import FoundGpu, VendorReport
from fitcheck.hardware.detect.system_memory import FoundHost
from fitcheck.hardware.machine import Machine

__all__ = ["FoundGpu", "Survey", "VendorReport", "capture", "detect", "survey"]


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found, before it is matched with the card database."""

    vendors: tuple[VendorReport, ...]
    host: FoundHost

    @property
    def gpus(self) -> list[FoundGpu]:
        """Cards with memory of their own first: a model runs on the first unless told otherwise."""
        found = [gpu for report in self.vendors for gpu in report.gpus]
        return sorted(found, key=lambda gpu: gpu.shared is True)


def survey(disk: Path | None = None) -> Survey:
    """Ask every vendor that this system can have. Raises nothing."""
    from fitcheck.hardware.detect import amd, apple, intel, nvidia, system_memory

    system = platform.system()
    vendors = [apple.find()] if system == "Darwin" else [nvidia.find()]
    if system == "Linux":
        vendors += [amd.find(), intel.find()]
    return Survey(tuple(vendors), system_memory.find(disk))


def detect(disk: Path | None = None) -> Machine:
    """This machine. ``disk`` is the folder whose free space counts, default where model files are kept.

    Live values win over the database's; a card that the database does not know is used with what its driver says.
    """
    from fitcheck.hardware.detect.detected_machine import machine_from

    return machine_from(survey(disk), platform.system())


def capture(disk: Path | None = None) -> dict[str, Any]:
    """Every reading with its source, as JSON for a bug report: no name, path, serial number or identifier in it."""
    from fitcheck.hardware.detect.detected_machine import capture_of

    return capture_of(survey(disk), platform.system())
