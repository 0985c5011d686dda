"""A tensor and a table of tensors: what a file or checkpoint really holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from math import prod

from fitcheck.dataclass_later import dataclass
from fitcheck.models.quant import TYPES, QuantType, tensor_bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """One stored tensor.

    ``shape`` is row-major as torch prints it (out features, in features); GGUF readers turn ggml's reversed order.
    ``role`` says what it does ("attention", "mlp", "norm", "embedding", "head", "expert", "router", "vision", ...),
    ``branch`` which of two parallel stacks it serves ("understanding", "generation", "shared"), ``layer`` its block.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    role: str = "other"
    layer: int | None = None
    branch: str = "shared"

    @property
    def quant(self) -> QuantType:
        """The storage type with its block sizes."""
        return TYPES[self.type]

    @property
    def elements(self) -> int:
        """Elements of the shape, however they are stored."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes as stored, rows of a quantized tensor in whole blocks."""
        return tensor_bytes(self.shape, self.quant)


@dataclass(frozen=True, eq=False)
class AlikeLayers:
    """The tensors of layer ``index``, which stand for those of every layer that is like it."""

    tensors: tuple[Tensor, ...]
    index: int


@dataclass(frozen=True, slots=True)
class Layered:
    """A table in which the tensors of no layer come first, then each layer's; layers alike are one object."""

    outside: tuple[Tensor, ...]
    layers: tuple[AlikeLayers, ...]

    @property
    def counted(self) -> Iterator[tuple[Tensor, int]]:
        """Each tensor that differs from the others in more than its layer, with how many there are of it."""
        yield from ((tensor, 1) for tensor in self.outside)
        for alike, count in Counter(self.layers).items():
            yield from ((tensor, count) for tensor in alike.tensors)


class TensorTable:
    """An immutable sequence of tensors with the sums that the estimators ask for. Sizes in bytes."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = tuple(tensors)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def layered(self) -> Layered | None:
        """The same tensors by layer, where the table was made so; ``None`` for a file's own order."""
        return None

    @property
    def by_layer(self) -> Layered:
        """The same tensors by layer, however the table was made."""
        if self.layered is not None:
            return self.layered
        layers: dict[int, list[Tensor]] = {}
        for tensor in self:
            if tensor.layer is not None:
                layers.setdefault(tensor.layer, []).append(tensor)
        alike = tuple(AlikeLayers(tuple(layers[index]), index) for index in sorted(layers))
        return Layered(tuple(tensor for tensor in self if tensor.layer is None), alike)

    @property
    def counted(self) -> Iterator[tuple[Tensor, int]]:
        """Tensors with how many there are of each that differ in their layer alone, as far as the table knows that."""
        return ((tensor, 1) for tensor in self) if self.layered is None else self.layered.counted

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.nbytes * count for tensor, count in self.counted)

    @cached_property
    def elements(self) -> int:
        """Elements of all tensors: the parameter count."""
        return sum(tensor.elements * count for tensor, count in self.counted)

    @property
    def bits(self) -> float:
        """Bits a weight of the tensors that what is made hangs on: of all, unless a table knows better."""
        return 8 * self.nbytes / max(self.elements, 1)

    @cached_property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes by storage type; largest first."""
        return self._bytes_by(lambda tensor: tensor.type)

    @cached_property
    def foreign_types(self) -> dict[str, str]:
        """Types that llama.cpp does not read, with what does; empty for what it reads."""
        return {name: TYPES[name].reads for name in self.bytes_by_type if TYPES[name].reads}

    @cached_property
    def bytes_by_branch(self) -> dict[str, int]:
        """Bytes by branch, a pipeline's components among them; largest first."""
        return self._bytes_by(lambda tensor: tensor.branch)

    def _bytes_by(self, group: Callable[[Tensor], str]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for tensor, count in self.counted:
            counts[group(tensor)] += tensor.nbytes * count
        return dict(counts.most_common())

    @cached_property
    def digest(self) -> str:
        """sha256 over the sorted lines ``name<TAB>shape<TAB>type``: the same table has the same digest in any file."""
        from hashlib import sha256  # which few need and OpenSSL makes slow to import

        lines = sorted(f"{t.name}\t{'x'.join(map(str, t.shape))}\t{t.type}" for t in self.tensors)
        return sha256("\n".join(lines).encode()).hexdigest()

    def where(self, *, branch: str | None = None, layer: int | None = None, role: str | None = None) -> TensorTable:
        """The tensors that have every property given; ``None`` takes any."""
        return TensorTable(
            t
            for t in self.tensors
            if (branch is None or t.branch == branch)
            and (layer is None or t.layer == layer)
            and (role is None or t.role == role)
        )
