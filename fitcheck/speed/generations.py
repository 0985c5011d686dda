"""How much slower a card's vendor and generation make it than its published rates say, and how well that is known.

A hierarchy in logarithms: cards of a generation around their generation, generations around their vendor, vendors
around all. What was measured of each stands in ``data/generations.json`` (``scripts/fit_generations.py``). A card that
nobody measured is as uncertain as cards of a generation differ, a generation as the measured ones do, a vendor as
vendors do, each widened by how few of them there are.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, log, sqrt
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.units import Interval

LEFT_OUT = "without "
_NORMAL_95 = 1.645  # standard deviations of a two-sided interval of 90 %


@dataclass(frozen=True, slots=True)
class MeasuredGeneration:
    """The ``cards`` of one generation that were measured: the logarithm of measured over predicted seconds."""

    vendor: str
    architecture: str
    slowness: float
    cards: tuple[str, ...] = ()


def left_out(architecture: str | None) -> str:
    """The name under which a card asks as if nothing of its generation had been measured."""
    return f"{LEFT_OUT}{architecture or ''}"


def is_measured(card: Card) -> bool:
    """Whether any card of its vendor was measured, apart from a generation that is left out."""
    return card.vendor in _measured_vendors(_excluded(card))


def times_later_images(card: Card) -> bool:
    """Whether images after a process's first were timed on cards of this vendor."""
    return card.vendor in load("speed", "generations")["later_images"]["vendors"]


def slowness(card: Card) -> Interval[float]:
    """The factor on seconds that published rates and the reference's shares of them give; 1 on the reference."""
    center, deviation = _expected(card.vendor, card.architecture or "", card.name, _excluded(card))
    wide = _NORMAL_95 * deviation
    return Interval(exp(center - wide), exp(center), exp(center + wide))


def _excluded(card: Card) -> str:
    name = card.architecture or ""
    return name.removeprefix(LEFT_OUT) if name.startswith(LEFT_OUT) else ""


@lru_cache(maxsize=256)
def _measured_vendors(excluded: str) -> frozenset[str]:
    return frozenset(group.vendor for group in _groups(excluded, "measured"))


@lru_cache(maxsize=256)
def _expected(vendor: str, architecture: str, card: str, excluded: str) -> tuple[float, float]:
    """Centre and standard deviation of the logarithm."""
    groups, within = _groups(excluded, "measured"), load("speed", "generations")["within"]["value"]
    own = next((group for group in groups if (group.vendor, group.architecture) == (vendor, architecture)), None)
    if own is not None:
        return own.slowness, _of_generation(own, card, within)
    generation = _between_generations(excluded)
    alike = [group.slowness for group in groups if group.vendor == vendor]
    if alike:
        return _mean(alike), sqrt(within**2 + generation**2 * (1 + 1 / len(alike)))
    vendors = _vendor_means(groups)
    spread = sqrt(within**2 + generation**2 + _between_vendors(excluded) ** 2 * (1 + 1 / len(vendors)))
    return _mean(vendors), spread


def _of_generation(own: MeasuredGeneration, card: str, within: float) -> float:
    """The deviation of a card whose generation was measured: none where published shares are its own, that of machines
    where it was among the cards, and else that of cards too, with how well so few cards tell their generation."""
    if card == load("speed", "generations")["reference"]["card"]:
        return 0.0
    return within if card in own.cards else within * sqrt(1 + 1 / len(own.cards))


def _mean(values: list[float]) -> float:
    from statistics import mean  # which takes longer to import than a check has

    return mean(values)


def _groups(excluded: str, kind: str) -> list[MeasuredGeneration]:
    rows: list[dict[str, Any]] = load("speed", "generations")[kind]
    return [
        MeasuredGeneration(row["vendor"], row["architecture"], log(row["slowness"]), tuple(row["cards"]))
        for row in rows
        if row["architecture"] != excluded
    ]


def _by_vendor(groups: list[MeasuredGeneration]) -> list[list[float]]:
    found: dict[str, list[float]] = {}
    for group in groups:
        found.setdefault(group.vendor, []).append(group.slowness)
    return list(found.values())


def _vendor_means(groups: list[MeasuredGeneration]) -> list[float]:
    return [_mean(part) for part in _by_vendor(groups)]


def _between_generations(excluded: str) -> float:
    """Pooled over the vendors of both kinds of rows; the kinds are never compared with each other."""
    parts = [part for kind in ("measured", "prompts") for part in _by_vendor(_groups(excluded, kind))]
    return _pooled(parts)


def _between_vendors(excluded: str) -> float:
    return _pooled([_vendor_means(_groups(excluded, kind)) for kind in ("measured", "prompts")])


def _pooled(parts: list[list[float]]) -> float:
    """Standard deviation around each part's own mean."""
    squares = sum((value - _mean(part)) ** 2 for part in parts for value in part)
    return sqrt(squares / max(1, sum(len(part) - 1 for part in parts)))
