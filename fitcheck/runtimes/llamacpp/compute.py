"""The compute buffers of each device: build the graph, schedule it, allocate it.

The result depends on the build, the micro-batch, flash attention and on what lies on the host, exactly as llama.cpp's
own reservation does, because the same three steps are replayed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from fitcheck.errors import NotModelledError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.caches import LayerCache
from fitcheck.runtimes.llamacpp.encoder_graph import encoder_graph
from fitcheck.runtimes.llamacpp.graph import Graph, Node
from fitcheck.runtimes.llamacpp.graph_allocator import Tape, allocate, record
from fitcheck.runtimes.llamacpp.graph_layers import Builder
from fitcheck.runtimes.llamacpp.graph_parts import GraphPlan
from fitcheck.runtimes.llamacpp.layer_facts import TableFacts, block_numbers, table_facts, tensor_names
from fitcheck.runtimes.llamacpp.prediction import prediction_graph
from fitcheck.runtimes.llamacpp.remembered import remembered
from fitcheck.runtimes.llamacpp.schedule import schedule
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, TensorPlaces, tied_copy

HOST_ALIGNMENT = 32
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
    """Replay the reservation of llama.cpp for the largest micro-batch. What makes the same graph shares its tape."""
    if options.overrides:
        places = TensorPlaces(architecture, tensor_names(tensors), options, devices)
        plan = _plan(architecture, tensors, options, devices, places, caches)
        return _allocated(plan, _graph(plan, _kept_layers(plan)), devices)
    key, kept = _graph_key(architecture, tensors, options, devices)
    taped = _known.get(key)
    if taped is None:
        places = TensorPlaces(architecture, tensor_names(tensors), options, devices)
        plan = _plan(architecture, tensors, options, devices, places, caches)
        taped = _taped(plan, kept, devices)
        _remember(key, taped)
    return taped.buffers(table_facts(tensors), kept)


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


def _allocated(plan: GraphPlan, graph: Graph, devices: Devices) -> ComputeBuffers:
    nodes, leaves = _scheduled(plan, graph, devices)
    sizes = allocate(nodes, leaves, _alignments(plan))
    return ComputeBuffers(tuple(sizes[:-1]), sizes[-1], _output(plan))


def _taped(plan: GraphPlan, kept: tuple[int, ...], devices: Devices) -> _Taped:
    nodes, leaves = _scheduled(plan, _graph(plan, kept), devices)
    tape = record(nodes, leaves, plan.host + 1)
    opened = tuple((*_position(name, kept), times) for name, times in tape.opened)
    return _Taped(tape, opened, tuple(_alignments(plan)), _output(plan))


def _scheduled(plan: GraphPlan, graph: Graph, devices: Devices) -> tuple[list[Node], list[Node]]:
    copies = PIPELINE_COPIES if _pipelined(plan.options, devices) else 1
    # a worker takes over nothing that lies on this machine's host (ggml-rpc.cpp, offload_op)
    first = len(plan.options.workers)
    return schedule(graph, plan.host + 1, plan.options.op_offload, copies, first, _fuses(plan.options))


def _fuses(options: LlamaOptions) -> bool:
    return options.backend == "cuda" and options.holds_fused and options.build.has("held_fusions")


def _alignments(plan: GraphPlan) -> list[int]:
    return [plan.options.alignment] * plan.host + [HOST_ALIGNMENT]


def _output(plan: GraphPlan) -> int:
    """The buffer of logits, or of what an encoder makes of each sequence."""
    row = plan.architecture.embedding if plan.architecture.encoder else plan.architecture.vocabulary
    return row * plan.options.slots * 4


def _position(name: str, kept: tuple[int, ...]) -> tuple[int, str]:
    """Which of the kept layers a tensor is of, and its name within it; -1 and its whole name where it is of none."""
    _, _, rest = name.partition("blk.")
    index, _, short = rest.partition(".")
    return (kept.index(int(index)), short) if short and index.isdecimal() and int(index) in kept else (-1, name)


@dataclass(frozen=True, slots=True)
class _Taped:
    """A graph's tape with what was played on it. ``opened`` names weights by kept layer, name and copies."""

    tape: Tape
    opened: tuple[tuple[int, str, int], ...]
    alignments: tuple[int, ...]
    output: int
    played: dict[tuple[int, ...], ComputeBuffers] = field(default_factory=dict)

    def buffers(self, facts: TableFacts, kept: tuple[int, ...]) -> ComputeBuffers:
        """The buffers with the weights of a table of which ``kept`` are the layers of the graph."""
        sizes = tuple(facts.nbytes(-1 if at < 0 else kept[at], name) * times for at, name, times in self.opened)
        found = self.played.get(sizes)
        if found is None:
            if len(self.played) >= _MOST_PLAYED:
                self.played.clear()
            peaks = self.tape.play(sizes, self.alignments)
            found = self.played[sizes] = ComputeBuffers(tuple(peaks[:-1]), peaks[-1], self.output)
        return found


def _pipelined(options: LlamaOptions, devices: Devices) -> bool:
    return (
        devices.cards > 1
        and options.split_mode == "layer"
        and devices.full_offload
        and not options.cache_on_host
        and (not options.workers or options.build.has("rpc_events"))
        and not _overridden(options)
    )


_known: OrderedDict[Hashable, _Taped] = OrderedDict()
_MOST_KNOWN, _MOST_PLAYED = 1 << 11, 1 << 8


