"""What a call makes beside its weights: from the packed traces, with what no trace sees as a widening interval.

A trace on fake tensors misses the workspaces that cuDNN takes for convolutions. ``data/workspaces.json`` says how much
more the card took than the trace, by component, with the rows it was read from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.models.families.pipeline.architecture import VAE
from fitcheck.runtimes.diffusers.stages import Stage
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.traces import ALLOCATE, Trace, trace
from fitcheck.units import Interval

Sizes = tuple[tuple[str, int], ...]
Linears = tuple[tuple[str, tuple[str, int]], ...]


@dataclass(frozen=True, slots=True)
class Made:
    """One call's activations: ``peak`` bytes alive at once without workspaces, ``scratch`` bytes of workspaces beside
    them, ``outputs`` bytes that stay for what follows, ``flops`` and ``traffic`` (bytes) of the whole call, ``kernels``
    that it launches. ``bounded`` says that another call stands in for one that was not traced."""

    peak: int
    scratch: Interval[int]
    outputs: int
    inputs: int
    flops: int
    traffic: int
    kernels: int
    bounded: bool = False


def made_by(stage: Stage, quantized: Mapping[str, tuple[str, int]]) -> Made | None:
    """Activations of one call of the stage; ``None`` where its component has no trace."""
    return _made(
        stage.component.trace or "",
        stage.call,
        tuple(sorted(stage.sizes.items())),
        tuple(sorted(quantized.items())),
        stage.component.role == VAE,
    )


@lru_cache(maxsize=2048)
def _made(
    key: str,
    call: str,
    sizes: tuple[tuple[str, int], ...],
    quantized: tuple[tuple[str, tuple[str, int]], ...],
    vae: bool,
) -> Made | None:
    found = trace(key)
    if found is None:
        return None
    name = _call(found, call)
    if name is None:
        return None
    given = dict(sizes)
    activations = found.activations(name, given, dict(quantized))
    return Made(
        peak=activations.peak,
        scratch=_workspace(key, activations.peak, given.get("batch", 1)) if vae else Interval.exactly(0),
        outputs=activations.outputs,
        inputs=activations.inputs,
        flops=activations.flops,
        traffic=activations.nbytes,
        kernels=_kernels(found, name, sizes),
        bounded=name != call,
    )


def _call(found: Trace, call: str) -> str | None:
    """The call, else one that takes at least as much: an autoencoder's decoder is larger than its encoder."""
    return call if call in found.calls else "decode" if call == "encode" and "decode" in found.calls else None


@lru_cache(maxsize=512)
def _kernels(found: Trace, call: str, sizes: Sizes) -> int:
    """Allocations stand for kernels: nearly each kernel makes one tensor."""
    return sum(event.kind == ALLOCATE for event in found.calls[call].events(dict(sizes)))


def _workspace(key: str, peak: int, batch: int) -> Interval[int]:
    """Bytes that convolutions take beside ``peak`` traced ones."""
    table: dict[str, Any] = load(ROOM, "workspaces")["components"]
    row = table.get(key) or table["elsewhere"]
    return Interval(*(round(share * peak) for share in row["single" if batch == 1 else "several"]))
