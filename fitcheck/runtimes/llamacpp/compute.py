"""The compute buffers of each device: build the graph, schedule it, allocate it.

The result depends on the build, the micro-batch, flash attention and on what lies on the host, exactly as llama.cpp's
own reservation does, because the same three steps are replayed. Graphs that are known or packed are not built again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.arrangement import Arrangement, arrangement, graph_key
from fitcheck.runtimes.llamacpp.caches import LayerCache
from fitcheck.runtimes.llamacpp.layer_facts import TableFacts, table_facts
from fitcheck.runtimes.llamacpp.packed import known_segments
from fitcheck.runtimes.llamacpp.repeats import Repeats
from fitcheck.runtimes.llamacpp.segments import OUTSIDE, Numbered, after, numbered, state_of, unused
from fitcheck.runtimes.llamacpp.weight_placement import Devices

HOST_ALIGNMENT = 32


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
    facts = table_facts(tensors)
    place = architecture, facts.shapes, facts.outside, options, devices  # the same for all tiers
    found = _placed.get(place)
    if found is None:
        if len(_placed) >= _MOST_KNOWN:
            _placed.clear()
        found = _placed[place] = segmented(architecture, tensors, options, devices, caches)
    arranged, graph = found
    return graph.buffers(facts, arranged)


def segmented(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
    caches: tuple[LayerCache, ...],
    *,
    packs: bool = True,
) -> tuple[Arrangement, _Segmented]:
    """How layers are arranged, and the segments of those that are kept: known, packed or worked out; without ``packs``
    what is not known is worked out."""
    arranged = arrangement(architecture, tensors, options, devices)
    context = graph_key(architecture, tensors, options, devices)
    for how in (arranged, arranged.of_all):
        key = (context, how.layers, how.repeats.alike)
        if key not in _known:
            found = known_segments(architecture, tensors, options, devices) if packs else None
            if found is None:
                from fitcheck.runtimes.llamacpp.reservation import worked_out

                found = worked_out(architecture, tensors, options, devices, caches, how)
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
    from fitcheck.runtimes.llamacpp.reservation import predicting_sizes

    alignments = _alignments(options, devices)
    *cards, host = predicting_sizes(architecture, tensors, options, devices, caches, places, alignments)
    return ComputeBuffers(tuple(cards), host, _output(architecture, options))


def _alignments(options: LlamaOptions, devices: Devices) -> list[int]:
    return [options.alignment] * devices.cards + [HOST_ALIGNMENT]


def _output(architecture: LanguageArchitecture, options: LlamaOptions) -> int:
    """The buffer of logits, or of what an encoder makes of each sequence."""
    row = architecture.embedding if architecture.encoder else architecture.vocabulary
    return row * options.slots * 4


@dataclass(frozen=True, slots=True)
class _Segmented:
    """The segments of a graph: what comes before the layers, then one for each that is kept."""

    segments: tuple[Numbered, ...]
    alignments: tuple[int, ...]
    output: int

    def buffers(self, facts: TableFacts, arranged: Arrangement) -> ComputeBuffers:
        """The buffers with the weights of a table, over all of its layers."""
        state, reached, main = state_of(unused(self.alignments)), set(), arranged.main
        for position, stand_in in enumerate((-1, *arranged.repeats.stand_ins), -1):
            copied, segment, layers = self.segments[stand_in + 1] if position >= 0 else self.first(arranged.repeats)
            told: Hashable = copied
            if layers:  # bytes of these layers' weights tell what is done apart
                sizes = [facts.sizes if one == OUTSIDE else facts.each[main[position + one]] for one in layers]
                told = (copied, *sizes)
            move = state.moves.get(told)
            if move is None:
                opened = [
                    times * (facts.held[name] if one == OUTSIDE else facts.nbytes(main[position + one], name))
                    for one, name, times in segment.opened
                ]
                left, peaks = after(segment, state.memory, opened)
                move = state.moves[told] = (state_of(left), peaks)
            state = move[0]
            reached.add(move[1])
        most = [max(peaks) for peaks in zip(*reached, strict=True)]
        return ComputeBuffers(tuple(most[:-1]), most[-1], self.output)

    def first(self, repeats: Repeats) -> Numbered:
        """What comes before the layers, which all of them have a part in and not those that are kept alone."""
        before = self.segments[0]
        whole = before[1].with_every_blank(repeats)
        return before if whole is before[1] else numbered(whole)


_known: OrderedDict[Hashable, _Segmented | None] = OrderedDict()
_MOST_KNOWN = 1 << 11


def _remember(key: Hashable, found: _Segmented | None) -> None:
    _known[key] = found
    if len(_known) > _MOST_KNOWN:
        _known.popitem(last=False)


_placed: dict[Hashable, tuple[Arrangement, _Segmented]] = {}


def forget() -> None:
    """No graph is known any more."""
    _known.clear()
    _placed.clear()
