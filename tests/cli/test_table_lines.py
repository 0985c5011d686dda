"""A check's table that has room for all its columns is laid out as rich lays out the same cells."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console, RenderableType

from fitcheck import api
from fitcheck.cli import output


def printed(what: RenderableType) -> str:
    out = Console(file=StringIO(), width=1000, highlight=False, emoji=False, markup=False, color_system=None)
    out.print(what)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize("model", ["llama-3.1-8b", "sensenova-u1-8b-mot"])
def test_lines_are_what_rich_makes_of_the_cells(model: str) -> None:
    report = api.check(model, "RTX 3060 12 GB", ram="16GB")
    names, rows = output.columns(report), [output.row(report, cell) for cell in report.cells]
    widths = [max(map(len, texts)) for texts in zip(names, *rows, strict=True)]
    coloured, plain = (
        output._in_lines(report, [names, *rows], widths, coloured=coloured) for coloured in (True, False)
    )
    assert printed(coloured) == printed(plain) == printed(output._table(report, names, rows))
    assert output._in_columns(report) + "\n" == printed(plain)
    assert coloured.no_wrap
    assert plain.no_wrap
    assert {span.style for span in coloured.spans} >= {"bold", output._COLOURS[report.best.verdict]}


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("Q4_K_M", 6), ("1.0 – 2.0", 9), ("模型", 4), ("a\u0301", 1), ("a\x07", 1)]
)
def test_a_cell_is_as_wide_as_a_terminal_shows_it(text: str, width: int) -> None:
    assert output._width(text) == width
