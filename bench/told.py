"""What the engine tells the protocol: plain values, so that a record can be written in a process without torch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol


class Observer(Protocol):
    """Meters hang here. The engine synchronizes the device before a phase begins and before it ends.

    Phases are "load", "prefix", "denoise" and "decode"; an interleaved answer enters some of them several times.
    """

    @property
    def metered(self) -> bool:
        """Whether copies and waits are timed too."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Around one phase, entered and left with the device idle."""

    def step(self, seconds: float) -> None:
        """One denoising step (all CFG branches) or one decoded token, device synchronized at both ends."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Bytes of weights and where they went.

    ``pinned_bytes`` is what was asked for, ``pinned_rounded_bytes`` what the host allocator took for it;
    ``pageable_bytes`` are weights in ordinary host memory, ``device_bytes`` weights on the card after loading;
    ``type_bytes`` counts them by type where the engine knows better than the catalog.
    """

    weights: str
    tensors: int
    table_digest: str
    weight_bytes: int
    pinned_bytes: int
    pinned_rounded_bytes: int
    pageable_bytes: int
    device_bytes: int
    seconds: float
    type_bytes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PassReport:
    """One pass. ``streamed_bytes`` and ``copies`` are host-to-device weight traffic by phase (``None`` where the
    runtime moves weights itself and nobody counts); ``copy_seconds`` how long
    its copies ran and ``wait_seconds`` how long the computation stood still for them, ``None`` when not metered.
    ``output_digest`` is the sha256 of the output tensor's bytes, or of the token ids for a text answer."""

    seconds: dict[str, float]
    step_seconds: tuple[float, ...]
    streamed_bytes: dict[str, int] | None
    copies: dict[str, int]
    copy_seconds: dict[str, float] | None
    wait_seconds: dict[str, float] | None
    output_digest: str
    output_shape: tuple[int, ...]
    finite: bool
    attention_backend: str
    tokens: dict[str, int] = field(default_factory=dict)
    resident_layers: int = 0
