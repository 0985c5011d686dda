from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.memory.allocator import FEATURES, Shape, context, layers_ahead, required, reserved, slack
from fitcheck.memory.constants import load
from fitcheck.memory.estimate import cache_shape
from fitcheck.memory.placement import upstream
from fitcheck.memory.sensenova import Device, phases
from fitcheck.memory.weights import device_block, weights_of
from fitcheck.models import catalog
from fitcheck.models.model import Tier
from fitcheck.models.sensenova import SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.units import GIB, Interval

MIB = 1 << 20
LOW, BALANCED, RING = upstream("low"), upstream("balanced"), upstream("balanced", policy="ring")
MODEL = catalog.get("sensenova-u1-8b-mot")
ARCH = MODEL.architecture
assert isinstance(ARCH, SenseNovaArchitecture)
TIERS = ("Q4_K_S", "Q6_K", "Q8_0", "BF16")
SHAPE = Shape(dynamic=2 * GIB, late=8 * 385_892_864, scores=100 * MIB)


def tier(name: str) -> Tier:
    found = MODEL.tier(name)
    assert found is not None
    return found


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


def test_the_host_runs_a_launch_queue_ahead() -> None:
    """1,024 launches over 131 kernels a layer; dequantization's kernels fill the queue with fewer layers."""
    assert layers_ahead(0) == pytest.approx(7.8, abs=0.05)
    assert layers_ahead(93) == pytest.approx(1024 / 224)

    def late(name: str, mode: str, kept: int = 0) -> int:
        placement, workload, weights = upstream(mode), Workload(Task.T2I), weights_of(tier(name).tensors)
        laid_out = phases(ARCH, weights, workload, placement, Device((9, 0)))
        return cache_shape(ARCH, weights, workload, placement, laid_out, warm=False, kept=kept).late

    unit = {name: max(max(sizes) for sizes in weights_of(tier(name).tensors).layers.values()) for name in TIERS}
    assert late("BF16", "balanced") == round(unit["BF16"] * 1024 / 131)
    # gate and up are Q4_K with 19 kernels each, the five others Q6_K with 11
    assert late("Q4_K_S", "balanced") == round(unit["Q4_K_S"] * 1024 / (131 + 2 * 19 + 5 * 11))
    assert late("Q8_0", "balanced") == round(unit["Q8_0"] * 1024 / (131 + 7 * 2))
    assert late("BF16", "low") == 0
    assert late("BF16", "balanced", kept=40) == 2 * unit["BF16"]


def test_embedding_and_head_only_miss_the_room_that_is_in_use() -> None:
    def returning(size: int, mode: str, *, warm: bool = True) -> int:
        placement, workload = upstream(mode), Workload(Task.T2I, size, size, cfg=1.0)
        weights = weights_of(tier("BF16").tensors)
        laid_out = phases(ARCH, weights, workload, placement, Device((9, 0), warm=warm))
        return cache_shape(ARCH, weights, workload, placement, laid_out, warm=warm).returning

    assert returning(4096, "low") == device_block(151936 * 4096 * 2)
    assert 0 < returning(256, "low") < returning(512, "low") < returning(1024, "low") < returning(2048, "low")
    assert returning(2048, "low", warm=False) == returning(2048, "full") == 0


@given(st.integers(1, 80), st.integers(0, 8), st.integers(0, 4000), st.sampled_from([LOW, BALANCED, RING]))
def test_reserved_is_an_ordered_interval_above_allocated(gib: int, dynamic: int, late: int, placement: object) -> None:
    allocated = Interval.exactly(gib * GIB)
    shape = Shape(dynamic * GIB, late * MIB, 0)
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
