"""Builds a cell's model and puts every weight where its placement wants it: card, pinned host memory, or both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from bench.engines.sensenova.attention import RotaryEmbedding
from bench.engines.sensenova.network import Flags, SenseNovaNetwork
from bench.engines.sensenova.streaming.device import PAGE, Accelerator
from bench.engines.sensenova.streaming.policy import AlwaysResident, Policy, StreamedLayer, StreamedTensor
from bench.engines.sensenova.streaming.ring import ALIGNMENT, RingPolicy, StreamedUnit, TensorPlace, Unit
from bench.engines.sensenova.streaming.upstream import UpstreamPolicy
from bench.engines.sensenova.vision import VisionEmbeddings
from bench.engines.sensenova.weight_sources import (
    WeightSource,
    fill,
    plain_linear,
    quantize_linears,
    runtime_bytes,
    runtime_shape,
)
from bench.told import LoadReport
from fitcheck.memory.allocator_blocks import pinned_block
from fitcheck.models.families.sensenova.architecture import SHARED, SenseNovaArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.sensenova.streaming import PrefixWeights, Stream, Streaming

_PREFIX_NAMES = {
    "language_model.model.embed_tokens.weight": "embed_tokens",
    "language_model.lm_head.weight": "lm_head",
}
# tensors that go to the card are filled in batches of about this size; a larger tensor is a batch of its own
_STAGING = 1 << 28


@dataclass(slots=True)
class PinnedBytes:
    """Host memory held for weights, in bytes as asked for and as the allocator rounds it."""

    requested: int = 0
    rounded: int = 0
    registered: list[torch.Tensor] = field(default_factory=list)


class Placing:
    """Places one model: builds its skeleton, fills it from ``source`` and puts each tensor where ``placement`` says."""

    def __init__(
        self,
        arch: SenseNovaArchitecture,
        table: TensorTable,
        source: WeightSource,
        placement: Streaming,
        accelerator: Accelerator,
    ):
        self.arch, self.table, self.source = arch, table, source
        self.placement, self.accelerator = placement, accelerator
        self.pinned = PinnedBytes()
        self.on_device = 0
        self._jobs: list[Callable[[], None]] = []

    def skeleton(self) -> SenseNovaNetwork:
        """The module tree without memory."""
        with torch.device("meta"):
            model = SenseNovaNetwork(self.arch, plain_linear)
        model.requires_grad_(False)
        quantize_linears(model, self.table)
        return model.eval()

    def place(self, model: SenseNovaNetwork) -> SenseNovaNetwork:
        """Give every weight its memory and bytes and attach the streaming policy."""
        self._rotary(model)
        model.flags = Flags(every_layer=self.placement.revision == "v0", read=self.accelerator.device.type != "meta")
        self._outer(model)
        if self.placement.policy == "ring":
            # Built on first use this small table would settle in the hole that embedding and head leave, and they would
            # need new memory when they come back for the next image.
            tower = model.get_submodule("fm_modules.vision_model_mot_gen.embeddings")
            assert isinstance(tower, VisionEmbeddings)
            tower.build_rope(self.accelerator.device)
        model.language_model.model.policy = self._policy(model)
        if self.placement.revision == "v0":  # built with the module then, on first use since
            for tower in (module for module in model.modules() if isinstance(module, VisionEmbeddings)):
                tower.build_rope(self.accelerator.device)
        return model

    def load(self) -> tuple[SenseNovaNetwork, LoadReport]:
        """The model, ready to run, and where its bytes went; returns when all copies are done."""
        started = time.perf_counter()
        model = self.place(self.skeleton())
        self.accelerator.synchronize()
        report = LoadReport(
            weights=self.source.kind,
            tensors=len(self.table),
            table_digest=self.table.digest,
            weight_bytes=sum(runtime_bytes(tensor) for tensor in self.table),
            pinned_bytes=self.pinned.requested,
            pinned_rounded_bytes=self.pinned.rounded,
            pageable_bytes=0,
            device_bytes=self.on_device,
            seconds=time.perf_counter() - started,
        )
        return model, report

    def release(self) -> None:
        """Unpins the host memory that was pinned in place; the model cannot stream after it."""
        for buffer in self.pinned.registered:
            self.accelerator.unregister(buffer)
        self.pinned.registered.clear()

    def _rotary(self, model: SenseNovaNetwork) -> None:
        for module in model.modules():
            if isinstance(module, RotaryEmbedding):
                module.inverse_frequencies = module.frequencies()

    def _outer(self, model: SenseNovaNetwork) -> None:
        """Weights outside the layers, and the layers too in mode ``full``, go to the card through staging."""
        streams = self.placement.stream is not Stream.NOTHING
        moving = streams and self.placement.prefix_weights is not PrefixWeights.RESIDENT
        chosen = [
            tensor
            for tensor in self.table
            if not (streams and tensor.layer is not None) and not (moving and tensor.name in _PREFIX_NAMES)
        ]
        self._to_device(model, chosen)
        if not streams:
            self._buffers_to_device(model)

    def _buffers_to_device(self, model: nn.Module) -> None:
        for name, buffer in list(model.named_buffers()):
            _set_buffer(model, name, self.accelerator.upload(buffer, False))

    def _to_device(self, model: nn.Module, tensors: list[Tensor]) -> None:
        batch: list[tuple[Tensor, torch.Tensor]] = []
        room = _STAGING
        device = self.accelerator.device
        staging: torch.Tensor | None = None
        for tensor in tensors:
            shape, dtype = runtime_shape(tensor)
            parameter = torch.empty(shape, dtype=dtype, device=device)
            _set(model, tensor.name, parameter)
            self.on_device += runtime_bytes(tensor)
            size = runtime_bytes(tensor)
            if size > room:
                staging = self._flush(batch, staging)
                batch, room = [], _STAGING
            batch.append((tensor, parameter))
            room -= size
        self._flush(batch, staging)

    def _flush(self, batch: list[tuple[Tensor, torch.Tensor]], staging: torch.Tensor | None) -> torch.Tensor | None:
        """Fill the staging buffer with the batch's tensors in parallel, then copy each to its place on the card."""
        if not batch:
            return staging
        total = sum(-(-runtime_bytes(tensor) // ALIGNMENT) * ALIGNMENT for tensor, _ in batch)
        if staging is None or staging.numel() < total:
            staging = self.accelerator.host_buffer(total)
        jobs, copies, at = [], [], 0
        for tensor, parameter in batch:
            part = staging[at : at + runtime_bytes(tensor)]
            jobs.append(partial(self._read, tensor, part))
            copies.append((parameter, part))
            at += -(-part.numel() // ALIGNMENT) * ALIGNMENT
        fill(jobs)
        for parameter, part in copies:
            parameter.view(-1).view(torch.uint8).copy_(part)
        return staging

    def _read(self, tensor: Tensor, into: torch.Tensor) -> None:
        self.source.read(tensor, into)

    def _policy(self, model: SenseNovaNetwork) -> Policy:
        if self.placement.stream is Stream.NOTHING:
            return AlwaysResident()
        if self.placement.policy == "ring":
            return self._ring(model)
        layers = [StreamedLayer() for _ in range(self.arch.layers)]
        prefix: dict[str, StreamedTensor] = {}
        jobs: list[Callable[[], None]] = []
        for tensor in self._streamed():
            parameter = model.get_parameter(tensor.name)
            shape, dtype = runtime_shape(tensor)
            raw = self._pin(runtime_bytes(tensor))
            jobs.append(partial(self._read, tensor, raw))
            streamed = StreamedTensor(parameter, raw.view(dtype).view(shape))
            if tensor.name in _PREFIX_NAMES:
                prefix[_PREFIX_NAMES[tensor.name]] = streamed
            else:
                layers[_layer(tensor)].groups[tensor.branch].append(streamed)
            _set(model, tensor.name, streamed.host)
            streamed.tensor = model.get_parameter(tensor.name)
        for index, layer in enumerate(model.language_model.model.layers):
            for name, buffer in list(layer.named_buffers()):
                raw = self._pin(buffer.numel() * buffer.element_size())
                host = raw.view(buffer.dtype).view(buffer.shape)
                host.copy_(buffer)
                layers[index].groups[SHARED].append(StreamedTensor(_set_buffer(layer, name, host), host))
        fill(jobs)
        return UpstreamPolicy(self.placement, self.accelerator, layers, prefix)

    def _streamed(self) -> Iterator[Tensor]:
        moving = self.placement.prefix_weights is not PrefixWeights.RESIDENT
        for tensor in self.table:
            if tensor.layer is not None or (moving and tensor.name in _PREFIX_NAMES):
                yield tensor

    def _pin(self, nbytes: int) -> torch.Tensor:
        self.pinned.requested += nbytes
        self.pinned.rounded += pinned_block(nbytes)
        return self.accelerator.pinned(nbytes)

    def _ring(self, model: SenseNovaNetwork) -> Policy:
        """One exactly sized host buffer a unit, filled and then pinned in place by several threads."""
        self._buffers_to_device(model)
        grouped: dict[Unit | str, list[Tensor]] = {}
        for tensor in self._streamed():
            grouped.setdefault(self._unit_of(tensor), []).append(tensor)
        units: dict[Unit, StreamedUnit] = {}
        prefix: dict[str, StreamedTensor] = {}
        jobs = []
        for key, tensors in grouped.items():
            layout, size = _lay_out(tensors)
            area = self.accelerator.host_buffer(-(-size // PAGE) * PAGE)
            self.pinned.requested += sum(runtime_bytes(tensor) for tensor in tensors)
            self.pinned.rounded += area.numel()
            self.pinned.registered.append(area)
            jobs.append(partial(self._fill_unit, tensors, layout, area))
            host = area[:size]
            for tensor, place in zip(tensors, layout, strict=True):
                _set(model, tensor.name, place.of(host))
            parameters = [model.get_parameter(tensor.name) for tensor in tensors]
            if isinstance(key, str):
                prefix[key] = StreamedTensor(parameters[0], layout[0].of(host))
            else:
                units[key] = StreamedUnit(host, list(parameters), layout)
        fill(jobs)
        return RingPolicy(self.placement, self.accelerator, units, self.arch.layers, prefix)

    def _fill_unit(self, tensors: list[Tensor], layout: tuple[TensorPlace, ...], area: torch.Tensor) -> None:
        for tensor, place in zip(tensors, layout, strict=True):
            self._read(tensor, area[place.offset : place.offset + place.nbytes])
        self.accelerator.register(area)

    def _unit_of(self, tensor: Tensor) -> Unit | str:
        if tensor.name in _PREFIX_NAMES:
            return _PREFIX_NAMES[tensor.name]
        return (_layer(tensor), "layer" if self.placement.stream is Stream.LAYER else tensor.branch)


def _layer(tensor: Tensor) -> int:
    assert tensor.layer is not None, f"{tensor.name} is streamed and stands in no layer"
    return tensor.layer


def _lay_out(tensors: list[Tensor]) -> tuple[tuple[TensorPlace, ...], int]:
    """Places one after another, aligned as a kernel likes it, and the bytes of all."""
    places, at = [], 0
    for tensor in tensors:
        shape, dtype = runtime_shape(tensor)
        places.append(TensorPlace(at, runtime_bytes(tensor), dtype, shape))
        at += -(-runtime_bytes(tensor) // ALIGNMENT) * ALIGNMENT
    return tuple(places), at


def _set(model: nn.Module, name: str, data: torch.Tensor) -> None:
    """Give a parameter its bytes. A block-quantized one stays diffusers' parameter class with its type."""
    owner_name, _, leaf = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    old = owner.get_parameter(leaf)
    if hasattr(old, "quant_type"):
        quantized: Callable[..., nn.Parameter] = type(old)
        setattr(owner, leaf, quantized(data, quant_type=old.quant_type))
    else:
        setattr(owner, leaf, nn.Parameter(data, requires_grad=False))


def _set_buffer(model: nn.Module, name: str, data: torch.Tensor) -> torch.Tensor:
    """Replace a buffer by an alias of ``data``, which a policy may point elsewhere without touching ``data``."""
    owner_name, _, leaf = name.rpartition(".")
    alias = data.detach()
    setattr(model.get_submodule(owner_name), leaf, alias)
    return alias
