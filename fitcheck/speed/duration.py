"""How long a workload takes: seconds, what they are made of, and the rates a person reads."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.units import Interval

STREAMING = "streaming"  # the part of the seconds that copies of weights are


@dataclass(frozen=True, slots=True)
class Duration:
    """``seconds`` of one image or answer, ``None`` where a part of it is unknown.

    ``parts`` are the best estimates of what the seconds are made of, before overlap, by name; ``rates`` what a person
    reads instead of seconds (``prompt`` and ``generation`` in tokens a second); ``amounts`` what moved in bytes;
    ``binding`` names what sets the pace. ``first`` are the seconds of a process's first image where that one takes
    longer, ``None`` where it does not or nothing is known.
    """

    seconds: Interval[float] | None
    binding: str
    parts: tuple[tuple[str, float], ...] = ()
    rates: tuple[tuple[str, Interval[float]], ...] = ()
    amounts: tuple[tuple[str, int], ...] = ()
    first: Interval[float] | None = None

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """``parts`` as they add up to the best estimate: copies count as far as something waits for them, and what no
        part explains (launches, and what records measured beyond the model) is ``the rest``. Where records say less
        than the parts take, all are scaled. Estimates, also of seconds that were measured."""
        if self.seconds is None or not self.parts:
            return ()
        work = [(name, value) for name, value in self.parts if name != STREAMING]
        busy, total = sum(value for _, value in work), self.seconds.best
        if busy > total:
            return tuple((name, value * total / busy) for name, value in work)
        waited = min(self.part(STREAMING), total - busy)
        found = (*work, ("waiting for weights", waited), ("the rest", total - busy - waited))
        return tuple((name, value) for name, value in found if value > 0)

    def part(self, name: str) -> float:
        """Seconds of a part; 0 where there is none of that name."""
        return dict(self.parts).get(name, 0.0)

    def amount(self, name: str) -> int:
        """Bytes that moved; 0 where nothing of that name did."""
        return dict(self.amounts).get(name, 0)

    def rate(self, name: str) -> Interval[float] | None:
        """A rate by name; ``None`` where it is unknown or means nothing for the workload."""
        return dict(self.rates).get(name)
