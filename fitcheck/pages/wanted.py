"""What the site has pages of unless a build names others, in order of demand. Data with sources: wanted.json."""

from __future__ import annotations

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass


@dataclass(frozen=True, slots=True)
class WantedModel:
    """``demand`` is the figure of its source where that has one, ``source`` a sentence."""

    slug: str
    demand: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two cards that people choose between, and why."""

    first: str
    second: str
    why: str

    @property
    def address(self) -> str:
        """Where the page of the pair stands."""
        return f"compare/{self.first}-vs-{self.second}/"


def models() -> tuple[WantedModel, ...]:
    """The most wanted first."""
    data = load("pages", "wanted")
    return tuple(WantedModel(row["slug"], row["demand"], data["sources"][row["source"]]) for row in data["models"])


def cards() -> tuple[str, ...]:
    """Slugs, by line and memory."""
    return tuple(load("pages", "wanted")["cards"])


def pairs() -> tuple[Pair, ...]:
    """The pairs with a page, where both cards have one."""
    return tuple(Pair(*row) for row in load("pages", "wanted")["pairs"])
