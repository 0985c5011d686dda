"""Progress of a series on standard error: a live line with time left on a terminal, one line a cell elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bench.channel import Event
from bench.runner import MeasuringProtocol
from fitcheck.units import format_seconds


class TimeLeft:
    """Seconds left in a series, from what has been seen of it. Pure but for the moments handed in."""

    def __init__(self, cells: int, passes: int) -> None:
        self._cells = cells
        self._passes = passes
        self._walls: list[float] = []
        self._began = 0.0
        self._load: float | None = None
        self._durations: list[float] = []

    def begin(self, now: float) -> None:
        """A cell starts at ``now`` (monotonic seconds)."""
        self._began, self._load, self._durations = now, None, []

    def take(self, event: Event) -> None:
        """Learns the time of loading and of each pass, warm-ups among them."""
        if event["event"] == "loaded":
            self._load = event["at"] - self._began
        elif event["event"] == "pass" and event["edge"] == "end":
            self._durations.append(event["seconds"])

    def finish(self, now: float) -> None:
        """The cell ends at ``now`` (monotonic seconds)."""
        self._walls.append(now - self._began)

    def skip(self) -> None:
        """A cell that was refused took no time, and says nothing about the time of the others."""
        self._cells -= 1

    def left(self, now: float) -> float | None:
        """``None`` until a pass or a cell has been seen."""
        elapsed = now - self._began
        if self._durations and self._load is not None:
            whole: float | None = self._load + self._passes * sum(self._durations) / len(self._durations)
        elif self._walls:
            whole = sum(self._walls) / len(self._walls)
        else:
            whole = None
        if whole is None:
            return None
        each = (sum(self._walls) + whole) / (len(self._walls) + 1)
        return max(0.0, whole - elapsed) + each * (self._cells - len(self._walls) - 1)


class Display:
    """Context manager that follows the cells of a series."""

    def __init__(self, cells: int, protocol: MeasuringProtocol, console: Console) -> None:
        self._console = console
        self._clock = TimeLeft(cells, protocol.warmup + protocol.repeats)
        self._cells = cells
        self._finished = 0
        self._label = ""
        self._steps = 0
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
            self._task = self._live.add_task("", total=self._cells, left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._live.stop()

    def begin(self, label: str) -> None:
        """A cell starts; ``label`` stands in the live line until it ends."""
        self._label = label
        self._clock.begin(time.monotonic())
        self._show("starting")

    def event(self, event: Event) -> None:
        """Shows what the measured process reports: pass, phase or step."""
        self._clock.take(event)
        kind = event["event"]
        if kind == "pass" and event["edge"] == "begin":
            self._steps = 0
            self._show("warm-up" if event["warmup"] else f"pass {event['index'] + 1}")
        elif kind == "phase" and event["edge"] == "begin":
            self._show(event["name"])
        elif kind == "step":
            self._steps += 1
            self._show(f"step {self._steps}")
        elif kind == "alive":
            self._show(None)

    def finish(self, line: str) -> None:
        """The cell ends; ``line`` stays on the screen behind its number of the series."""
        self._finished += 1
        self._clock.finish(time.monotonic())
        self._console.print(f"[{self._finished}/{self._cells}] {line}", markup=False, highlight=False, soft_wrap=True)
        self._show("")

    def skip(self, line: str) -> None:
        """A cell that did not run."""
        self._finished += 1
        self._clock.skip()
        self._console.print(f"[{self._finished}/{self._cells}] {line}", markup=False, highlight=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """A line that stays on the screen, between cells or during one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _show(self, what: str | None) -> None:
        if self._task is None:
            return
        left = self._clock.left(time.monotonic())
        shown = "" if left is None else f"{format_seconds(left)} left"
        self._live.update(self._task, completed=self._finished, left=shown)
        if what is not None:
            self._live.update(self._task, description=f"{self._label}: {what}")
