"""Tables of answers on a narrow terminal: no cell is cut, and what is left out is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.cli.listing import GAP, LEAST_LAST, fitting
from fitcheck.cli.plan import NEEDS, NEEDS_SPARE
from tests.cli.terminal import on_a_terminal

ROOT = Path(__file__).parents[2]
COLUMNS = ("model", "verdict", "speed", "card", "mode")
RUN = (sys.executable, "-m", "fitcheck")
ROWS = [("qwen3-coder-480b-a35b", "fits", "25 – 76 tokens/s", "9.5", "ngl 99, n-cpu-moe 14, cache q8_0")]


def test_spare_columns_go_one_after_the_other() -> None:
    assert fitting(COLUMNS, ROWS, ("mode", "card"), 200) == [0, 1, 2, 3, 4]
    assert fitting(COLUMNS, ROWS, ("mode", "card"), 60) == [0, 1, 2, 3]
    assert fitting(COLUMNS, ROWS, ("mode", "card"), 50) == [0, 1, 2]
    assert fitting(COLUMNS, ROWS, (), 20) == [0, 1, 2, 3, 4]


def test_a_narrow_gap_comes_before_a_column_that_is_needed() -> None:
    """One letter short of two between each: ``results list --model sdxl`` went without what a run allocated."""
    heads, row = ("id", "card", "allocated"), ("235e67608e7e", "h100-sxm5-80gb", "4.86 GiB")
    full = 12 + 2 + 14 + 2 + 9
    assert fitting(heads, [row], (), full - 1, heads[:0:-1]) == [0, 1, 2]
    assert fitting(heads, [row], (), full - 3, heads[:0:-1]) == [0, 1]
    assert fitting(heads, [row], ("card",), full - 1, heads[:0:-1]) == [0, 2]


@given(st.integers(40, 200))
def test_what_stands_has_room_or_nothing_is_left_to_spare(width: int) -> None:
    spare = ("mode", "card", "speed")
    kept = fitting(COLUMNS, ROWS, spare, width)
    wide = [max(len(COLUMNS[at]), len(ROWS[0][at])) for at in kept]
    room = sum(wide[:-1]) + min(wide[-1], LEAST_LAST) + GAP * (len(kept) - 1) <= width
    assert room or not {COLUMNS[at] for at in kept} & set(spare)


@pytest.mark.parametrize(
    "words",
    [
        ("runs", "--gpu", "RTX 4070", "--for", "code", "--most", "2"),
        ("compare", "gpt-oss-20b", "--gpu", "RTX 4070", "--gpu", "RX 9070 XT"),
    ],
)
def test_eighty_columns_cut_no_word(words: tuple[str, ...]) -> None:
    _, table, said = on_a_terminal([*RUN, *words], apart=True)
    assert "verdict" in table
    assert "tokens/s" in table
    assert "No room for" in said
    assert "mode" in said


def test_eighty_columns_show_records_whole() -> None:
    """Of sixteen columns the first and last two letters help nobody."""
    words = ("results", "list", "--from", str(ROOT / "results"), "--model", "sdxl", "--limit", "3")
    _, table, said = on_a_terminal([*RUN, *words], apart=True)
    heads, *rows = [line.split() for line in table.splitlines() if line.strip()]
    assert heads[:3] == ["id", "card", "model"]
    assert {"tier", "mode", "seconds", "allocated"} <= set(heads)
    assert all(row[1:3] == ["h100-sxm5-80gb", "sdxl"] for row in rows)
    assert len(rows) == 3
    assert "…" not in table
    assert "No room for" in said
    assert "a wider terminal or --csv has them" in said


def test_eighty_columns_keep_the_mode_of_a_plan_whole() -> None:
    row = ("torchao-int8", "15.5", "8.9", "16.9", "126.9", "?", "group-leaf-stream")
    kept = fitting(NEEDS, [row], NEEDS_SPARE, 80)
    assert [NEEDS[at] for at in kept][-2:] == ["KLD", "mode"]
    wide = sum(max(len(NEEDS[at]), len(row[at])) for at in kept) + GAP * (len(kept) - 1)
    assert wide <= 80
