"""The compute buffers of each device: build the graph, schedule it, allocate it.

The result depends on the build, the micro-batch, flash attention and on what lies on the host, exactly as llama.cpp's
own reservation does, because the same three steps are replayed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

from fitcheck.errors import NotModelledError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.caches import LayerCache
from fitcheck.runtimes.llamacpp.encoder_graph import encoder_graph
from fitcheck.runtimes.llamacpp.graph import Graph, Node
from fitcheck.runtimes.llamacpp.graph_allocator import allocate, record
from fitcheck.runtimes.llamacpp.graph_layers import Builder
from fitcheck.runtimes.llamacpp.graph_parts import GraphPlan
from fitcheck.runtimes.llamacpp.graph_traits import has_trait
from fitcheck.runtimes.llamacpp.layer_facts import TableFacts, block_numbers, number, table_facts, tensor_names
from fitcheck.runtimes.llamacpp.packed import known_segments
from fitcheck.runtimes.llamacpp.prediction import prediction_graph
from fitcheck.runtimes.llamacpp.repeats import Repeats, repeats, whole
from fitcheck.runtimes.llamacpp.schedule import schedule
from fitcheck.runtimes.llamacpp.segments import OUTSIDE, Numbered, Opened, after, numbered, segments, state_of, unused
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, TensorPlaces, tied_copy

HOST_ALIGNMENT = 32
PIPELINE_COPIES = 4


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
    """Replay the reservation of llama.cpp for the largest micro-batch. What makes the same graph shares segments."""
    arranged, found = segmented(architecture, tensors, options, devices, caches)
    return found.buffers(table_facts(tensors), arranged)


def segmented(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
    caches: tuple[LayerCache, ...],
) -> tuple[_Arrangement, _Segmented]:
    """How layers are arranged, and the segments of those that are kept: known, packed or worked out."""
    arranged = _arrangement(architecture, tensors, options, devices)
    context = _graph_key(architecture, tensors, options, devices)
    for how in (arranged, arranged.of_all):
        key = (context, how.layers, how.repeats.alike)
        if key not in _known:
            found = known_segments(architecture, tensors, options, devices)
            if found is None:
                places = TensorPlaces(architecture, tensor_names(tensors), options, devices)
                plan = _plan(architecture, tensors, options, devices, places, caches)
                found = _worked_out(plan, how, devices)
            fit = found is not None and len(found) == len(how.repeats.kept) + 1
            ends = tuple(_alignments(options, devices)), _output(architecture, options)
            _remember(key, _Segmented(found, *ends) if found is not None and fit else None)
        known = _known[key]
        if known is not None:
            return how, known
    raise AssertionError("the graph of all layers repeats none")


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
    nodes, leaves = _scheduled(plan, prediction_graph(Builder(plan), _main(architecture)[-1]), devices)
    sizes = allocate(nodes, leaves, _alignments(options, devices))
    return ComputeBuffers(tuple(sizes[:-1]), sizes[-1], _output(architecture, options))


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
    return encoder_graph(builder, kept) if plan.architecture.encoder else builder.build_graph(kept)


def _worked_out(plan: GraphPlan, arranged: _Arrangement, devices: Devices) -> tuple[Numbered, ...] | None:
    """The graph of the layers that are kept; ``None`` where it shows that others do not repeat them."""
    kept = tuple(arranged.main[position] for position in arranged.repeats.kept)
    graph = _graph(plan, kept)
    parts = graph.parts
    nodes, leaves = _scheduled(plan, graph, devices)
    tape = record(nodes, leaves, plan.host + 1, parts)
    found = segments(tape, [_opened(name, times, kept) for name, times in tape.opened])
    if any(found[one + 1] != found[other + 1] for one, other in arranged.repeats.alike):
        return None
    return tuple(map(numbered, found))


def _scheduled(plan: GraphPlan, graph: Graph, devices: Devices) -> tuple[list[Node], list[Node]]:
    copies = PIPELINE_COPIES if _pipelined(plan.options, devices) else 1
    # a worker takes over nothing that lies on this machine's host (ggml-rpc.cpp, offload_op)
    first = len(plan.options.workers)
    fuses = plan.options.backend == "cuda" and plan.options.build.has("held_fusions")
    return schedule(graph, plan.host + 1, plan.options.op_offload, copies, first, fuses)


def _alignments(options: LlamaOptions, devices: Devices) -> list[int]:
    return [options.alignment] * devices.cards + [HOST_ALIGNMENT]


def _output(architecture: LanguageArchitecture, options: LlamaOptions) -> int:
    """The buffer of logits, or of what an encoder makes of each sequence."""
    row = architecture.embedding if architecture.encoder else architecture.vocabulary
    return row * options.slots * 4


def _opened(name: str, times: int, kept: tuple[int, ...]) -> Opened:
    """Which of the kept layers a weight is of, its name within it and how many copies there are."""
    _, _, rest = name.partition("blk.")
    index, _, short = rest.partition(".")
    if short and index.isdecimal() and int(index) in kept:
        return kept.index(int(index)), short, times
    return OUTSIDE, name, times


@dataclass(frozen=True, slots=True)
class _Segmented:
    """The segments of a graph: what comes before the layers, then one for each that is kept."""

    segments: tuple[Numbered, ...]
    alignments: tuple[int, ...]
    output: int

    def buffers(self, facts: TableFacts, arranged: _Arrangement) -> ComputeBuffers:
        """The buffers with the weights of a table, over all of its layers."""
        state, reached = state_of(unused(self.alignments)), set()
        main = arranged.main
        sizes = [facts.layer(index).sizes for index in main]
        for position, stand_in in enumerate((-1, *arranged.repeats.stand_ins), -1):
            told_by, segment, layers = self.segments[stand_in + 1]
            told = tuple(facts.sizes if one == OUTSIDE else sizes[position + one] for one in layers)
            move = state.moves.get((told_by, told))
            if move is None:
                opened = [
                    times * (facts.held[name] if one == OUTSIDE else facts.nbytes(main[position + one], name))
                    for one, name, times in segment.opened
                ]
                left, peaks = after(segment, state.memory, opened)
                move = state.moves[(told_by, told)] = (state_of(left), peaks)
            state = move[0]
            reached.add(move[1])
        most = [max(peaks) for peaks in zip(*reached, strict=True)]
        return ComputeBuffers(tuple(most[:-1]), most[-1], self.output)


def _pipelined(options: LlamaOptions, devices: Devices) -> bool:
    return (
        devices.cards > 1
        and options.split_mode == "layer"
        and devices.full_offload
        and not options.cache_on_host
        and (not options.workers or options.build.has("rpc_events"))
        and not _overridden(options)
    )


_known: OrderedDict[Hashable, _Segmented | None] = OrderedDict()
_MOST_KNOWN = 1 << 11


def _remember(key: Hashable, found: _Segmented | None) -> None:
    _known[key] = found
    if len(_known) > _MOST_KNOWN:
        _known.popitem(last=False)


def forget() -> None:
    """No graph is known any more."""
    _known.clear()
    _arranged.clear()


def _graph_key(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> Hashable:
    """All that a graph depends on beside its layers: architecture and options, and which devices there are."""
    return (
        architecture,
        options.anywhere,
        devices.cards,
        devices.output,
        devices.full_offload,
        devices.layers[:1] + devices.layers[-1:],
        next((device for device in devices.layers if device != HOST), HOST),
        _pipelined(options, devices),
        table_facts(tensors).outside,
    )


class _Tensors(dict[str, Tensor]):
    """The file's tensors by name. A graph that asks for one that is not there is not the graph of this file."""

    def __missing__(self, name: str) -> Tensor:
        raise NotModelledError(f"the file has no tensor {name}, so its graph is not the one that is modelled here")


