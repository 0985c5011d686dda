"""How weights are stored: one scheme for each way of quantizing, with the tensors that a parameter becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fitcheck.models.families.pipeline.architecture import Component
from fitcheck.models.families.pipeline.tables import Entry

Stored = tuple[str, tuple[int, ...], str]
_PLAIN = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}


@dataclass(frozen=True)
class Scheme:
    """A way to store weights. ``format`` says who reads it: "safetensors", "gguf", ..."""

    name: str
    format: str
    source: str = ""

    def stored(self, component: Component, entry: Entry) -> Iterator[Stored]:
        """The tensors (name, shape, type) that a parameter becomes."""
        single = self.name != "fp32" and any(part in entry.name.split(".") for part in component.single_precision)
        yield entry.name, entry.shape, "F32" if single else _PLAIN[self.name]


def scheme(name: str) -> Scheme:
    """The scheme of a tier's name. Raises KeyError."""
    return Scheme(name, "safetensors", f"all weights in {name}, with the parts that the class keeps in fp32")
