"""The compute buffers of each device: build the graph, schedule it, allocate it.

The result depends on the build, the micro-batch, flash attention and on what lies on the host, exactly as llama.cpp's
own reservation does, because the same three steps are replayed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fitcheck.errors import NotModelledError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.caches import LayerCache
from fitcheck.runtimes.llamacpp.encoder_graph import encoder_graph
from fitcheck.runtimes.llamacpp.graph_allocator import allocate
from fitcheck.runtimes.llamacpp.graph_layers import Builder, Plan
from fitcheck.runtimes.llamacpp.prediction import prediction_graph
from fitcheck.runtimes.llamacpp.schedule import schedule
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, WeightBuffers, tied_copy

HOST_ALIGNMENT = 64
PIPELINE_COPIES = 4
# how many alike layers in a row are kept: the third one finds the memory as the second left it
_ALIKE = 3


@dataclass(frozen=True, slots=True)
class ComputeBuffers:
    """Bytes a card and on the host. ``output`` is the logits buffer on the host."""

    cards: tuple[int, ...]
    host: int
    output: int

    def with_(self, other: ComputeBuffers | None) -> ComputeBuffers:
        """Both contexts' buffers together."""
        if other is None:
            return self
        cards = tuple(one + two for one, two in zip(self.cards, other.cards, strict=True))
        return ComputeBuffers(cards, self.host + other.host, self.output + other.output)


def compute_buffers(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
    weights: WeightBuffers,
    caches: tuple[LayerCache, ...],
    *,
    predicts: bool = False,
) -> ComputeBuffers:
    """Replay the reservation of llama.cpp for the largest micro-batch; ``predicts`` is the context that drafts with
    the layers of ``architecture``."""
    host = devices.cards
    places = {
        tensor.name: host if place == HOST else place for tensor, place in zip(tensors, weights.placed, strict=True)
    }
    names = _Tensors({tensor.name: tensor for tensor in tensors})
    plan = Plan(
        architecture=architecture,
        options=options,
        names=names,
        places=places,
        layers=tuple(host if device == HOST else device for device in devices.layers),
        output=host if devices.output == HOST else devices.output,
        host=host,
        caches=caches,
        head=names.get("output.weight") or tied_copy(architecture, tensors),
    )
    pipelined = (
        devices.cards > 1
        and options.split_mode == "layer"
        and devices.full_offload
        and not options.cache_on_host
        and not _overridden(options)
    )
    builder = Builder(plan)
    kept = _kept_layers(plan)
    graph = (
        prediction_graph(builder, kept[-1])
        if predicts
        else encoder_graph(builder, kept)
        if architecture.encoder
        else builder.build_graph(kept)
    )
    nodes, leaves = schedule(graph, host + 1, options.op_offload, PIPELINE_COPIES if pipelined else 1)
    sizes = allocate(nodes, leaves, [options.alignment] * host + [HOST_ALIGNMENT])
    row = architecture.embedding if architecture.encoder else architecture.vocabulary
    output = row * options.slots * 4
    return ComputeBuffers(tuple(sizes[:host]), sizes[host], output)


class _Tensors(dict[str, Tensor]):
    """The file's tensors by name. A graph that asks for one that is not there is not the graph of this file."""

    def __missing__(self, name: str) -> Tensor:
        raise NotModelledError(f"the file has no tensor {name}, so its graph is not the one that is modelled here")


def _overridden(options: LlamaOptions) -> bool:
    return bool(options.overrides or options.cpu_moe_layers)


def _kept_layers(plan: Plan) -> tuple[int, ...]:
    """Layers that matter: a few of each run of alike ones, always the first and last of a device."""
    kept: list[int] = []
    seen: dict[tuple[object, ...], int] = {}
    main = [index for index, block in enumerate(plan.architecture.blocks) if not block.prediction]
    for position, index in enumerate(main):
        signature = _signature(plan, index)
        edge = position + 1 == len(main) or plan.layers[main[position + 1]] != plan.layers[index]
        seen[signature] = seen.get(signature, 0) + 1
        if seen[signature] <= _ALIKE or edge:
            kept.append(index)
    return tuple(kept)


def _signature(plan: Plan, index: int) -> tuple[object, ...]:
    prefix = f"blk.{index}."
    return (plan.architecture.blocks[index], plan.layers[index], *_on_host(plan, prefix))


def _on_host(plan: Plan, prefix: str) -> Iterable[object]:
    """Sizes of the layer's host weights: a card that takes them over needs room for the largest."""
    for name in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate", "ffn_up", "ffn_down", "attn_q"):
        tensor = plan.names.get(f"{prefix}{name}.weight")
        if tensor is not None and plan.places[tensor.name] == plan.host:
            yield (name, tensor.nbytes)
