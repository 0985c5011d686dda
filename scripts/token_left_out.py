"""Residuals of published rates that the constants were not fitted on, and what a row is: its traits, pool, generation,
maker, and whether it says how wide intervals have to be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fitcheck.runtimes.llamacpp import token_predict, token_rates
from fitcheck.runtimes.llamacpp.seconds import below, unknown_factors
from fitcheck.runtimes.llamacpp.token_passes import least_token_seconds
from fitcheck.runtimes.llamacpp.token_rows import BenchRow
from fitcheck.runtimes.llamacpp.token_spread import half_width, pool_name, traits_of
from fitcheck.units import Interval

OWN_CARD, OWN_HOST = "H100 SXM", "CPU: Intel Xeon with AMX"
# 14 threads pinned to six cores, which run 12: neither decoding nor copies are what such a processor does otherwise
OVERSUBSCRIBED = "carteakey/lllms post"
DESCRIBED = 0.1  # half-width in log(rate) of what hosts make of a row up to which it says something about the rest

Table = dict[str, Any]


@dataclass
class LeftOut:
    """Residuals of rows that the constants were not fitted on, by what else was left out. ``hosts`` has for each row
    how much slower and faster, in log(rate), hosts make it of what nobody said about its own."""

    rows: list[BenchRow]
    hosts: np.ndarray
    card: np.ndarray
    generation: np.ndarray
    vendor: np.ndarray
    model: np.ndarray

    def without(self, at: Sequence[int]) -> LeftOut:
        """The same without the rows ``at``."""
        gone = set(at)
        kept = [row for i, row in enumerate(self.rows) if i not in gone]
        arrays = (self.hosts, self.card, self.generation, self.vendor, self.model)
        return LeftOut(kept, *(np.delete(values, at, axis=0) for values in arrays))

    def without_card(self, card: str) -> LeftOut:
        """The same without a card's rows and those of its host alone."""
        return self.without([i for i, row in enumerate(self.rows) if machine_of(row) == card])

    def scaled(self, traits: dict[str, dict[str, float]]) -> LeftOut:
        """Sizes of residuals in units of what rows of their traits are off more than plain ones, without what a host
        that nobody described accounts for: intervals get that part besides."""
        scale = np.array([trait_scale(row, traits) for row in self.rows])
        arrays = (self.card, self.generation, self.vendor, self.model)
        return LeftOut(self.rows, self.hosts, *(self.unexplained(values) / scale for values in arrays))

    def unexplained(self, errors: np.ndarray) -> np.ndarray:
        """Sizes of residuals without what a slow or fast host, where nobody said which, accounts for."""
        known = np.where(errors > 0, self.hosts[:, 1], self.hosts[:, 0])
        return np.asarray(np.sqrt(np.maximum(errors**2 - known**2, 0.0)))

    def halves(self, at: int, table: Table) -> tuple[float, float]:
        """How far below and above the best rate the interval of log(rate) of a row reaches."""
        row = self.rows[at]
        half = half_width(single(row), [gpu.card for gpu in row.gpus], row.backend, table, traits_by_row(row))
        return math.hypot(half, self.hosts[at, 0]), math.hypot(half, self.hosts[at, 1])


def telling(row: BenchRow, host: np.ndarray) -> bool:
    """Whether the row sets widths: what nobody said, of its host or how its cards overlapped, hides how far off the
    rest is, and prompts with a host before April 2024 ran on code that is gone."""
    gone = row.placement != "card" and row.prompt and not row.result.options.build.has("host_tiles")
    return bool(max(host) <= DESCRIBED) and not gone and not row.source.startswith(OVERSUBSCRIBED)


def undescribed_hosts(rows: Sequence[BenchRow], constants: dict[str, float]) -> np.ndarray:
    """How much slower and faster, in log(rate), rows get by what nobody said, of hosts and of overlap: (rows, 2)."""
    found = [unknown_factors(token_predict.run_of(row), constants, prompt=row.prompt) for row in rows]
    return np.asarray(np.abs(np.log(np.array(found))))


_traits: dict[int, tuple[str, ...]] = {}


def traits_by_row(row: BenchRow) -> tuple[str, ...]:
    """The row's traits, as a run of it has."""
    known = _traits.get(row.index)
    if known is None:
        known = _traits[row.index] = traits_of(token_predict.run_of(row), prompt=row.prompt)
    return known


def trait_scale(row: BenchRow, traits: dict[str, dict[str, float]]) -> float:
    """How much further off than plain rows those with the row's traits are."""
    known = traits.get(phase_of(row), {})
    return max((known.get(name, 1.0) for name in traits_by_row(row)), default=1.0)


def machine_of(row: BenchRow) -> str:
    """What is left out together: a card's rows; our Xeon alone is the host of our H100, so both are one."""
    return OWN_CARD if row.card == OWN_HOST else row.card


def phase_of(row: BenchRow) -> str:
    return "prompt" if row.prompt else "generation"


def model_of(row: BenchRow) -> str:
    return row.model.split()[0]


def pool_of(row: BenchRow) -> str:
    return pool_name(row.gpus[0].card, row.backend) if row.gpus else "CPU"


def generation_key(row: BenchRow) -> str:
    return token_rates.generation_of(row.gpus[0].card) if row.gpus else row.card


def vendor_of(row: BenchRow) -> str:
    return row.gpus[0].card.vendor if row.gpus else row.card


def single(row: BenchRow) -> str:
    return row.regime.replace("several cards, ", "")


def fastest(row: BenchRow, best: float, high: float) -> float:
    """The high end as an answer has it: no token is faster than the cards' memories."""
    least = 0.0 if row.prompt else least_token_seconds(token_predict.run_of(row))
    return below(Interval(best, best, high), least).high


def left_out_rates(outs: dict[str, LeftOut], alone: dict[str, Table]) -> dict[str, list[float]]:
    """By row: [best, low, high] of the rate with the row's card left out of constants and widths."""
    found = {}
    for out in outs.values():
        for i, row in enumerate(out.rows):
            best = row.measured * math.exp(-float(out.card[i]))
            low, high = out.halves(i, alone[machine_of(row)])
            ends = (best, best * math.exp(-low), fastest(row, best, best * math.exp(high)))
            found[str(row.index)] = [float(f"{rate:.5g}") for rate in ends]
    return found
