"""What a quant tier costs in quality, as somebody measured and published it."""

from __future__ import annotations

from typing import Any

from fitcheck.dataclass_later import dataclass

NOT_MEASURED = "not measured"
# nats a token below which two distributions differ by the rounding of 16-bit numbers alone
_SAME = 1e-4


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the most of what was measured: a file may be made with an importance matrix or without."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TierQuality:
    """How far a quantized model's next-token distribution is from that in 16 bits, on the model ``measured_on``.

    ``divergence`` is the mean Kullback-Leibler divergence in nats a token, ``perplexity`` the perplexity divided by
    that in 16 bits, ``drift`` the root mean square change of the right token's probability in percent; ``None`` where
    the source has none. ``own`` says that ``measured_on`` is the model asked about, else another one stands in.
    """

    divergence: Range | None
    perplexity: Range
    drift: Range | None
    measured_on: str
    own: bool
    dataset: str
    source: str
    date: str

    @property
    def words(self) -> str:
        """``KL divergence 0.028 to 0.031, perplexity 2.4 to 2.8 % above 16 bits (Llama 3 8B; not measured for this
        model)``."""
        if self.divergence is not None and self.divergence.high < _SAME:
            return "16 bits, what other tiers are measured against"
        found = [] if self.divergence is None else [f"KL divergence {figures(self.divergence)}"]
        found.append(f"perplexity {_percent(self.perplexity)} above 16 bits")
        return f"{', '.join(found)} ({self.measured_on}{'' if self.own else '; not measured for this model'})"

    def to_json(self) -> dict[str, Any]:
        """By the field names; a range is its least and its most."""
        return {
            "divergence": _range_json(self.divergence),
            "perplexity": _range_json(self.perplexity),
            "drift": _range_json(self.drift),
            "measured_on": self.measured_on,
            "this_model": self.own,
            "words": self.words,
            "dataset": self.dataset,
            "source": self.source,
            "date": self.date,
        }


def figures(found: Range) -> str:
    """``0.028 to 0.031``, or one number where both ends read the same."""
    low, high = (_divergence(end) for end in (found.low, found.high))
    return low if low == high else f"{low} to {high}"


def _divergence(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else "0" if value < _SAME else f"{value:.2g}"


def _percent(found: Range) -> str:
    low, high = (_more(end) for end in (found.low, found.high))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _more(ratio: float) -> str:
    return f"{(ratio - 1) * 100:.{0 if ratio >= 1.1 else 1 if ratio >= 1.001 else 2}f}"


def _range_json(found: Range | None) -> dict[str, float] | None:
    return None if found is None else {"low": found.low, "high": found.high}
