"""How fast is fast enough: the floors a person sets, or the usual ones (data), and what falls below them."""

from __future__ import annotations

import math
from functools import lru_cache

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.models.workload import Product, Task, Workload
from fitcheck.speed.duration import Duration
from fitcheck.units import Interval, format_seconds, format_speeds, format_time_span

_MOST = 1e9  # tokens a second, and seconds: beyond it a number is a slip


@dataclass(frozen=True, slots=True)
class Floor:
    """What a run must do to be of use: at least ``min_speed`` tokens a second, at most ``max_seconds`` an image,
    video or answer; ``None`` where nothing is asked. ``usual`` says that nobody set it."""

    min_speed: float | None = None
    max_seconds: float | None = None
    usual: bool = False


NO_FLOOR = Floor()


@lru_cache(maxsize=256)
def floor_of(min_speed: float | None, max_seconds: float | None, task: Task) -> Floor:
    """The floor of a question: what was given, else the usual one of text that is read along, of pictures or
    of videos."""
    if min_speed is not None or max_seconds is not None:
        return Floor(min_speed, max_seconds)
    kind = "text" if task.read_along else "videos" if task.produces is Product.VIDEO else "pictures"
    usual = load("speed", "floor")[kind]
    return Floor(usual.get("min_speed"), usual.get("max_seconds"), usual=True)


def check_floor(min_speed: float | None, max_seconds: float | None, task: Task) -> None:
    """Raises OptionError for a floor that is no number, or in a unit that the task has not."""
    for flag, value in (("--min-speed", min_speed), ("--max-seconds", max_seconds)):
        if value is not None and not (math.isfinite(value) and 0 < value <= _MOST):
            raise OptionError(f"{flag}: {value:g} is out of range; give a number above 0, like 20.")
    if min_speed is not None and not task.read_along:
        raise OptionError(f"--min-speed is in tokens a second, and {task} is timed in seconds; give --max-seconds.")


def too_slow(workload: Workload, duration: Duration | None, floor: Floor) -> str | None:
    """Why the run is too slow to use, as what follows "runs, but too slow to use: "; ``None`` where it is not, or
    where its speed is unknown. The expected speed decides, not the ends of its interval."""
    if duration is None:
        return None
    rate, took = duration.rate(workload.task.rate), duration.seconds
    if floor.min_speed is not None and rate is not None and rate.best < floor.min_speed:
        least = "are needed to read along" if floor.usual else "are asked for with --min-speed"
        return f"{speed_words(rate)}, where {floor.min_speed:.10g} {least}"
    if floor.max_seconds is not None and took is not None and took.best / _made(workload) > floor.max_seconds:
        one = Interval(*(end / _made(workload) for end in (took.low, took.best, took.high)))
        most = "is the longest that counts as usable" if floor.usual else "is asked for with --max-seconds"
        span = format_time_span(one.low, one.high, " to ")
        task = workload.task
        what = task.one if task.answers or task.produces is Product.VIDEO else "an image"
        return f"{span} {what}, where {_limit(floor.max_seconds)} {most}"
    return None


def speed_words(rate: Interval[float]) -> str:
    """``"12 to 20 tokens a second"``."""
    low, _, high = format_speeds(rate)
    return f"{low} tokens a second" if low == high else f"{low} to {high} tokens a second"


def _limit(seconds: float) -> str:
    """A time that somebody chose: whole minutes have no seconds."""
    return f"{seconds / 60:g} min" if seconds >= 120 and seconds % 60 == 0 else format_seconds(seconds)


def _made(workload: Workload) -> int:
    """Images that the seconds make; an answer counts as one."""
    return 1 if workload.task.answers else workload.batch * workload.images
