"""Files that are loaded beside a model's own: projectors, adapters, control vectors, a second model that drafts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fitcheck.dataclass_later import dataclass
from fitcheck.models.architectures import Architecture
from fitcheck.models.tensors import TensorTable

if TYPE_CHECKING:
    from fitcheck.models.gguf import GgufHeader

DRAFT = "draft"  # the role of a second model; there is one, as there is one projector
LORA = "LoRA"  # of a pipeline's denoiser
_SINGLE = ("projector", DRAFT, LORA)
_USUAL_BITS = 16


@dataclass(frozen=True)
class Companion:
    """``role`` is what the file is ("projector", "adapter", "control vector", "LoRA"), ``numbers`` are the whole
    numbers of its metadata by key, ``kind`` what it says of its kind (a projector's "gemma3", the architecture that an
    adapter changes), ``path`` where it lies here.

    Of a second model ("draft") ``kind`` is the tier; ``architecture``, ``repository`` and ``disk_bytes`` are the
    model's, ``name`` what people call it.
    """

    role: str
    file: str
    tensors: TensorTable
    numbers: tuple[tuple[str, int], ...] = ()
    kind: str = ""
    path: str | None = None
    architecture: Architecture | None = None
    repository: str | None = None
    disk_bytes: int = 0
    name: str = ""

    def __hash__(self) -> int:
        return hash(self.tensors)

    def number(self, key: str) -> int | None:
        """The metadata's number under ``key``; ``None`` where it has none."""
        return dict(self.numbers).get(key)


def companion_of(header: GgufHeader, role: str, kind: str, path: str | None = None) -> Companion:
    """A header as a companion in that role."""
    numbers = {
        key: value
        for key, value in header.metadata.items()
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31
    }
    return Companion(role, header.name, header.tensors, tuple(numbers.items()), kind, path)


def with_companion(found: Iterable[Companion], one: Companion) -> tuple[Companion, ...]:
    """The companions with ``one`` among them; there is one projector and one draft, and as many of the others as are
    given."""
    kept = tuple(other for other in found if one.role not in _SINGLE or other.role != one.role)
    return (*kept, one)


def best_projector(paths: Iterable[str]) -> str | None:
    """Of a repository's projectors the one that llama.cpp's own download takes beside a quantized model: the fewest
    bits, the first of several."""
    return min(paths, key=_bits, default=None)


def _bits(path: str) -> int:
    from fitcheck.models.tier_names import quant_label

    digits = "".join(filter(str.isdigit, (quant_label(path) or "").partition("_")[0]))
    return int(digits) if digits else _USUAL_BITS
