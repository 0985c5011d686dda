"""What a duration's parts add up to, as a person reads it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.cli.explain import _took
from fitcheck.speed.duration import Duration
from fitcheck.units import Interval

SECONDS = st.floats(0.01, 1e4)
PARTS = (("compute", 1.56), ("dequantization", 0.58), ("streaming", 1.53))


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (2.58, {"compute": 1.56, "dequantization": 0.58, "waiting for weights": 0.44}),
        (3.67, {"compute": 1.56, "dequantization": 0.58, "waiting for weights": 1.53}),
        (99.0, {"compute": 1.56, "dequantization": 0.58, "waiting for weights": 1.53, "the rest": 95.33}),
        (1.07, {"compute": 0.78, "dequantization": 0.29}),
    ],
)
def test_copies_count_as_far_as_they_are_waited_for(best: float, said: dict[str, float]) -> None:
    found = Duration(Interval(best, best, best), "compute", PARTS).shares
    assert dict(found) == pytest.approx(said)


@given(SECONDS, st.lists(SECONDS, min_size=1, max_size=3))
def test_parts_add_up_to_the_seconds_also_as_they_are_printed(best: float, amounts: list[float]) -> None:
    names = ("compute", "dequantization", "streaming")
    duration = Duration(Interval(best, best, best), "compute", tuple(zip(names, amounts, strict=False)))
    assert sum(value for _, value in duration.shares) == pytest.approx(best)
    total, parts = _took(duration).split("estimated parts: ")
    shown = sum(float(one) for one in re.findall(r" (\d+\.\d\d)\b", f" {parts}"))
    assert shown == pytest.approx(float(total.split()[0]), abs=1e-6)


def test_unknown_seconds_are_made_of_nothing() -> None:
    assert Duration(None, "the link's rate is not known", PARTS).shares == ()
    assert _took(Duration(None, "x", PARTS)) == "unknown; x binds"
