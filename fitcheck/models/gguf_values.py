"""What stands in a GGUF file's metadata; apart from the reader, which a model known by name does without."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array of the metadata. ``values`` is None where only the length is kept: token lists, scores, merges."""

    type: str
    length: int
    values: tuple[int | float | bool | str, ...] | None


@dataclass(frozen=True, slots=True)
class GgufLongText:
    """A string of the metadata that was too long to keep; ``length`` in bytes."""

    length: int


GgufScalar = int | float | bool | str
GgufValue = GgufScalar | GgufArray | GgufLongText
