"""The compute buffers of each device: build the graph, schedule it, allocate it.

The result depends on the build, the micro-batch, flash attention and on what lies on the host, exactly as llama.cpp's
own reservation does, because the same three steps are replayed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fitcheck.errors import NotModelledError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.caches import LayerCache
from fitcheck.runtimes.llamacpp.encoder_graph import encoder_graph
from fitcheck.runtimes.llamacpp.graph import Graph
from fitcheck.runtimes.llamacpp.graph_allocator import allocate
from fitcheck.runtimes.llamacpp.graph_layers import Builder, GraphPlan
from fitcheck.runtimes.llamacpp.layer_facts import block_numbers, table_facts
from fitcheck.runtimes.llamacpp.prediction import prediction_graph
from fitcheck.runtimes.llamacpp.schedule import schedule
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, TensorPlaces, tied_copy

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
    caches: tuple[LayerCache, ...],
) -> ComputeBuffers:
    """Replay the reservation of llama.cpp for the largest micro-batch, once for all that make the same graph."""
    key = None if options.overrides else _graph_key(architecture, tensors, options, devices)
    found = None if key is None else _known.get(key)
    if found is None:
        places = TensorPlaces(architecture, table_facts(tensors).names, options, devices)
        plan = _plan(architecture, tensors, options, devices, places, caches)
        kept, builder = _kept_layers(plan), Builder(plan)
        graph = encoder_graph(builder, kept) if architecture.encoder else builder.build_graph(kept)
        found = _allocated(plan, graph, devices)
        if key is not None:
            _remember(key, found)
    return found


def predicting_buffers(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
    places: Mapping[str, int],
    caches: tuple[LayerCache, ...],
) -> ComputeBuffers:
    """The same for the context that drafts with the layers of ``architecture``; ``places`` is where the model's
    tensors lie."""
    plan = _plan(architecture, tensors, options, devices, places, caches)
    return _allocated(plan, prediction_graph(Builder(plan), _kept_layers(plan)[-1]), devices)


def _plan(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
    places: Mapping[str, int],
    caches: tuple[LayerCache, ...],
) -> GraphPlan:
    host = devices.cards
    names = _Tensors(table_facts(tensors).names)
    return GraphPlan(
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


def _allocated(plan: GraphPlan, graph: Graph, devices: Devices) -> ComputeBuffers:
    architecture, options, host = plan.architecture, plan.options, plan.host
    copies = PIPELINE_COPIES if _pipelined(options, devices) else 1
    nodes, leaves = schedule(graph, host + 1, options.op_offload, copies)
    sizes = allocate(nodes, leaves, [options.alignment] * host + [HOST_ALIGNMENT])
    row = architecture.embedding if architecture.encoder else architecture.vocabulary
    output = row * options.slots * 4
    return ComputeBuffers(tuple(sizes[:host]), sizes[host], output)


def _pipelined(options: LlamaOptions, devices: Devices) -> bool:
    return (
        devices.cards > 1
        and options.split_mode == "layer"
        and devices.full_offload
        and not options.cache_on_host
        and not _overridden(options)
    )


_known: OrderedDict[Hashable, ComputeBuffers] = OrderedDict()
_MOST_KNOWN = 1 << 13


def _remember(key: Hashable, found: ComputeBuffers) -> None:
    _known[key] = found
    if len(_known) > _MOST_KNOWN:
        _known.popitem(last=False)


def _graph_key(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> Hashable:
    """All that a graph and its place in memory depend on: architecture and options, which devices there are, and of
    each kept layer its block, its device, its tensors' shapes and the bytes that may be copied from the host.

    Which layers they are makes no difference, and neither do types of what lies on cards.
    """
    facts, blocks = table_facts(tensors), block_numbers(architecture)
    layers: list[tuple[int, ...]] = []
    signatures: list[tuple[int, ...]] = []
    for index, device in enumerate(devices.layers):
        one = facts.layer(index)
        experts = index < options.cpu_moe_layers
        held, sizes = (one.held, one.sizes) if device == HOST else (one.experts_held, one.expert_sizes)
        if device != HOST and not experts:
            held = sizes = 0
        signatures.append((blocks[index][0], device, sizes))
        layers.append((*blocks[index], device, one.shapes, held if devices.cards else 0))
    kept = _kept(architecture, devices.layers, signatures)
    moves = devices.cards and (architecture.encoder or not devices.full_offload)
    return (
        architecture,
        options.with_(gpu_layers=None, cpu_moe_layers=0),
        devices.cards,
        devices.output,
        devices.full_offload,
        devices.layers[:1] + devices.layers[-1:],
        next((device for device in devices.layers if device != HOST), HOST),
        _pipelined(options, devices),
        (facts.outside, facts.outside_held if moves else 0),
        tuple(layers[index] for index in kept),
    )


class _Tensors(dict[str, Tensor]):
    """The file's tensors by name. A graph that asks for one that is not there is not the graph of this file."""

    def __missing__(self, name: str) -> Tensor:
        raise NotModelledError(f"the file has no tensor {name}, so its graph is not the one that is modelled here")


def _overridden(options: LlamaOptions) -> bool:
    return bool(options.overrides or options.cpu_moe_layers)


def _kept_layers(plan: GraphPlan) -> tuple[int, ...]:
    """Layers that matter: a few of each run of alike ones, always the first and last of a device."""
    signatures = [_signature(plan, index) for index in range(plan.architecture.layers)]
    return _kept(plan.architecture, plan.layers, signatures)


def _kept(
    architecture: LanguageArchitecture, devices: Sequence[int], signatures: Sequence[tuple[object, ...]]
) -> tuple[int, ...]:
    kept: list[int] = []
    seen: dict[tuple[object, ...], int] = {}
    main = [index for index, block in enumerate(architecture.blocks) if not block.prediction]
    for position, index in enumerate(main):
        edge = position + 1 == len(main) or devices[main[position + 1]] != devices[index]
        count = seen[signatures[index]] = seen.get(signatures[index], 0) + 1
        if count <= _ALIKE or edge:
            kept.append(index)
    return tuple(kept)


def _signature(plan: GraphPlan, index: int) -> tuple[object, ...]:
    prefix = f"blk.{index}."
    return (plan.architecture.blocks[index], plan.layers[index], *_on_host(plan, prefix))


def _on_host(plan: GraphPlan, prefix: str) -> Iterable[object]:
    """Sizes of the layer's host weights: a card that takes them over needs room for the largest."""
    for name in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate", "ffn_up", "ffn_down", "attn_q"):
        tensor = plan.names.get(f"{prefix}{name}.weight")
        if tensor is not None and plan.place(tensor.name) == plan.host:
            yield (name, tensor.nbytes)
