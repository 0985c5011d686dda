"""When a measurement was made, by a clock that may never have been set and may jump: durations never come from it."""

from __future__ import annotations

import time

# records begin in July 2017 (schema.UtcSeconds); a clock before that was never set
_FIRST_DAY, _LAST = 1_500_000_000, 1 << 40
# a time server's correction is a matter of seconds
_JUMP = 60.0


class WallClock:
    """Starts with the measurement."""

    def __init__(self) -> None:
        self._wall, self._steady = time.time(), time.monotonic()

    @property
    def created(self) -> int:
        """The start in UTC seconds, within what a record can hold."""
        return min(max(int(self._wall), _FIRST_DAY), _LAST)

    def notes(self) -> list[str]:
        """What a reader of the record should know of the clock, up to now."""
        found = []
        if not _FIRST_DAY <= self._wall <= _LAST:
            found.append(f"the machine's clock was not set: it said {self._wall:.0f} s since 1970")
        jumped = (time.time() - self._wall) - (time.monotonic() - self._steady)
        if abs(jumped) > _JUMP:
            found.append(f"the machine's clock jumped by {jumped:+.0f} s meanwhile, or the machine slept")
        return found
