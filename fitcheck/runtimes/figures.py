"""What a runtime's estimates are held against: others' exact figures, and what of a record its constants rest on."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card


@dataclass(frozen=True, slots=True)
class RestsOn:
    """Quantities of one record, as ``Measured`` has them, that a constant of a runtime was ``fitted`` on, and those
    whose intervals are as wide as the record asked for (``widens``)."""

    fitted: frozenset[str] = frozenset()
    widens: frozenset[str] = frozenset()


NOTHING_RESTS = RestsOn()


@dataclass(frozen=True, slots=True)
class Figure:
    """One predicted number beside a published one, in ``unit``; without an interval ``low`` and ``high`` are None.
    ``computes`` is the card whose computing alone took the published seconds: what its generation reaches of its rates
    is fitted on such figures, and ``predicted`` knows nothing of that generation."""

    source: str
    name: str
    quantity: str
    unit: str
    predicted: float
    published: float
    low: float | None = None
    high: float | None = None
    fitted: bool = False
    computes: Card | None = None

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.published - 1

    @property
    def covered(self) -> bool | None:
        """Whether the published number lies inside the interval; ``None`` where there is none."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.published <= self.high
