"""Tokens per second of llama.cpp: generation from the bytes every token reads, prompts from arithmetic.

Generating a token reads all weights that are active for it once, and the cache so far; a card or a host cannot be
faster than its memory lets it. A prompt is arithmetic in micro-batches, each of which reads the weights once, and where
weights lie on the host each batch carries them over the link. Products with quantized weights run on 8-bit integer
units (ggml-cuda's mmq kernels), whose rate is not a fixed multiple of the published half-precision rate. Results are
intervals; efficiencies and their meaning stand in ``data/llamacpp.json``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from fitcheck.data_files import load as data
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Gpu
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate
from fitcheck.runtimes.llamacpp.caches import cache_elements, layer_caches
from fitcheck.runtimes.llamacpp.schedule import OFFLOAD_MIN_ROWS
from fitcheck.runtimes.llamacpp.weight_placement import HOST, tensor_device, tied_copy
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


@dataclass(slots=True)
class _Load:
    """Work on one device. ``read`` is bytes a generated token reads; the rest is of prompts: ``packed`` and ``half``
    FLOP a token on integer and half-precision units, ``passed`` bytes that a micro-batch reads, ``held`` bytes of all
    weights there."""

    read: float = 0.0
    packed: float = 0.0
    half: float = 0.0
    passed: float = 0.0
    held: int = 0
    layers: int = 0

    @property
    def flops(self) -> float:
        return self.packed + self.half


def _data() -> dict[str, Any]:
    return data("runtimes.llamacpp", "llamacpp")


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
    prompt = _prompt(loads, host, gpus, result, host_bandwidth)
    if calibration is not None and calibration.records:
        generation = _corrected(generation, calibration.generation, calibration.spread)
        prompt = _corrected(prompt, calibration.prompt, calibration.spread)
    card_bytes = round(sum(load.read for load in loads.values()))
    slow = host.read * 10 > card_bytes
    return TokenSpeed(prompt, generation, card_bytes, round(host.read), "host memory" if slow else "card memory")


def _loads(
    architecture: LanguageArchitecture, tensors: TensorTable, result: LlamaEstimate, depth: int
) -> dict[int, _Load]:
    """Work by device: active experts only, one row of the embedding, the head for a prompt's last token alone."""
    loads: defaultdict[int, _Load] = defaultdict(_Load)
    options = result.options
    batch = max(options.micro, 1)
    head = tied_copy(architecture, tensors)
    for tensor in tensors:
        if tensor.name in ("token_embd.weight", "per_layer_token_embd.weight") or tensor.role in ("nextn", "vision"):
            continue
        load = loads[tensor_device(tensor, architecture, options, result.devices)]
        active = _active_share(tensor, architecture)
        load.read += tensor.nbytes * active
        load.passed += tensor.nbytes * min(1.0, batch * active)
        load.held += tensor.nbytes
        if tensor.name == "output.weight":
            continue
        if tensor.quant.quantized:
            load.packed += 2 * tensor.elements * active / _tile_fill(batch, active)
        else:
            load.half += 2 * tensor.elements * active
    if head is not None:
        load = loads[result.devices.output]
        load.read += head.nbytes
        load.passed += head.nbytes
        load.held += head.nbytes
    caches = layer_caches(architecture, options)
    for layer, (device, cache_) in enumerate(zip(result.devices.layers, caches, strict=True)):
        load = loads[HOST if options.cache_on_host else device]
        cells = min(depth, cache_.cells)  # a window holds no more
        read = cache_.attention * cells / max(cache_.cells, 1) + cache_.recurrent / max(options.slots, 1)
        load.read += read
        load.passed += read
        load.half += 2.0 * architecture.blocks[layer].heads * _attended(architecture, layer, options) * cells
        load.layers += 1
    return dict(loads)


