from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.memory.allocator import FEATURES, Shape, context, required, reserved, slack
from fitcheck.memory.constants import load
from fitcheck.memory.placement import upstream
from fitcheck.memory.weights import device_block
from fitcheck.units import GIB, Interval

MIB = 1 << 20
LOW, BALANCED, RING = upstream("low"), upstream("balanced"), upstream("balanced", policy="ring")
SHAPE = Shape(dynamic=2 * GIB, unit=385_892_864, scores=100 * MIB)


@pytest.mark.parametrize(
    ("size", "block"),
    [
        (1, 512),
        (9 * MIB + 1, 9 * MIB + 512),
        (96 * MIB, 96 * MIB),
        (28_311_552, 28 * MIB),  # 27 MiB: the 1 MiB left of a 28 MiB segment is not split off
        (13_762_560, 14 * MIB),
        (int(12.5 * MIB), int(12.5 * MIB)),  # 1.5 MiB left: split off
    ],
)
def test_blocks_as_the_caching_allocator_cuts_them(size: int, block: int) -> None:
    assert device_block(size) == block


@given(st.integers(1, 1 << 32))
def test_a_block_is_never_smaller_than_its_tensor_nor_wastes_more_than_a_mebibyte(size: int) -> None:
    assert 0 <= device_block(size) - size <= MIB + 512


def test_units_that_return_late_only_cost_the_caching_policy() -> None:
    assert slack(BALANCED, SHAPE) > slack(LOW, Shape(2 * GIB, 0, 100 * MIB)) > slack(RING, SHAPE)
    assert slack(RING, SHAPE) < 0.5 * GIB


@given(st.integers(1, 80), st.integers(0, 8), st.integers(0, 400), st.sampled_from([LOW, BALANCED, RING]))
def test_reserved_is_an_ordered_interval_above_allocated(gib: int, dynamic: int, unit: int, placement: object) -> None:
    allocated = Interval.exactly(gib * GIB)
    shape = Shape(dynamic * GIB, unit * MIB, 0)
    found = reserved(allocated, placement, shape, shape)  # type: ignore[arg-type]
    assert allocated.best <= found.low <= found.best <= found.high
    least = required(allocated, found)
    assert allocated.best <= least.best <= found.high + MIB


def test_the_context_of_an_unknown_card_is_wider_than_that_of_a_measured_one() -> None:
    hopper, other = context((9, 0), LOW), context((8, 9), LOW)
    assert other.low < hopper.low
    assert other.high - other.low > hopper.high - hopper.low
    assert context((9, 0), BALANCED).best > hopper.best


def test_fitted_coefficients_name_their_rows_and_residuals() -> None:
    data = load("allocator")
    assert set(data["coefficients"]) == set(FEATURES)
    rows = data["rows"]
    assert len(rows) >= 44
    assert all({"row", "slack_gib", "fitted_gib", "error_of_reserved"} <= set(row) for row in rows)
    errors = sorted(abs(row["error_of_reserved"]) for row in rows)
    assert errors[len(errors) // 2] < 0.02
    text = Path(__file__).parents[2].joinpath("fitcheck/memory/data/allocator.json").read_text("utf-8")
    assert json.loads(text) == data
