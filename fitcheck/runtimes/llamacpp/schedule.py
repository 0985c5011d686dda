"""ggml's scheduler, replayed: which device runs each operation and what is copied between devices.

Follows ggml_backend_sched_split_graph (ggml/src/ggml-backend.cpp): operations run where their weights are, large
batches on host weights are taken over by the first card (which then needs room for the weight), everything else
follows its neighbours, and a new split starts at each change of device or at each further host weight.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from fitcheck.runtimes.llamacpp.graph import Graph, Node, copied_bytes

OFFLOAD_MIN_ROWS = 32
_FOLLOWS = frozenset({"rope", "flash_attn"})


def schedule(
    graph: Graph, devices: int, op_offload: bool, copies: int = 1, first: int = 0, fuses: bool = False
) -> tuple[list[Node], list[Node]]:
    """(nodes in running order with copies put in, leaves), every one with its device; the last device is the host.

    ``first`` is the first card of this machine, behind those of workers: it takes large batches on host weights over.
    ``fuses`` says that this machine's cards keep what their fused operations read; a worker's do not (ggml-rpc.cpp has
    no graph_optimize).
    """
    host = devices - 1
    _assign(graph.nodes, host, first if op_offload and first < host else None)
    ordered, leaves, ends = _split(graph, host, copies)
    return (_held(graph, range(first, host), ordered, ends) if fuses and graph.fused else ordered), leaves


def _held(graph: Graph, cards: range, ordered: Sequence[Node], ends: Sequence[int]) -> list[Node]:
    """The order with a mark behind each fused operation that reads what has to be kept until then (ggml-cuda.cu,
    ggml_backend_cuda_graph_optimize). ``ends`` are the numbers of nodes with which a split ends."""
    places = {id(node): place for place, node in enumerate(ordered)}
    after = {id(node): following for node, following in pairwise(graph.nodes)}
    kept: defaultdict[int, list[Node]] = defaultdict(list)
    for fused in graph.fused:
        running = [node for node in fused.nodes if node.op != "view"]
        if running[0].device not in cards or len({bisect_right(ends, places[id(node)]) for node in running}) > 1:
            continue
        until = fused.until or after[id(fused.nodes[-1])]
        for node in fused.nodes if fused.whole else fused.nodes[:1]:
            kept[id(until)] += [node, *node.sources] if fused.whole else node.sources
    found: list[Node] = []
    for node in ordered:
        found.append(node)
        if id(node) in kept:
            read = tuple({id(one): one for one in kept[id(node)]}.values())
            found.append(Node("none", (), 0, read, view_of=read[0].view_of or read[0], device=node.device))
    return found


def _assign(nodes: Sequence[Node], host: int, taker: int | None) -> None:
    for node in nodes:
        if node.device is None:
            node.device = _wanted(node, host, taker)
    plain = [node for node in nodes if node.op != "view"]
    for cards_only in (True, False):
        for run in (plain, plain[::-1]):
            current: int | None = None
            for node in run:
                if node.device is not None:
                    current = None if cards_only and node.device == host else node.device
                elif current is not None:
                    node.device = current
    for node in nodes:
        if node.device is None:
            root = node.view_of
            node.device = root.device if root is not None and root.device is not None else host
        for source in node.sources:
            if source.device is None:
                root = source.view_of
                source.device = host if source.is_input else root.device if root is not None else node.device


def _wanted(node: Node, host: int, taker: int | None) -> int | None:
    """The device of the node's weight; a card for a large batch on a host weight; None without weights."""
    if node.op == "view" or node.op in _FOLLOWS:
        return None
    for source in node.sources:
        if source.weight:
            if source.device == host and taker is not None and node.batch >= OFFLOAD_MIN_ROWS:
                return taker
            return source.device
    return None


def _split(graph: Graph, host: int, copies: int) -> tuple[list[Node], list[Node], list[int]]:
    """Nodes with copies put in, leaves, and how many of the nodes there are at the end of each split."""
    ordered: list[Node] = []
    ends: list[int] = []
    made: dict[tuple[int, int | None], Node] = {}
    leaves = list(graph.leaves)
    for leaf in (one for one in leaves if one.is_input):
        leaf.device = host
        if copies > 1:
            # a pipelined graph holds one input for each batch in flight and gives none of them back
            leaf.nbytes *= copies
            leaf.is_output = True
    split: list[Node] = []
    inputs: list[tuple[Node, Node]] = []
    current: int | None = None

    def close() -> None:
        for original, copy in inputs:
            keep = Node("none", (), 0, (original,), view_of=original.view_of or original, device=original.device)
            ordered.append(keep)
            ordered.append(copy)
        ordered.extend(split)
        ends.append(len(ordered))
        inputs.clear()
        split.clear()

    for node in graph.nodes:
        if node.op == "view":
            split.append(node)
            continue
        device = node.device
        if current is None:
            current = device
        # cards cannot read another device's memory; the host reads host memory only
        elsewhere = [one for one in node.sources if one.device != device]
        if device != current or (inputs and any(source.weight for source in elsewhere)):
            close()
            current = device
        if not elsewhere:
            split.append(node)
            continue
        replaced = []
        for source in node.sources:
            if source in elsewhere:
                key = (id(source), device)
                if key not in made:
                    pieces = 1 if source.is_input else copies
                    copy = Node("copy", source.shape, copied_bytes(source) * pieces, device=device)
                    copy.layout, copy.name, copy.times = source.layout, source.name, pieces
                    if copies > 1:
                        copy.is_input = copy.is_output = True
                        leaves.append(copy)
                    made[key] = copy
                    inputs.append((source, copy))
                replaced.append(made[key])
            else:
                replaced.append(source)
        node.sources = tuple(replaced)
        split.append(node)
    close()
    return ordered, leaves, ends
