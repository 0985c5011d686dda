"""The two consoles that commands print on, and the tables on them."""

from __future__ import annotations

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


def bare_table(*columns: str, title: str = "") -> Table:
    """A table without a frame; ``columns`` are its first headers, and ``title`` stands above it."""
    from rich.table import Table

    return Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
