"""What records say of a cell's seconds: its own replace the estimate, those of its card and architecture correct it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import Footprint
from fitcheck.records.run import Run
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.speed.duration import Duration
from fitcheck.speed.rates import Calibration
from fitcheck.speed.timing import WHOLE, Timing
from fitcheck.units import Interval
from fitcheck.verdict.quantities import (
    CALIBRATED,
    LONGER_QUICKER,
    MEASURED,
    Quantity,
    against,
    apart,
    counted,
    quantity,
    says,
    span,
)
from fitcheck.verdict.shrinkage import Estimate, Fit, Place, Traits


@dataclass(frozen=True, slots=True)
class RecordsFit:
    """What records of the card and its relatives say together: the fit, the runs behind each of its groups, and where
    the asked cell is."""

    fit: Fit
    runs: tuple[tuple[Run, ...], ...]
    place: Place

    def behind(self, indices: Sequence[int]) -> list[Run]:
        """The runs of some groups, each once."""
        return list({run.id: run for index in indices for run in self.runs[index]}.values())


def traits_of(runtime: Runtime, ask: Ask, name: str) -> Traits:
    """What tells apart predictions that are off alike."""
    mode = (ask.placement.mode, len(ask.machine.gpus))
    return Traits(name, ask.model.slug, ask.tier.name, mode, runtime.alike(ask))


@dataclass(frozen=True, slots=True)
class Seconds:
    """Looks for what is known of one cell's seconds."""

    runtime: Runtime
    ask: Ask
    links: Calibration
    link_ids: tuple[str, ...]
    exact: tuple[tuple[Run, Ask], ...]
    said: RecordsFit | None

    def known(self, footprint: Footprint) -> tuple[Calibration, dict[str, Quantity]]:
        """The corrections for the cell, and how each of its timings is known; no timing where no rate is known."""
        timings = self.runtime.timings(self.ask, self.links)
        plain = self.runtime.timings(self.ask) if self.link_ids else timings
        ratios: dict[str, Interval[float]] = {}
        found: dict[str, Quantity] = {}
        for name, timing in timings.items():
            ratio, how = self._of(name, timing, footprint)
            if ratio is None and timing != plain.get(name):
                count = len(self.link_ids)
                note = f"copies take as long as {counted(count, 'link record')} of this card {says(count)}"
                how = Quantity(CALIBRATED, len(self.link_ids), note, self.link_ids)
            found[name] = how
            if ratio is not None:
                ratios[name] = ratio
        factors = {} if self.said is None else self.said.fit.factors(self.said.place)
        return replace(self.links, factors=tuple(sorted(factors.items())), ratios=tuple(ratios.items())), found

    def _of(self, name: str, timing: Timing, footprint: Footprint) -> tuple[Interval[float] | None, Quantity]:
        """Measured over predicted seconds of one timing, and how that is known."""
        own, estimate = self._own(name, timing), self._estimate(name, timing)
        odd = self._contradicted(name)
        right = [(run, ratio) for run, ratio in own if run.id not in odd]
        if not own:
            return self._calibrated(name, estimate, footprint)
        if not right and len(own) == 1:
            ratio, how = self._calibrated(name, estimate, footprint)
            said = own[0][1]
            if ratio is not None:
                wider = Interval(min(ratio.low, said), ratio.best, max(ratio.high, said))
                factor = max(said / ratio.best, ratio.best / said)
                note = f"{how.note}; the one record of this cell says {factor:.1f} times as much or as little"
                return wider, replace(how, note=note)
        seen = [ratio for _, ratio in right or own]
        left = f", {len(own) - len(seen)} more contradicted by the card's others" if len(seen) < len(own) else ""
        estimated = relative(self.runtime.duration(self.ask, footprint), name)
        note = f"{counted(len(seen), 'record')} of this cell on this card{left}{apart(seen)}"
        note += against(seen, estimated, LONGER_QUICKER)
        least = _data()["confidence"]["value"] * _data()["run"]["value"]
        return span(seen, least), quantity(MEASURED, [run for run, _ in right or own], note)

    def _own(self, name: str, timing: Timing) -> list[tuple[Run, float]]:
        """Measured over predicted seconds of this very cell, by run. What was measured a little differently (at another
        depth) counts as it is where that makes little difference."""
        predicted = timing.seconds({})
        found = []
        for run, ask in self.exact:
            for one in self.runtime.observed(run, ask, self.links):
                there = one.timing.seconds({})
                if one.name == name and one.sound and abs(log(there / predicted)) <= _data()["same"]["difference"]:
                    found.append((run, one.seconds / predicted))
        return found

    def _estimate(self, name: str, timing: Timing) -> Estimate | None:
        if self.said is None:
            return None
        return self.said.fit.of(self.said.place, traits_of(self.runtime, self.ask, name), timing)

    def _calibrated(
        self, name: str, estimate: Estimate | None, footprint: Footprint
    ) -> tuple[Interval[float] | None, Quantity]:
        """The ratio that other cells' records say, with its interval; ``None`` where they say nothing of this one."""
        if estimate is None or self.said is None:
            return None, Quantity()
        groups = self.said.fit.groups
        here = [index for index, group in enumerate(groups) if group.place.card == self.said.place.card]
        if estimate.explained < _data()["explained"]["least"]:
            return None, Quantity(note="model only, this card's records say too little of it") if here else Quantity()
        if not here:
            return self._borrowed(name, estimate, footprint)
        width = exp(_data()["confidence"]["value"] * estimate.deviation)
        ends = (estimate.ratio / width, estimate.ratio * width, *estimate.doubt)
        runs = self.said.behind(here)
        wrong = self.said.behind([index for index in here if index in self.said.fit.wrong])
        note = f"model corrected by {counted(len(runs), 'record')} of this card"
        note += f", {len(wrong)} of which the others contradict" if wrong else ""
        if estimate.doubt:
            what = "they contradict each other" if len(runs) > 1 else "it contradicts the model"
            note += f"; {what}, which widens the range"
        return Interval(min(ends), estimate.ratio, max(ends)), quantity(CALIBRATED, runs, note)

    def _borrowed(self, name: str, estimate: Estimate, footprint: Footprint) -> tuple[Interval[float] | None, Quantity]:
        """What cards of the same architecture say: the best estimate moves, the interval stays as wide as it was."""
        assert self.said is not None
        span = relative(self.runtime.duration(self.ask, footprint, self.links), name)
        if span is None:
            return None, Quantity()
        runs = self.said.behind(range(len(self.said.runs)))
        cards = len({run.card for run in runs})
        note = (
            f"model corrected by {counted(len(runs), 'record')} of {counted(cards, 'other card')} of its architecture"
        )
        return span.scaled(estimate.ratio), quantity(CALIBRATED, runs, note)

    def _contradicted(self, name: str) -> set[str]:
        """Records that a clear majority of the card's others stands against."""
        if self.said is None or self.said.fit.doubts(self.said.place.card):
            return set()
        fit, card = self.said.fit, self.said.place.card
        groups = ((index, fit.groups[index]) for index in fit.wrong)
        wrong = [index for index, group in groups if (group.place.card, group.traits.name) == (card, name)]
        return {run.id for run in self.said.behind(wrong)}


def relative(duration: Duration | None, name: str) -> Interval[float] | None:
    """The interval of a timing's seconds over their best estimate."""
    if duration is None:
        return None
    seconds, rate = duration.seconds, duration.rate(name)
    if name == WHOLE:
        return None if seconds is None or not seconds.best else seconds.scaled(1 / seconds.best)
    return None if rate is None else Interval(rate.best / rate.high, 1.0, rate.best / rate.low)


def _data() -> Mapping[str, Any]:
    return load("verdict", "evidence")
