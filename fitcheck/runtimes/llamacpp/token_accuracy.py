"""Predicted against published tokens per second of llama.cpp, each row's card left out of the fit.

``scripts/fit_tokens.py`` keeps, for every row, the rate and the half-width that come from all other cards' rows; what
is shown here is therefore never tested on itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from fitcheck.runtimes.base import Figure
from fitcheck.runtimes.llamacpp.token_rates import data
from fitcheck.runtimes.llamacpp.token_rows import bench_rows
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class TokenAccuracyRow:
    """One published rate in tokens/s beside the prediction. ``fitted``: the row's card entered what is predicted (False
    throughout: cards are left out); ``used``: the row enters the constants that users get."""

    row: int
    source: str
    card: str
    backend: str
    model: str
    test: str
    regime: str
    predicted: Interval[float]
    measured: float
    fitted: bool = False
    used: bool = True

    @property
    def error(self) -> float:
        """(predicted - measured) / measured, of the interval's best value."""
        return self.predicted.best / self.measured - 1

    @property
    def inside(self) -> bool:
        """Whether the measured rate lies in the predicted interval."""
        return self.predicted.low <= self.measured <= self.predicted.high


@dataclass(frozen=True, slots=True)
class TokenAccuracySummary:
    """Median absolute error, share inside and median high/low of a regime."""

    regime: str
    count: int
    cards: int
    error: float
    inside: float
    width: float


def token_accuracy() -> tuple[list[TokenAccuracyRow], list[str]]:
    """All rows that the model can be asked about, and a sentence for each that it cannot."""
    rows, skipped = bench_rows()
    kept = data()["left_out"]
    found = []
    for row in rows:
        if str(row.index) not in kept:
            continue
        best, low, high = kept[str(row.index)]
        predicted = Interval(low, best, high)
        found.append(
            TokenAccuracyRow(row.index, row.source, row.card, row.backend, row.model, row.test, row.regime, predicted,
                             row.measured)
        )  # fmt: skip
    return found, list(skipped)


def token_figures() -> list[Figure]:
    """The rows by regime, as the table of all published figures shows them."""
    rows = sorted(token_accuracy()[0], key=lambda row: row.regime)
    return [
        Figure(
            source=row.source,
            name=f"{row.model} on {row.card}",
            quantity=f"tokens/s, {row.regime}, card left out",
            unit="tokens/s",
            predicted=row.predicted.best,
            published=row.measured,
            low=row.predicted.low,
            high=row.predicted.high,
            fitted=row.fitted,
        )
        for row in rows
    ]


def summarize_tokens(rows: Iterable[TokenAccuracyRow]) -> list[TokenAccuracySummary]:
    """One line a regime."""
    groups: defaultdict[str, list[TokenAccuracyRow]] = defaultdict(list)
    for row in rows:
        groups[row.regime].append(row)
    return [
        TokenAccuracySummary(
            regime, len(mine), len({row.card for row in mine}), median(abs(row.error) for row in mine),
            sum(row.inside for row in mine) / len(mine), median(row.predicted.high / row.predicted.low for row in mine),
        )
        for regime, mine in sorted(groups.items())
    ]  # fmt: skip