def _overridden(options: LlamaOptions) -> bool:
    return bool(options.overrides or options.cpu_moe_layers)


@dataclass(frozen=True)
class _Arrangement:
    """Indices of the main layers, and which of them a graph has. ``each`` is what it depends on of all of them: the
    block, the device, the tensors' shapes and whether experts lie on the host. Which layer it is makes no difference,
    and neither do the tensors' types."""

    main: tuple[int, ...]
    repeats: Repeats
    each: tuple[Hashable, ...]

    @cached_property
    def layers(self) -> tuple[Hashable, ...]:
        """What a graph depends on of its layers."""
        return tuple(self.each[position] for position in self.repeats.kept)

    @cached_property
    def of_all(self) -> _Arrangement:
        """The same layers in a graph that has every one of them."""
        return _Arrangement(self.main, whole(len(self.main)), self.each)


def _main(architecture: LanguageArchitecture) -> tuple[int, ...]:
    return tuple(index for index, block in enumerate(architecture.blocks) if not block.prediction)


def _arrangement(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
) -> _Arrangement:
    facts, apart = table_facts(tensors), ()
    if options.overrides:
        places = TensorPlaces(architecture, tensor_names(tensors), options, devices)
        apart = tuple(
            number(tuple(places[f"blk.{index}.{name}"] for name in facts.layer(index).held))
            for index in range(architecture.layers)
        )
    key = (architecture, facts.shapes, devices.layers, options.cpu_moe_layers, apart)
    found = _arranged.get(key)
    if found is None:
        if len(_arranged) >= _MOST_ARRANGED:
            _arranged.clear()
        found = _arranged[key] = _work_out(architecture, facts, devices.layers, options.cpu_moe_layers, apart)
    return found


_arranged: dict[Hashable, _Arrangement] = {}
_MOST_ARRANGED = 1 << 14


def _work_out(
    architecture: LanguageArchitecture,
    facts: TableFacts,
    devices: tuple[int, ...],
    experts: int,
    apart: tuple[int, ...],
) -> _Arrangement:
    """``experts`` of the first layers lie on the host, ``apart`` tells layers apart whose tensors lie elsewhere."""
    blocks, main = block_numbers(architecture), _main(architecture)
    fourth = has_trait(architecture, "every_fourth_unturned")
    places = [(devices[index], index < experts, *apart[index : index + 1]) for index in main]
    kinds = [(*blocks[index], facts.layer(index).shapes, fourth and index % 4 == 3) for index in main]
    return _Arrangement(main, repeats(places, kinds), tuple(zip(places, kinds, strict=True)))
