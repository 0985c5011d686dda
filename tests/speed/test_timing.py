"""Seconds by part: what a part's factor does to the whole, where copies hide, and that shares are derivatives."""

from __future__ import annotations

from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.speed.timing import LAUNCHES, Strand, Timing, merged, whole

PARTS = ("compute", "dequantization")
COPIES = "pinned copies"

amounts = st.floats(0, 100)
strands = st.builds(
    Strand,
    count=st.integers(1, 50),
    work=st.tuples(st.floats(0.01, 100), amounts),
    launches=amounts,
    ahead=amounts,
    waited=amounts,
)
timings = st.builds(
    Timing,
    st.just(PARTS),
    st.lists(strands, min_size=1, max_size=5).map(tuple),
    st.just(COPIES),
    st.sampled_from([1.0, 3.5]),
)
factors = st.fixed_dictionaries({name: st.floats(0.1, 10) for name in (*PARTS, LAUNCHES, COPIES)})


def test_copies_ahead_hide_behind_work_and_the_waited_ones_do_not() -> None:
    one = Timing(PARTS, (Strand(10, (3.0, 1.0), ahead=2.0, waited=0.5),), COPIES)
    assert one.seconds({}) == pytest.approx(10 * (4 + 0.5))
    assert one.seconds({COPIES: 4}) == pytest.approx(10 * (8 + 2))
    assert one.seconds({"compute": 2}) == pytest.approx(10 * (7 + 0.5))
    assert one.copies.seconds({}) == pytest.approx(10 * 2.5)
    assert one.names == (*PARTS, COPIES)


def test_launches_overlap_with_work_to_nearly_the_longer_of_the_two() -> None:
    one = Timing(PARTS, (Strand(1, (3.0, 0.0), launches=3.0),), exponent=3.5)
    assert one.seconds({}) == pytest.approx(3 * 2 ** (1 / 3.5))
    assert one.seconds({LAUNCHES: 10}) == pytest.approx(30, rel=1e-3)
    assert one.names == ("compute", LAUNCHES)


def test_a_whole_has_one_part() -> None:
    one = whole("any", 5.0)
    assert one.names == ("any",)
    assert one.seconds({"any": 1.5}) == 7.5
    assert one.shares({})["any"] == pytest.approx(1.0)


@given(st.lists(strands, min_size=1, max_size=6), factors)
def test_strands_that_are_alike_count_together(found: list[Strand], known: dict[str, float]) -> None:
    apart, together = (Timing(PARTS, tuple(one), COPIES) for one in (found + found, merged(found + found)))
    assert len(together.strands) <= len(found)
    assert together.seconds(known) == pytest.approx(apart.seconds(known))


@given(timings, factors, st.sampled_from([*PARTS, LAUNCHES, COPIES]), st.floats(1, 5))
def test_no_part_that_takes_longer_makes_the_whole_shorter(
    one: Timing, known: dict[str, float], part: str, more: float
) -> None:
    assert one.seconds({**known, part: known[part] * more}) >= one.seconds(known) * (1 - 1e-12)


@given(timings, factors, st.floats(0.2, 5))
def test_all_parts_times_as_long_take_times_as_long(one: Timing, known: dict[str, float], more: float) -> None:
    longer = {name: factor * more for name, factor in known.items()}
    assert one.seconds(longer) == pytest.approx(more * one.seconds(known))


@given(timings, factors)
def test_shares_say_what_a_small_step_does(one: Timing, known: dict[str, float]) -> None:
    shares = one.shares(known)
    assert set(shares) == set(one.names)
    assert all(-1e-9 <= share <= 1.01 for share in shares.values())
    step = 0.02
    for name, share in shares.items():
        moved = one.seconds({**known, name: known[name] * (1 + step)})
        assert log(moved / one.seconds(known)) == pytest.approx(log(1 + share * step), abs=1e-9)
    assert exp(sum(shares.values())) >= 0.99 * exp(min(1.0, max(shares.values())))
