"""The graph of a run, built, scheduled and put down as a tape of its allocations."""

from __future__ import annotations

from collections.abc import Mapping

from fitcheck.errors import NotModelledError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.altup import altup_graph
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.arrangement import Arrangement, main_layers, pipelined
from fitcheck.runtimes.llamacpp.caches import LayerCache
from fitcheck.runtimes.llamacpp.encoder_graph import encoder_graph
from fitcheck.runtimes.llamacpp.graph import Graph, Node
from fitcheck.runtimes.llamacpp.graph_allocator import allocate, record
from fitcheck.runtimes.llamacpp.graph_layers import Builder
from fitcheck.runtimes.llamacpp.graph_parts import GraphPlan
from fitcheck.runtimes.llamacpp.layer_facts import tensor_names
from fitcheck.runtimes.llamacpp.prediction import prediction_graph
from fitcheck.runtimes.llamacpp.schedule import schedule
from fitcheck.runtimes.llamacpp.segments import OUTSIDE, Numbered, Opened, numbered, segments
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, TensorPlaces, tied_copy

PIPELINE_COPIES = 4


def worked_out(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
    caches: tuple[LayerCache, ...],
    arranged: Arrangement,
) -> tuple[Numbered, ...] | None:
    """The segments of the graph of the layers that are kept; ``None`` where it shows that others do not repeat them."""
    places = TensorPlaces(architecture, tensor_names(tensors), options, devices)
    plan = _plan(architecture, tensors, options, devices, places, caches)
    kept = tuple(arranged.main[position] for position in arranged.repeats.kept)
    graph = _graph(plan, kept)
    parts = graph.parts
    nodes, leaves = _scheduled(plan, graph, devices)
    tape = record(nodes, leaves, plan.host + 1, parts)
    blanks = {blank.slot: layer for layer, blank in graph.blanks if blank.slot is not None}
    found = segments(tape, [_opened(name, times, kept) for name, times in tape.opened], blanks)
    alike = arranged.repeats.alike
    if any(found[one + 1] != found[other + 1] for one, other in alike):
        return None
    if alike and not all(one.in_order for one in found):
        return None
    return tuple(map(numbered, found))


def predicting_sizes(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
    caches: tuple[LayerCache, ...],
    places: Mapping[str, int],
    alignments: list[int],
) -> list[int]:
    """Bytes of each device's buffer of the context that drafts with the layers of ``architecture``."""
    plan = _plan(architecture, tensors, options, devices, places, caches)
    nodes, leaves = _scheduled(plan, prediction_graph(Builder(plan), main_layers(architecture)[-1]), devices)
    return allocate(nodes, leaves, alignments)


def _plan(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
    places: Mapping[str, int],
    caches: tuple[LayerCache, ...],
) -> GraphPlan:
    host = devices.cards
    names = _Tensors(tensor_names(tensors))
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


def _graph(plan: GraphPlan, kept: tuple[int, ...]) -> Graph:
    builder = Builder(plan)
    if plan.architecture.encoder:
        return encoder_graph(builder, kept)
    return altup_graph(builder, kept) if "altup_proj.weight" in plan.names else builder.build_graph(kept)


def _scheduled(plan: GraphPlan, graph: Graph, devices: Devices) -> tuple[list[Node], list[Node]]:
    copies = PIPELINE_COPIES if pipelined(plan.options, devices) else 1
    # a worker takes over nothing that lies on this machine's host (ggml-rpc.cpp, offload_op)
    first = len(plan.options.workers)
    return schedule(graph, plan.host + 1, plan.options.op_offload, copies, first, _fuses(plan.options))


def _fuses(options: LlamaOptions) -> bool:
    return options.backend == "cuda" and options.holds_fused and options.build.has("held_fusions")


def _opened(name: str, times: int, kept: tuple[int, ...]) -> Opened:
    """Which of the kept layers a weight is of, its name within it and how many copies there are."""
    _, _, rest = name.partition("blk.")
    index, _, short = rest.partition(".")
    if short and index.isdecimal() and int(index) in kept:
        return kept.index(int(index)), short, times
    return OUTSIDE, name, times


class _Tensors(dict[str, Tensor]):
    """The file's tensors by name. A graph that asks for one that is not there is not the graph of this file."""

    def __missing__(self, name: str) -> Tensor:
        raise NotModelledError(f"the file has no tensor {name}, so its graph is not the one that is modelled here")
