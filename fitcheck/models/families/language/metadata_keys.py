"""Numbers of GGUF metadata, by the keys of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fitcheck.errors import FileError
from fitcheck.models.gguf_values import GgufArray

MAX_DIMENSION = 1 << 31


class Keys:
    """Typed, bounded access to GGUF metadata. Raises InputError naming the key for a value that cannot be used."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self.metadata = metadata
        self.architecture = architecture

    def raw(self, key: str) -> Any:
        """The value as Python's own: an array of a header becomes its tuple (None where only its length was kept)."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value.values if isinstance(value, GgufArray) else value

    def integer(self, key: str, default: int | None = None) -> int | None:
        """A count of at least 0, the first of an array; ``default`` where the key is missing."""
        value = self.raw(key)
        if isinstance(value, list | tuple) and value:
            value = value[0]
        if value is None:
            return default
        return self._checked(key, value)

    def required(self, key: str) -> int:
        """A count without which nothing can be said. Raises FileError where the key is missing."""
        value = self.integer(key)
        if value is None:
            raise FileError(f"GGUF metadata: {self.architecture}.{key} is missing, so the model's shape is unknown.")
        return value

    def each(self, key: str, blocks: int, default: int) -> list[int]:
        """One value a layer: an array as it is, a single value repeated."""
        value = self.raw(key)
        if value is None:
            return [default] * blocks
        if isinstance(value, list | tuple):
            if len(value) < blocks:
                raise FileError(
                    f"GGUF metadata: {self.architecture}.{key} lists {len(value)} layers, block_count says {blocks}."
                )
            return [self._checked(key, item) for item in value[:blocks]]
        return [self._checked(key, value)] * blocks

    def flags(self, key: str, blocks: int) -> list[bool] | None:
        """One truth a layer for the first ``blocks`` layers; ``None`` where the key holds no array."""
        value = self.raw(key)
        if not isinstance(value, list | tuple):
            return None
        if len(value) < blocks:
            raise FileError(
                f"GGUF metadata: {self.architecture}.{key} lists {len(value)} layers, block_count says {blocks}."
            )
        return [bool(item) for item in value[:blocks]]

    def _checked(self, key: str, value: Any) -> int:
        # NaN and infinity are no whole numbers either
        if not (type(value) is int or (isinstance(value, float) and value.is_integer())):
            raise FileError(f"GGUF metadata: {self.architecture}.{key} is {value!r}, not a whole number.")
        if not 0 <= int(value) <= MAX_DIMENSION:
            raise FileError(f"GGUF metadata: {self.architecture}.{key} = {value} is out of range.")
        return int(value)
