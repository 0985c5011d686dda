"""Lines and columns as a terminal shows them or a pipe takes them: what the answers need of rich, which takes as long
to start and to lay a table out as an answer may."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Any

import typer
from rich.cells import cell_len

from fitcheck.cli.consoles import PIPE

GAP = 2  # letters between two columns


def room(*, err: bool = False) -> int:
    """Letters that a line of stdout, or with ``err`` of stderr, has room for."""
    return shutil.get_terminal_size().columns if (sys.stderr if err else sys.stdout).isatty() else PIPE


def say(text: str, *, err: bool = False, whole: bool = False, **style: Any) -> None:
    """Print a text, wrapped between words unless it is to stay ``whole``, in a ``style`` (as ``typer.style`` takes it)
    where a terminal shows one."""
    for line in text.splitlines():
        typer.echo(styled(line if whole else "\n".join(_wrapped(line, room(err=err))), **style), err=err)


def styled(text: str, **style: Any) -> str:
    """``text`` with the codes of its style, which ``typer.echo`` takes out again where no terminal shows them."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain or not any(style.values()) else typer.style(text, **style)


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def widths(names: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> tuple[list[int], bool]:
    """Letters of each column with nothing cut, of the last one, which wraps, as many as are left of ``room`` or those
    of its longest word; and whether there is room for them."""
    columns = list(zip(names, *rows, strict=True))
    longest = [max(map(cell_len, "\n".join(texts).split("\n"))) for texts in columns]
    word = max(map(cell_len, " ".join(columns[-1]).split()))
    left = room - sum(longest[:-1]) - GAP * (len(longest) - 1)
    return [*longest[:-1], max(word, min(longest[-1], left))], left >= word


def table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    wide: Sequence[int],
    *,
    right: Collection[str] = (),
    colours: Sequence[str] = (),
    coloured: int = 0,
) -> None:
    """Print rows under their names in columns of ``wide`` letters, those named in ``right`` flush right, the cell of
    each row in column ``coloured`` in its colour."""
    for line in _lines(names, wide, [name in right for name in names]):
        typer.echo(styled((" " * GAP).join(line).rstrip(), bold=True))
    for cells, colour in zip_longest(rows, colours):
        for line in _lines(cells, wide, [name in right for name in names]):
            line[coloured] = styled(line[coloured], fg=colour if line[coloured].strip() else None)
            typer.echo((" " * GAP).join(line).rstrip())


def _lines(cells: Sequence[str], wide: Sequence[int], right: Sequence[bool]) -> Iterator[list[str]]:
    """The lines of a row, whose last cell wraps, with each part padded to its column."""
    parts = [*(cell.split("\n") for cell in cells[:-1]), _wrapped(cells[-1], wide[-1])]
    for line in zip_longest(*parts, fillvalue=""):
        yield [_padded(text, width, flush) for text, width, flush in zip(line, wide, right, strict=True)]


def _padded(text: str, width: int, right: bool) -> str:
    free = " " * (width - cell_len(text))
    return free + text if right else text + free
