"""Where nobody says which build of llama.cpp runs: what is said of the one that is taken, and intervals that hold those
of the builds that people run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fitcheck.memory.footprint import Footprint
from fitcheck.runtimes.llamacpp.builds import Build, newest_build
from fitcheck.units import Interval


def over_builds(footprint: Footprint, others: Mapping[Build, Sequence[Interval[int]]]) -> Footprint:
    """``footprint``, the newest build's, with cards' intervals that hold those of ``others`` too."""
    cards = []
    for index, memory in enumerate(footprint.cards):
        totals = [other[index] for other in others.values()]
        low = min([memory.card.low, *(total.low for total in totals)])
        high = max([memory.card.high, *(total.high for total in totals)])
        spanned = Interval(low, memory.card.best, high)
        cards.append(replace(memory, card=spanned, required=spanned))
    oldest = min(build.day for build in others)
    words = f"; the card's interval spans builds since {oldest:%B %Y} (--build names one)"
    said = tuple(
        f"{one} known, {newest_build().day}{words}" if one == build_words(newest_build()) else one
        for one in footprint.assumptions
    )
    return replace(footprint, cards=tuple(cards), assumptions=said)


def build_words(build: Build) -> str:
    """What is said of the build that an estimate takes."""
    newest = newest_build().day
    ahead = f", after the newest that is known ({newest}), taken as that one" if build.day > newest else ""
    return f"llama.cpp build: {build}{ahead}"
