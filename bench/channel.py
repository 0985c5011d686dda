"""How a measured process reports: one JSON object a line on the pipe that was its standard output.

The child keeps a private duplicate of its standard output for events and points file descriptor 1 at standard error,
so a library that prints cannot break the protocol. That works on every platform, unlike inheriting extra descriptors.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
# the longest answer that can be asked for is 100,000 tokens, each with its seconds in one event
MAX_LINE = 1 << 23
ALIVE_SECONDS = 1.0


class Channel:
    """Sends events; safe to use from several threads. A parent that is gone ends the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    def claim_stdout(cls) -> Channel:
        """A channel on what was standard output; what is printed from now on goes to standard error."""
        sys.stdout.flush()
        private = os.dup(1)
        os.dup2(2, 1)
        return cls(private)

    def send(self, event: str, **values: Any) -> None:
        """One line with the event, its values and ``at`` (monotonic seconds). Raises ValueError for NaN and
        infinity."""
        line = json.dumps({"event": event, "at": time.monotonic(), **values}, allow_nan=False).encode() + b"\n"
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                os._exit(3)


def parse_event(line: bytes) -> Event | None:
    """The event on a line; ``None`` for anything else, which then is the program's own output."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    well_formed = (
        isinstance(value, dict) and isinstance(value.get("event"), str) and isinstance(value.get("at"), int | float)
    )
    return value if well_formed else None


def beat(channel: Channel, state: Callable[[], dict[str, Any]]) -> threading.Thread:
    """A daemon thread that says every second what the process holds, so that a kill leaves a last word."""

    def loop() -> None:
        while True:
            time.sleep(ALIVE_SECONDS)
            channel.send("alive", **state())

    thread = threading.Thread(target=loop, name="fitcheck-alive", daemon=True)
    thread.start()
    return thread


def die_with_parent() -> None:
    """Ends this process when its standard input closes: the parent holds the other end for as long as it lives."""

    def loop() -> None:
        descriptor = sys.stdin.fileno()
        while os.read(descriptor, 4096):
            pass
        os._exit(4)

    threading.Thread(target=loop, name="fitcheck-parent", daemon=True).start()
