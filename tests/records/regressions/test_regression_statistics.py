"""Formulas against other implementations and against what they must be by their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fitcheck.records.regressions.noise import Squares, default
from fitcheck.records.regressions.statistics import (
    Scale,
    false_discovery,
    median_variance,
    rank_test,
    repeats_needed,
    shift,
)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 9, 20, 51])
def test_the_variance_of_a_median_is_that_of_simulated_medians(count: int) -> None:
    medians = np.median(np.random.default_rng(1).standard_normal((60_000, count)), axis=1)
    assert median_variance(count) == pytest.approx(medians.var(), rel=0.06)


def test_false_discovery_is_scipys() -> None:
    values = [0.04, 0.001, 0.2, 0.013, 0.9, 0.01]
    assert false_discovery(values) == pytest.approx(list(stats.false_discovery_control(values)))
    assert false_discovery([]) == []


def test_the_rank_test_speaks_where_samples_allow() -> None:
    assert rank_test([1, 2, 3], [4, 5, 6]) is None  # 1 in 20 at best
    assert rank_test([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(1 / 252)


def test_a_known_scale_is_drawn_towards_its_prior() -> None:
    pooled = Scale(0.08, 100).pooled(squares=40 * 0.02**2, df=40, weight=4)
    assert 0.02 < pooled.sd < 0.04
    assert pooled.df == 44
    assert Scale(0.08, 0).pooled(0.0, 0, 4) == Scale(0.08, 0)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator, inside, rounds = np.random.default_rng(4), 0, 600
    for _ in range(rounds):
        before, after = (generator.normal(mean, 0.02, 5).tolist() for mean in (0, 0.05))
        found = shift(before, after, (0.02, 0.02), 200.0)
        inside += found.low <= 0.05 <= found.high
    assert inside / rounds == pytest.approx(0.98, abs=0.015)


def test_the_same_runs_give_the_same_interval() -> None:
    assert shift([0.0, 0.1], [0.2], (0.1, 0.1), 8.0) == shift([0.0, 0.1], [0.2], (0.1, 0.1), 8.0)


def test_repeats_needed_grow_with_the_square_of_the_noise() -> None:
    few, many = repeats_needed(0.02, 0.05), repeats_needed(0.08, 0.05)
    assert few is not None
    assert many is not None
    assert many / few == pytest.approx(16, rel=0.35)
    assert repeats_needed(5.0, 0.01) is None
    assert repeats_needed(0.0001, 0.05) == 1


def test_more_passes_a_run_help_against_their_noise_but_not_against_the_machines() -> None:
    squares = Squares()
    generator = np.random.default_rng(2)
    for _ in range(20):  # passes of a run agree, runs do not
        squares.add([tuple(np.exp(level + generator.normal(0, 0.001, 3))) for level in generator.normal(0, 0.05, 5)])
    spread = default("s").below(squares)
    assert spread.of([1]) == pytest.approx(spread.of([100]), rel=0.05)
    assert spread.run.sd == pytest.approx(0.05, rel=0.2)
    noisy = Squares()
    for _ in range(20):  # passes scatter, runs do not otherwise
        noisy.add([tuple(np.exp(generator.normal(0, 0.05, 3))) for _ in range(5)])
    spread = default("s").below(noisy)
    assert spread.of([1]) > 1.3 * spread.of([9])
    assert math.isclose(spread.value.sd, 0.05, rel_tol=0.15)
