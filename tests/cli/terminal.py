"""A command on a terminal of 80 columns, as a person starts it."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Shown(NamedTuple):
    """The exit code, what stands on the terminal, and what was said on standard error where that is elsewhere."""

    code: int
    text: str
    said: str


def on_a_terminal(command: Sequence[str], *, typed: str = "", kind: str = "dumb", apart: bool = False) -> Shown:
    """Runs ``command`` and types; ``apart`` keeps standard error off the terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": kind, "NO_COLOR": "1"}
    errors = subprocess.PIPE if apart else theirs
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=errors, env=environment, text=True)
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end has closed
            break
        if not more:
            break
        shown += more
    os.close(ours)
    _, said = process.communicate(timeout=60)
    return Shown(process.returncode, shown.decode().replace("\r\n", "\n"), said or "")
