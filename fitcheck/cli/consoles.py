"""The two consoles that commands print on, and the tables on them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# letters: more than any table here needs, so that nothing is folded or cut where no terminal says how wide it is
PIPE = 1000


def console(stderr: bool = False) -> Console:
    """Standard output or standard error, as wide as its terminal; in a pipe no line wraps and no cell is cut. Text is
    printed as it is: names come from files, and brackets in them are no markup."""
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else PIPE
    return Console(stderr=stderr, width=width, highlight=False, emoji=False, markup=False)


class PlainLines:
    """What stands in for a console in a pipe, where nobody sees a style: rich alone takes a twentieth of a check."""

    def __init__(self, *, stderr: bool) -> None:
        self._file = sys.stderr if stderr else sys.stdout

    def print(self, text: str, *, style: str = "", soft_wrap: bool = False) -> None:
        """One or more lines, as ``console`` prints them there: without signals to a terminal, and tabs as blanks."""
        print(text.translate(_SIGNALS).expandtabs(), file=self._file)


# bell, backspace, both feeds and the return of the carriage
_SIGNALS = dict.fromkeys((7, 8, 11, 12, 13))
# what makes rich take any output for a terminal
_TERMINAL = ("FORCE_COLOR", "TTY_COMPATIBLE")


def lines_to(*, stderr: bool = False) -> Console | PlainLines:
    """``console`` for who prints lines alone: in a pipe a plainer one that is there sooner."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty() or any(map(os.environ.get, _TERMINAL)):
        return console(stderr)
    return PlainLines(stderr=stderr)


def bare_table(*columns: str, title: str = "") -> Table:
    """A table without a frame; ``columns`` are its first headers, and ``title`` stands above it."""
    from rich.table import Table

    return Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
