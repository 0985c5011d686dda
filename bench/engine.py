"""The engine: loads a cell's weights and runs its workload, once per call, in the process that is measured."""

from __future__ import annotations

from bench.cell import Cell
from bench.reports import LoadReport, Observer, PassReport

__all__ = ["Cell", "LoadReport", "Observer", "PassReport"]
