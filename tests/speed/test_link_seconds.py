"""Seconds of copies from link records: lines and percentiles worked out by hand, order relations for any record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.hardware.machine import Link
from fitcheck.speed.link import from_memory, line_of, measured_seconds
from fitcheck.speed.rates import Blocks, link_rate

MIB = 1 << 20
SIZES = (1, 4, 16, 64, 256, 1024)


def blocks(latency: float, rate: float, slower: dict[int, float] | None = None) -> Blocks:
    """A record whose copies take ``latency`` and their bytes over ``rate``, some sizes (in MiB) longer by a factor."""
    found = []
    for size in SIZES:
        took = (latency + size * MIB / rate) * (slower or {}).get(size, 1.0)
        found.append((size * MIB, size * MIB / took))
    return tuple(found)


def test_the_line_through_exact_times_is_their_latency_and_rate() -> None:
    line = line_of(blocks(1e-5, 50e9))
    assert line.latency == pytest.approx(1e-5)
    assert line.each == pytest.approx(1 / 50e9)
    assert line.seconds(3, 100e9) == pytest.approx(3e-5 + 2)


def test_one_block_or_a_rate_that_falls_with_size_has_no_latency() -> None:
    one = line_of(((MIB, 20e9),))
    assert one.latency == 0.0
    assert one.each == pytest.approx(1 / 20e9)
    assert line_of(((MIB, 20e9), (MIB * 2, 20e9))).latency == pytest.approx(0, abs=1e-12)
    # 1 / 40 and 1 / 20 s a GB: least squares of relative errors weighs by rate, (40 + 20) / (40² + 20²)
    falling = line_of(((MIB, 40e9), (1024 * MIB, 20e9)))
    assert falling.latency == 0.0
    assert falling.each == pytest.approx(60e9 / 2000e18)


def test_machines_count_by_their_median_and_reach_from_the_fastest_copies_to_the_slowest() -> None:
    slow, middle, fast = (blocks(0.0, rate) for rate in (40e9, 50e9, 60e9))
    found = measured_seconds(1, 1e9, (slow, middle, fast))
    assert found.best == pytest.approx(1 / 50)
    # 18 ratios, six of each machine: 5 % and 95 % lie within the first and the last six
    assert found.low == pytest.approx(1 / 60)
    assert found.high == pytest.approx(1 / 40)
    two = measured_seconds(1, 1e9, (slow, fast))
    assert two.best == pytest.approx((1 / 40 + 1 / 60) / 2)


def test_one_slow_moment_widens_the_interval_by_what_it_was_slower() -> None:
    found = measured_seconds(100, 40e9, (blocks(0.0, 50e9, {64: 1.2}),))
    assert found.low == pytest.approx(found.best / 1.05)
    # the line lies a little above the five others; the 95th percentile a quarter below the slow one
    ratios = sorted(value / found.best * 0.8 for value in (1.0, 1.0, 1.0, 1.0, 1.0, 1.2))
    assert found.high / found.best == pytest.approx(ratios[4] + 0.75 * (ratios[5] - ratios[4]))
    assert 0.8 < found.best < 0.83


def test_a_steady_link_keeps_a_twentieth_of_doubt() -> None:
    for records in ((blocks(0.0, 50e9),), (blocks(0.0, 50e9),) * 2, (((MIB, 50e9),),)):
        found = measured_seconds(1, 50e9, records)
        assert (found.low, found.best, found.high) == pytest.approx((1 / 1.05, 1, 1 / 0.95))


def test_pageable_blocks_that_a_cache_holds_do_not_count_where_others_were_measured() -> None:
    record = ((MIB, 15e9), (128 * MIB, 9e9), (256 * MIB, 7.5e9), (1024 * MIB, 7e9))
    assert from_memory(record) == record[2:]
    assert from_memory(record[:2]) == record[:2]


rates = st.floats(1e3, 1e15)
records = st.lists(
    st.lists(st.tuples(st.integers(1, 1 << 50), rates), min_size=1, max_size=12, unique_by=lambda block: block[0]),
    min_size=1,
    max_size=4,
).map(lambda found: tuple(tuple(sorted(one)) for one in found))


@given(records, st.integers(1, 20_000), st.integers(1, 1 << 40))
def test_more_copies_and_more_bytes_never_take_less(found: tuple[Blocks, ...], copies: int, nbytes: int) -> None:
    took = measured_seconds(copies, nbytes, found)
    assert 0 < took.low <= took.best <= took.high
    assert measured_seconds(copies, 2 * nbytes, found).best >= took.best
    assert measured_seconds(2 * copies, nbytes, found).best >= took.best


@pytest.mark.parametrize(
    ("generation", "lanes", "expected"),
    # 8.9 to 9.5 GB/s in the H100 link records, on which nothing of it was fitted; 4.5 to 6 published for PCIe 3.0
    [(5, 16, 8.85e9), (4, 16, 7.59e9), (3, 16, 5.92e9), (4, 8, 5.92e9), (1, 1, 0.208e9)],
)
def test_a_pageable_copy_goes_through_a_host_thread_and_the_link(generation: int, lanes: int, expected: float) -> None:
    rate, pinned = (link_rate(Link(generation, lanes), pinned=pinned) for pinned in (False, True))
    assert rate is not None
    assert pinned is not None
    assert rate.best == pytest.approx(expected, rel=0.01)
    assert rate.low < rate.best < rate.high
    assert rate.high < pinned.high


def test_measured_copies_say_how_fast_others_are() -> None:
    """A measured pinned rate is the link's part of a pageable copy; a measured pageable one stands for itself."""
    assert link_rate(Link(4, 16, measured_pinned=20e9), pinned=False).best == pytest.approx(  # type: ignore[union-attr]
        1 / (1 / 20e9 + 1 / 10.6e9)
    )
    both = Link(4, 16, measured_pinned=20e9, measured_pageable=9e9)
    assert link_rate(both, pinned=False).best == 9e9  # type: ignore[union-attr]
    assert link_rate(Link(None, 16), pinned=False) is None
