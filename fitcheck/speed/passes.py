"""Passes over a model's weights, of any runtime: the work of each, and the weights that travel for it."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """``matrix_flops`` and ``attention_flops`` in FLOP, ``traffic`` and ``dequantization`` in bytes of card memory,
    kernels by the host path that issues them; ``latency`` in seconds of kernels that fill no card, whichever it is;
    ``wide_traffic`` in bytes of kernels that bandwidth alone limits, where ``traffic`` may wait for instructions."""

    matrix_flops: float
    attention_flops: float
    traffic: float
    dequantization: float
    kernels: int
    gguf_kernels: int = 0
    latency: float = 0.0
    wide_traffic: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.matrix_flops + other.matrix_flops,
            self.attention_flops + other.attention_flops,
            self.traffic + other.traffic,
            self.dequantization + other.dequantization,
            self.kernels + other.kernels,
            self.gguf_kernels + other.gguf_kernels,
            self.latency + other.latency,
            self.wide_traffic + other.wide_traffic,
        )


@dataclass(frozen=True, slots=True)
class Streamed:
    """Weights that travel for one pass: bytes, tensors that are re-pointed, copies that are issued."""

    nbytes: int
    tensors: int
    copies: int

    def scaled(self, share: float) -> Streamed:
        """The same traffic times ``share`` (0 to 1), each count rounded to a whole."""
        return Streamed(round(self.nbytes * share), round(self.tensors * share), round(self.copies * share))

    def __add__(self, other: Streamed) -> Streamed:
        return Streamed(self.nbytes + other.nbytes, self.tensors + other.tensors, self.copies + other.copies)


NOTHING = Streamed(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Pass:
    """``count`` passes of the same kind over the layers of ``branch``. For each of them ``ahead`` travels while it
    computes, and it waits for ``waited``, and for ``paged``, which lies in pageable memory wherever the rest does."""

    work: Work
    count: int
    branch: str
    ahead: Streamed = NOTHING
    waited: Streamed = NOTHING
    paged: Streamed = NOTHING

    @property
    def nbytes(self) -> int:
        """Bytes that travel for one of them."""
        return self.ahead.nbytes + self.waited.nbytes + self.paged.nbytes
