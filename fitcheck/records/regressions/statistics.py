"""The statistics of few and expensive runs, on logarithms: a difference is a ratio.

Scales with their degrees of freedom are drawn towards a prior's as logarithms of variances, as in Cui et al.,
Biostatistics 2005. Discoveries over many series after Benjamini and Hochberg 1995. numpy and scipy are of the extra
``results``, so they are imported where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import MissingExtraError, extra

SEED = 20_150_915
_DRAWS = 4000
# beyond so many runs a side, the median of normal values is close enough to its limit
_MOST_DRAWN = 64
_LEAST_POOL = 20
RANK_LEVEL = 0.05
POWER = 0.8
MOST_REPEATS = 1000
# no clock and no machine is steadier than this, and a scale of nothing would call everything a change
LEAST_SD = 1e-4


def require() -> None:
    """Raises InputError, with how to get them, when the libraries are not installed."""
    try:
        import ruptures  # noqa: F401
        import scipy.stats  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"regression tracking needs scipy and ruptures; {extra('results')}.") from error


def median_variance(count: int) -> float:
    """Variance of the median of ``count`` unit normals: pi / (2n + pi - 2) for odd n; for even n the two middle values
    are averaged, which is worth 1.4 more. Within 5 % of the exact values from n = 1 on, pi / 2n in the limit."""
    return math.pi / (2 * count + math.pi - 2 + (1.4 if count % 2 == 0 else 0.0))


@dataclass(frozen=True, slots=True)
class Scale:
    """Standard deviation of a logarithm, and the degrees of freedom that it rests on."""

    sd: float
    df: float

    def pooled(self, squares: float, df: float, weight: float) -> Scale:
        """This one as a prior that counts at most ``weight`` degrees of freedom, and a sum of squares with ``df``.

        Logarithms of variances are averaged, so that a prior many times off does not drown what was measured; that of a
        mean square is 1/df + 1/3df² too low on average (from the series of the digamma function), which is made good.
        """
        own = min(self.df, weight)
        if df == 0:
            return Scale(self.sd, own)
        least = min(self.sd or LEAST_SD, LEAST_SD)
        measured = math.log(max(squares / df, least**2)) + 1 / df + 1 / (3 * df**2)
        prior = math.log(max(self.sd, least) ** 2)
        return Scale(math.exp((own * prior + df * measured) / (own + df) / 2), own + df)


@dataclass(frozen=True, slots=True)
class Shift:
    """Difference of two medians of logarithms: ``low`` to ``high`` is the bootstrap interval whose ends are each the
    one-sided test at the asked level; ``p`` is one-sided, that there is no difference in the direction of ``value``."""

    value: float
    low: float
    high: float
    p: float
    rank: float | None


def shift(
    before: Sequence[float],
    after: Sequence[float],
    sds: tuple[float, float],
    df: float,
    pool: tuple[float, ...] = (),
    level: float = 0.01,
) -> Shift:
    """How far ``after`` lies from ``before``: logarithms, one of each run.

    ``sds`` are the standard deviations of a run on either side, learnt with ``df`` degrees of freedom. ``pool`` holds
    residuals of runs in units of their standard deviation, which the bootstrap draws from (normal draws if too few).
    """
    import numpy as np
    from scipy import stats

    value = float(np.median(after) - np.median(before))
    first, second = _medians(len(before), pool, 0), _medians(len(after), pool, 1)
    error = math.hypot(sds[0] * float(first.std()), sds[1] * float(second.std()))
    draws = (sds[1] * second - sds[0] * first) * _scales(round(df, 1))
    low, high = np.quantile(draws, (level, 1 - level))
    p = float(stats.t.sf(abs(value) / error, df))
    return Shift(value, value - float(high), value - float(low), p, rank_test(before, after))


@lru_cache(maxsize=1024)
def _medians(count: int, pool: tuple[float, ...], side: int) -> Any:
    """Medians of ``count`` draws from the residuals, again and again. Shape (draws,), deterministic."""
    import numpy as np

    generator = np.random.default_rng((SEED, count, side))
    if count > _MOST_DRAWN:
        return generator.standard_normal(_DRAWS) * math.sqrt(median_variance(count))
    if len(pool) < _LEAST_POOL:
        return np.median(generator.standard_normal((_DRAWS, count)), axis=1)
    return np.median(generator.choice(np.asarray(pool), (_DRAWS, count)), axis=1)


@lru_cache(maxsize=1024)
def _scales(df: float) -> Any:
    """What a standard deviation known with ``df`` degrees of freedom may be off by. Shape (draws,)."""
    import numpy as np

    return np.sqrt(df / np.random.default_rng((SEED, 2)).chisquare(df, _DRAWS))


def rank_test(before: Sequence[float], after: Sequence[float]) -> float | None:
    """One-sided Mann-Whitney p that ``after`` is not on the side where its median lies; None when so few values can
    never tell at 1 %, however they lie."""
    if 1 / math.comb(len(before) + len(after), len(before)) > 0.01:
        return None
    import numpy as np
    from scipy import stats

    side = "greater" if np.median(after) >= np.median(before) else "less"
    return float(stats.mannwhitneyu(after, before, alternative=side).pvalue)


def false_discovery(values: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg adjusted p values, in the order given."""
    order = sorted(range(len(values)), key=lambda index: values[index], reverse=True)
    adjusted, least = [1.0] * len(values), 1.0
    for place, index in enumerate(order):
        least = min(least, values[index] * len(values) / (len(values) - place))
        adjusted[index] = least
    return adjusted


def repeats_needed(sd: float, effect: float, level: float = 0.01) -> int | None:
    """Runs on each side to find a ratio of 1 + ``effect`` in four of five cases, at the one-sided ``level``; None when
    even 1,000 would not do."""
    from scipy import stats

    wanted = math.log1p(effect) / (stats.norm.isf(level) + stats.norm.isf(1 - POWER)) / sd if sd > 0 else math.inf
    return next((n for n in range(1, MOST_REPEATS + 1) if 2 * median_variance(n) <= wanted**2), None)