def _remember(key: Hashable, found: _Taped) -> None:
    _known[key] = found
    if len(_known) > _MOST_KNOWN:
        _known.popitem(last=False)


def _graph_key(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> tuple[Hashable, tuple[int, ...]]:
    """All that a graph's tape depends on, and the layers that it keeps: architecture and options, which devices there
    are, and of each kept layer its block, its device, its tensors' shapes and whether its experts lie on the host.

    Which layers they are makes no difference, and neither do the tensors' types.
    """
    arranged, place = _arranged(tensors), (devices.layers, options.cpu_moe_layers, options.abridged)
    if place not in arranged:
        arranged[place] = _arrangement(architecture, table_facts(tensors), *place)
    kept, layers = arranged[place]
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
        layers,
    ), kept


_Arrangement = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]


@remembered
def _arranged(tensors: TensorTable) -> dict[tuple[tuple[int, ...], int, bool], _Arrangement]:
    """Kept layers by where layers and experts lie, and whether few do; a table is of one architecture."""
    return {}


def _arrangement(
    architecture: LanguageArchitecture, facts: TableFacts, devices: tuple[int, ...], experts: int, abridged: bool
) -> _Arrangement:
    blocks, found = block_numbers(architecture), [facts.layer(index) for index in range(len(devices))]
    signatures = [
        (block, device, one.sizes if device == HOST else one.expert_sizes if index < experts else 0)
        for index, ((block, _), device, one) in enumerate(zip(blocks, devices, found, strict=True))
    ]
    kept = _kept(architecture, devices, signatures, abridged)
    return kept, tuple((*blocks[index], devices[index], found[index].shapes, index < experts) for index in kept)


class _Tensors(dict[str, Tensor]):
    """The file's tensors by name. A graph that asks for one that is not there is not the graph of this file."""

    def __missing__(self, name: str) -> Tensor:
        raise NotModelledError(f"the file has no tensor {name}, so its graph is not the one that is modelled here")


def _overridden(options: LlamaOptions) -> bool:
    return bool(options.overrides or options.cpu_moe_layers)


def _kept_layers(plan: GraphPlan) -> tuple[int, ...]:
    """Layers that matter: a few of each run of alike ones, always the first and last of a device."""
    signatures = [_signature(plan, index) for index in range(plan.architecture.layers)]
    return _kept(plan.architecture, plan.layers, signatures, plan.options.abridged)


_Kind = tuple[object, ...]


def _kept(
    architecture: LanguageArchitecture, devices: Sequence[int], signatures: Sequence[_Kind], abridged: bool
) -> tuple[int, ...]:
    """The first few and the last layer of each kind in a row. Where only sizes of weights alternate, as in mixtures of
    quant types, the first few of each kind and those at the end of a device; where blocks themselves do, the first few
    and the last of their periods on a device. ``abridged`` takes less of the latter: exact no more."""
    main = [index for index, block in enumerate(architecture.blocks) if not block.prediction]
    if architecture.indexer is not None and not abridged:
        return tuple(main)
    kinds = [(devices[index], signatures[index]) for index in main]
    if not _alternate(kinds):
        runs = [[index for index, _ in run] for _, run in groupby(zip(main, kinds, strict=True), lambda one: one[1])]
        return tuple(index for run in runs for index in (*run[:_ALIKE], *run[_ALIKE:][-1:]))
    few = _few(main, kinds)
    built = [(devices[index], architecture.blocks[index]) for index in main]
    if abridged or not _alternate(built):
        return few
    return tuple(sorted({*few, *_periods(main, built)}))


def _alternate(kinds: Sequence[_Kind]) -> bool:
    """Whether a kind comes back after another one."""
    runs = [kind for kind, _ in groupby(kinds)]
    return len(runs) > len(set(runs))


def _few(main: Sequence[int], kinds: Sequence[_Kind]) -> tuple[int, ...]:
    seen: Counter[object] = Counter()
    kept = []
    for index, kind, following in zip(main, kinds, [*kinds[1:], (None,)], strict=True):
        seen[kind] += 1
        if seen[kind] <= _ALIKE or following[0] != kind[0]:
            kept.append(index)
    return tuple(kept)


def _periods(main: Sequence[int], built: Sequence[_Kind]) -> Iterator[int]:
    """Of the layers on each device the first few periods of their pattern and the last; all where there is none."""
    for _, run in groupby(zip(main, built, strict=True), lambda one: one[1][0]):
        layers, blocks = zip(*run, strict=True)
        size = len(blocks)
        periods = range(1, size // (_ALIKE + 1) + 1)
        period = next((one for one in periods if blocks[one:] == blocks[:-one]), size)
        yield from layers[: _ALIKE * period]
        yield from layers[-period:]


def _signature(plan: GraphPlan, index: int) -> tuple[object, ...]:
    prefix = f"blk.{index}."
    return (plan.architecture.blocks[index], plan.layers[index], *_on_host(plan, prefix))


def _on_host(plan: GraphPlan, prefix: str) -> Iterable[object]:
    """Sizes of the layer's host weights: a card that takes them over needs room for the largest."""
    for name in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate", "ffn_up", "ffn_down", "attn_q"):
        tensor = plan.names.get(f"{prefix}{name}.weight")
        if tensor is not None and plan.place(tensor.name) == plan.host:
            yield (name, tensor.nbytes)