def _tile_fill(batch: int, active: float) -> float:
    """Share of a tile's columns that tokens fill: the tile is chosen for the whole batch, but an expert sees only its
    ``active`` share of the tokens, and its tiles are computed in full."""
    tile = min(int(_data()["prefill"]["tile"]["columns"]), -(-batch // 8) * 8)
    columns = max(1.0, batch * active)
    return 1.0 if active == 1.0 else columns / (ceil(columns / tile) * tile)


def _attended(architecture: LanguageArchitecture, layer: int, options: LlamaOptions) -> int:
    """Elements of K and V that one query head multiplies for each cached token."""
    block = architecture.blocks[layer]
    if architecture.latent is None:
        return block.key_length + block.value_length if block.attention else 0
    keys, _ = cache_elements(architecture, layer, options)
    latent = architecture.latent
    if keys == latent.rank + latent.rope:
        return keys + latent.rank
    return latent.key_length + latent.value_length


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


def integer_rate(card: Card) -> float | None:
    """Dense 8-bit integer matrix rate in operations/s; ``None`` without a published matrix rate.

    GeForce cards halve half-precision products that accumulate in f32 and leave integer ones alone, so on tensor cores
    of known generations the rate follows from the plain f32 rate; elsewhere it is twice the half-precision one.
    """
    if card.tensor_flops is None:
        return None
    factors: dict[str, float] = _data()["integer_rate"]["per_f32"]
    if card.vendor == "NVIDIA" and card.compute_capability is not None and card.shader_flops is not None:
        major, minor = card.compute_capability
        factor = factors.get(f"{major}.{minor}")
        if factor is not None:
            return factor * card.shader_flops
    return float(_data()["integer_rate"]["per_half"]) * card.tensor_flops.value


def _prompt_rates(card: Card) -> tuple[Interval[float], Interval[float]] | None:
    """(integer, half-precision) FLOP/s that large batches achieve on a card; ``None`` where nothing is known of it."""
    prefill, integer = _data()["prefill"], integer_rate(card)
    if integer is not None and card.tensor_flops is not None:
        return _between(prefill["packed"], integer), _between(prefill["matrix"], card.tensor_flops.value)
    if card.shader_flops is None:
        return None
    plain = _between(prefill["no_tensor_cores"], card.shader_flops)
    return plain, plain


def _prompt(
    loads: dict[int, _Load], host: _Load, gpus: Sequence[Gpu], result: LlamaEstimate, host_bandwidth: float | None
) -> Interval[float] | None:
    """Tokens per second of a prompt, from the seconds of one full micro-batch: on each card arithmetic or reading the
    weights, whichever takes longer, launches, and host weights carried over the link to the first card."""
    decode, batch = _data()["decode"], max(result.options.micro, 1)
    overhead, each = decode["token_overhead_seconds"], decode["layer_overhead_seconds"]
    found = []
    for slow, fast in (("high", "low"), ("best", "best"), ("low", "high")):
        seconds = float(overhead[slow])
        for index, load in loads.items():
            card = gpus[index].card
            rates = _prompt_rates(card)
            if rates is None or card.memory_bandwidth is None:
                return None
            packed, half = (getattr(rate, fast) for rate in rates)
            reading = load.passed / (card.memory_bandwidth * decode["card_bandwidth"][fast])
            seconds += max(batch * (load.packed / packed + load.half / half), reading) + each[slow] * load.layers
        if host.held:
            carried = _carried(host, batch, gpus, result, host_bandwidth)
            if carried is None:
                return None
            seconds += getattr(carried, slow)
        found.append(batch / seconds)
    return Interval(*found)


def _carried(
    host: _Load, batch: int, gpus: Sequence[Gpu], result: LlamaEstimate, host_bandwidth: float | None
) -> Interval[float] | None:
    """Seconds for the host's part of one batch: over the link where a card takes it, else on the CPU, which computes or
    reads its weights, whichever takes longer."""
    if not gpus or not result.options.op_offload or batch < OFFLOAD_MIN_ROWS:
        flops, rate = _data()["prefill"]["host_flops"], host_rate(host_bandwidth)
        low, best, high = (
            max(batch * host.flops / flops[end], host.passed / getattr(rate, end)) for end in ("high", "best", "low")
        )
        return Interval(low, best, high)
    link = link_rate(gpus[0].link, pinned=not result.options.mmap)
    rates = _prompt_rates(gpus[0].card)
    if link is None or rates is None:
        return None
    packed, half = rates
    low, best, high = (
        host.held / getattr(link, end) + batch * (host.packed / getattr(packed, end) + host.half / getattr(half, end))
        for end in ("high", "best", "low")
    )
    return Interval(low, best, high)


def _corrected(speed: Interval[float] | None, factor: float, spread: float) -> Interval[float] | None:
    if speed is None:
        return None
    best = speed.best * factor
    return Interval(best * (1 - spread), best, best * (1 + spread))
