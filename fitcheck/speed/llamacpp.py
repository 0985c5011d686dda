"""Tokens per second of llama.cpp: generation from the bytes every token reads, prompts from arithmetic.

Generating a token reads all weights that are active for it once, and the cache so far; a card or a host cannot be
faster than its memory lets it. A prompt is arithmetic in batches, and where weights lie on the host each batch carries
them over the link. Results are intervals; efficiencies and their meaning stand in ``data/llamacpp.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fitcheck.hardware.machine import Gpu
from fitcheck.memory.llamacpp.cache import layer_caches
from fitcheck.memory.llamacpp.estimate import LlamaEstimate
from fitcheck.memory.llamacpp.weights import HOST, tensor_device, tied_copy
from fitcheck.models.language import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.speed.rates import link_rate
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class TokenSpeed:
    """Tokens per second; ``None`` where a rate of the card is unknown. ``binding`` says what generation waits for."""

    prompt: Interval[float] | None
    generation: Interval[float] | None
    card_bytes_per_token: int
    host_bytes_per_token: int
    binding: str


@dataclass(frozen=True, slots=True)
class LlamaCalibration:
    """Corrections from records of this card: measured over predicted rates. ``spread`` is the half-width left."""

    generation: float = 1.0
    prompt: float = 1.0
    spread: float = 0.15
    records: int = 0


@dataclass(frozen=True, slots=True)
class _Load:
    """What one token reads and computes on one device. Bytes and FLOP."""

    read: float = 0.0
    flops: float = 0.0
    layers: int = 0
    held: int = 0

    def plus(self, read: float, flops: float, held: int) -> _Load:
        return _Load(self.read + read, self.flops + flops, self.layers, self.held + held)


@cache
def _data() -> dict[str, Any]:
    text = resources.files("fitcheck.speed").joinpath("data/llamacpp.json").read_text("utf-8")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def token_speed(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    result: LlamaEstimate,
    gpus: Sequence[Gpu],
    depth: int | None = None,
    host_bandwidth: float | None = None,
    calibration: LlamaCalibration | None = None,
) -> TokenSpeed:
    """Speed of one sequence after ``depth`` tokens (half of the context by default) on the cards of ``result``.

    ``host_bandwidth`` is in B/s as measured or known; without it a wide default stands in.
    """
    depth = min(depth if depth is not None else result.options.context // 2, result.options.context)
    loads = _loads(architecture, tensors, result, depth)
    host = loads.pop(HOST, _Load())
    generation = _generation(loads, host, gpus, host_bandwidth)
    prompt = _prompt(loads, host, gpus, result)
    if calibration is not None and calibration.records:
        generation = _corrected(generation, calibration.generation, calibration.spread)
        prompt = _corrected(prompt, calibration.prompt, calibration.spread)
    card_bytes = round(sum(load.read for load in loads.values()))
    slow = host.read * 10 > card_bytes
    return TokenSpeed(prompt, generation, card_bytes, round(host.read), "host memory" if slow else "card memory")


def _loads(
    architecture: LanguageArchitecture, tensors: TensorTable, result: LlamaEstimate, depth: int
) -> dict[int, _Load]:
    """Bytes read and FLOP of one token by device: active experts only, one row of the embedding."""
    loads: dict[int, _Load] = {}
    for tensor in tensors:
        if tensor.name in ("token_embd.weight", "per_layer_token_embd.weight") or tensor.role in ("nextn", "vision"):
            continue
        place = tensor_device(tensor, architecture, result.options, result.devices)
        active = _active_share(tensor, architecture)
        loads[place] = loads.get(place, _Load()).plus(
            tensor.nbytes * active, 2 * tensor.elements * active, tensor.nbytes
        )
    head = tied_copy(architecture, tensors)
    if head is not None:
        place = result.devices.output
        loads[place] = loads.get(place, _Load()).plus(head.nbytes, 2 * head.elements, head.nbytes)
    context = max(result.options.padded_context, 1)
    for device, layer in zip(result.devices.layers, layer_caches(architecture, result.options), strict=True):
        place = HOST if result.options.cache_on_host else device
        filled = min(depth, layer.cells) / max(layer.cells, 1) if layer.cells < context else depth / context
        read = layer.attention * filled + layer.recurrent / max(result.options.slots, 1)
        found = loads.get(place, _Load()).plus(read, read, 0)
        loads[place] = _Load(found.read, found.flops, found.layers + 1, found.held)
    return loads


def _active_share(tensor: Tensor, architecture: LanguageArchitecture) -> float:
    if tensor.role != "expert" or not architecture.experts or tensor.layer is None:
        return 1.0
    used = architecture.blocks[min(tensor.layer, architecture.layers - 1)].experts_used
    return used / architecture.experts if used else 1.0


def _between(efficiency: dict[str, float], rate: float) -> Interval[float]:
    return Interval(rate * efficiency["low"], rate * efficiency["best"], rate * efficiency["high"])


def _generation(
    loads: dict[int, _Load], host: _Load, gpus: Sequence[Gpu], host_bandwidth: float | None
) -> Interval[float] | None:
    """Devices work one after the other on a token, so their seconds add up."""
    decode = _data()["decode"]
    overhead, each = decode["token_overhead_seconds"], decode["layer_overhead_seconds"]
    seconds = [overhead["high"], overhead["best"], overhead["low"]]
    for index, load in loads.items():
        bandwidth = gpus[index].card.memory_bandwidth
        if bandwidth is None:
            return None
        rate = _between(decode["card_bandwidth"], bandwidth)
        for position, (at, layer) in enumerate(
            zip((rate.low, rate.best, rate.high), (each["high"], each["best"], each["low"]), strict=True)
        ):
            seconds[position] += load.read / at + layer * load.layers
    if host.read:
        rate = host_rate(host_bandwidth)
        for position, at in enumerate((rate.low, rate.best, rate.high)):
            seconds[position] += host.read / at
    return Interval(1 / seconds[0], 1 / seconds[1], 1 / seconds[2])


def host_rate(host_bandwidth: float | None) -> Interval[float]:
    """B/s that CPU kernels read weights with, from the host's bandwidth or, unknown, a desktop's range."""
    efficiency = _data()["decode"]["host_bandwidth"]
    if host_bandwidth is not None:
        return _between(efficiency, host_bandwidth)
    default = _data()["host_bandwidth_default"]
    return Interval(
        default["low"] * efficiency["low"], default["best"] * efficiency["best"], default["high"] * efficiency["high"]
    )


def _prompt(loads: dict[int, _Load], host: _Load, gpus: Sequence[Gpu], result: LlamaEstimate) -> Interval[float] | None:
    """Seconds of one full micro-batch: arithmetic on the cards, host weights carried over the link to the first."""
    prefill, batch = _data()["prefill"], max(result.options.micro, 1)
    seconds = [0.0, 0.0, 0.0]
    for index, load in loads.items():
        card = gpus[index].card
        if card.tensor_flops is not None:
            rate = _between(prefill["matrix"], card.tensor_flops.value)
        elif card.shader_flops is not None:
            rate = _between(prefill["no_tensor_cores"], card.shader_flops)
        else:
            return None
        for position, at in enumerate((rate.low, rate.best, rate.high)):
            seconds[position] += batch * load.flops / at
    if host.held:
        carried = _carried(host, batch, gpus, result)
        if carried is None:
            return None
        for position, extra in enumerate((carried.high, carried.best, carried.low)):
            seconds[position] += extra
    if not seconds[1]:
        return None
    return Interval(batch / seconds[0], batch / seconds[1], batch / seconds[2])


def _carried(host: _Load, batch: int, gpus: Sequence[Gpu], result: LlamaEstimate) -> Interval[float] | None:
    """Seconds for the host's part of one batch: over the link where a card takes it, else on the CPU."""
    flops = _data()["prefill"]["host_flops"]
    alone = Interval(
        batch * host.flops / flops["high"], batch * host.flops / flops["best"], batch * host.flops / flops["low"]
    )
    if not gpus or not result.options.op_offload or batch < 32:
        return alone
    rate = link_rate(gpus[0].link, pinned=not result.options.mmap)
    if rate is None:
        return None
    return Interval(host.held / rate.high, host.held / rate.best, host.held / rate.low)


def _corrected(speed: Interval[float] | None, factor: float, spread: float) -> Interval[float] | None:
    if speed is None:
        return None
    best = speed.best * factor
    return Interval(best * (1 - spread), best, best * (1 + spread))
