"""Layers that stand for others are of their kind, on their device and among such neighbours as theirs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.runtimes.llamacpp.repeats import Repeats, repeats, whole

# (device, kinds of a period, how often it comes, layers before it)
RUNS = st.lists(
    st.tuples(st.integers(0, 2), st.text("abc", min_size=1, max_size=5), st.integers(0, 9), st.text("abd", max_size=3)),
    min_size=1,
    max_size=4,
)


def laid_out(runs: list[tuple[int, str, int, str]]) -> tuple[list[int], list[str]]:
    places, kinds = [], []
    for device, period, count, leading in runs:
        layers = leading + period * count
        places += [device] * len(layers)
        kinds += list(layers)
    return places, kinds


@given(RUNS)
def test_a_stand_in_is_as_the_layer_and_so_are_its_neighbours(runs: list[tuple[int, str, int, str]]) -> None:
    places, kinds = laid_out(runs)
    found, layers = repeats(places, kinds), list(zip(places, kinds, strict=True))
    assert len(found.stand_ins) == len(layers)
    kept = [layers[position] for position in found.kept]
    for position, stand_in in enumerate(found.stand_ins):
        assert kept[stand_in] == layers[position]
    for position, (one, following) in enumerate(pairwise(found.stand_ins)):
        # what comes before and after in the graph is what comes before and after here
        assert kept[one + 1] == layers[position + 1]
        assert kept[following - 1] == layers[position]
    for position, index in zip(found.kept, range(len(kept)), strict=True):
        assert found.stand_ins[position] == index


@given(RUNS)
def test_whatever_stands_for_others_is_compared_with_the_period_before(runs: list[tuple[int, str, int, str]]) -> None:
    found = repeats(*laid_out(runs))
    several = {one for one in found.stand_ins if found.stand_ins.count(one) > 1}
    assert several <= {other for _, other in found.alike}


@pytest.mark.parametrize(("count", "kept"), [(4, 4), (5, 5), (6, 5), (80, 5)])
def test_of_layers_all_alike_five_are_kept(count: int, kept: int) -> None:
    assert len(repeats([0] * count, ["layer"] * count).kept) == kept


def test_every_layer_for_itself() -> None:
    assert whole(3) == Repeats((0, 1, 2), (0, 1, 2), ())
