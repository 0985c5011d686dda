"""Lists that are too long for one page, in parts: the first stands at the list's own address, the others below it.

A page weighs 120 kB at most with its style, script and picture; a row of a list takes 600 to 800 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from fitcheck.dataclass_later import dataclass

# rows of a page, and cells of a table of models and cards
MOST_ROWS = 60
MOST_CELLS = 600

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ListPart:
    """Rows of one page; ``number`` counts from 1, ``several`` are the links to all parts, none where there is one."""

    number: int
    rows: Sequence[Row]
    several: tuple[Mapping[str, Any], ...] = ()

    def address(self, of_list: str) -> str:
        """Where the part stands of the list at ``of_list``."""
        return part_address(of_list, self.number)

    def titled(self, title: str) -> str:
        """The title of the list, told apart for the part."""
        return title if self.number == 1 else f"{title} (part {self.number} of {len(self.several)})"

    @property
    def values(self) -> dict[str, Any]:
        """What a template is given besides the document."""
        here = [{**one, "here": index == self.number} for index, one in enumerate(self.several, 1)]
        return {"first": self.number == 1, **({"several": here} if here else {})}


def part_address(of_list: str, number: int) -> str:
    """The address of a part; the first one's is the list's own."""
    return of_list if number == 1 else f"{of_list}page-{number}/"


def parts_of(rows: Sequence[Row], address: str, most: int | None = None) -> tuple[ListPart, ...]:
    """``rows`` in as few parts of nearly the same length as ``most`` allows, by default ``MOST_ROWS``; each row has a
    ``name``."""
    return numbered(_even(rows, most or MOST_ROWS), address)


def numbered(parts: Sequence[Sequence[Row]], address: str) -> tuple[ListPart, ...]:
    """Parts that were divided otherwise, with links to each other."""
    if len(parts) < 2:
        return (ListPart(1, parts[0] if parts else ()),)
    links = tuple(
        {"address": part_address(address, number), "first": part[0]["name"], "last": part[-1]["name"]}
        for number, part in enumerate(parts, 1)
    )
    return tuple(ListPart(number, part, links) for number, part in enumerate(parts, 1))


def _even(rows: Sequence[Row], most: int) -> list[Sequence[Row]]:
    count = -(-len(rows) // most) or 1
    ends = [len(rows) * index // count for index in range(count + 1)]
    return [rows[first:last] for first, last in pairwise(ends)]
