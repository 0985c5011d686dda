"""What every family's architecture numbers answer."""

from __future__ import annotations

from typing import Protocol


class Architecture(Protocol):
    """Numbers that size activations and caches; each family has its own frozen dataclass."""

    @property
    def family(self) -> str:
        """The family's name in the registry."""
        ...

    @property
    def context_length(self) -> int | None:
        """Tokens of context that the model was trained on; ``None`` where that means nothing or is not known."""
        ...

    def cache_bytes(self, context: int) -> int:
        """Bytes of one sequence's 16-bit keys and values over ``context`` tokens; 0 where a run is no decoding."""
        ...
