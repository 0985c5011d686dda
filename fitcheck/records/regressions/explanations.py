"""What else could have made a run slow: clocks, throttling, a narrower link, others on the card, swapping.

Named before anybody is blamed. A reason *covers* a slowdown when the slowdown would be no surprise with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from fitcheck.dataclass_later import dataclass
from fitcheck.records.regressions.tracked_runs import TrackedRun
from fitcheck.records.schema import Memory, Power, Transfer
from fitcheck.units import GIB, MIB

# Throttling by heat or by the board's own protection; a power cap is how a fast card always runs under full load, and
# counts through the clock that it leaves.
_HARD = ("thermal", "hw-slowdown", "hardware-slowdown", "power-brake")
_CLOCK_SHARE = 0.5
_CLOCK_LEAST = 0.01
_FOREIGN = 256 * MIB
_SWAP = 64 * MIB


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence, and whether it covers the slowdown: the runs should be made again under equal conditions."""

    text: str
    covers: bool


def explain(before: Sequence[TrackedRun], after: Sequence[TrackedRun], slowdown: float) -> tuple[Explanation, ...]:
    """What the slower side ran under that the other did not. ``slowdown`` is the logarithm of how much slower."""
    return (*_clock(before, after, slowdown), *_throttling(before, after), *_link(before, after), *_load(before, after))


def _powers(runs: Sequence[TrackedRun]) -> list[Power]:
    return [run.record.power for run in runs if run.record.power is not None]


def _clock(before: Sequence[TrackedRun], after: Sequence[TrackedRun], slowdown: float) -> Iterator[Explanation]:
    old = [power.sm_clock_mean for power in _powers(before) if power.sm_clock_mean]
    new = [power.sm_clock_mean for power in _powers(after) if power.sm_clock_mean]
    if old and new:
        lost = math.log(fmean(old) / fmean(new))
        if lost > _CLOCK_LEAST:
            text = f"the card's clock was lower on average ({fmean(new):.0f} MHz, before {fmean(old):.0f} MHz)"
            yield Explanation(text, lost >= _CLOCK_SHARE * slowdown)


def _throttling(before: Sequence[TrackedRun], after: Sequence[TrackedRun]) -> Iterator[Explanation]:
    old = {reason for power in _powers(before) for reason in power.throttle_reasons or ()}
    new = {reason for power in _powers(after) for reason in power.throttle_reasons or ()}
    for reason in sorted(new - old):
        yield Explanation(f"the card throttled ({reason})", any(word in reason for word in _HARD))


def _link(before: Sequence[TrackedRun], after: Sequence[TrackedRun]) -> Iterator[Explanation]:
    for name, what in (("pcie_generation", "PCIe generation"), ("pcie_width", "PCIe lanes")):
        old = [value for run in before if (value := getattr(_transfer(run), name, None)) is not None]
        new = [value for run in after if (value := getattr(_transfer(run), name, None)) is not None]
        if old and new and min(new) < min(old):
            yield Explanation(f"the link ran with fewer {what} ({min(new)}, before {min(old)})", covers=True)


def _transfer(run: TrackedRun) -> Transfer | None:
    return getattr(run.record, "transfer", None)


def _load(before: Sequence[TrackedRun], after: Sequence[TrackedRun]) -> Iterator[Explanation]:
    held = _most(after, "device_before") - _most(before, "device_before")
    if held > _FOREIGN:
        yield Explanation(f"something else held {held / GIB:.1f} GiB more of the card before the run", covers=True)
    swapped = _most(after, "swap") - _most(before, "swap")
    if swapped > _SWAP:
        yield Explanation(f"the system swapped {swapped / GIB:.1f} GiB more", covers=True)


def _most(runs: Sequence[TrackedRun], name: str) -> int:
    memories: list[Memory | None] = [getattr(run.record, "memory", None) for run in runs]
    return max((getattr(memory, name, None) or 0 for memory in memories), default=0)
