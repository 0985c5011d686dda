"""Meters: what a pass costs, watched from inside the process (torch) and from outside it (NVML, the operating system).

A meter that a platform does not have is absent (``None`` or a missing key); nothing is ever reported as zero for want
of a reading.
"""

from bench.meters.nvml import NvmlCard, NvmlMemoryProbe, NvmlStateProbe
from bench.meters.process_memory import HostProbe
from bench.meters.sampler import MeterTrace, Sampler

__all__ = ["HostProbe", "MeterTrace", "NvmlCard", "NvmlMemoryProbe", "NvmlStateProbe", "Sampler"]
