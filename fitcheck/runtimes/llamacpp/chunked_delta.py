"""The delta net in chunks, as llama.cpp built it of plain operations before one fused operation took its place.

After src/models/delta-net-base.cpp build_delta_net_chunking. Kimi's variant has a gate for every element of a key, so
its decay is a matrix of chunk × chunk × key for every chunk and head: most of its compute buffer.
"""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.runtimes.llamacpp.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class DeltaShape:
    """``length`` elements a head of ``heads`` heads, ``tokens`` a sequence of ``slots`` sequences, in chunks of
    ``chunk`` tokens; ``wide`` says that the gate has an element for each of the key's."""

    length: int
    heads: int
    tokens: int
    slots: int
    chunk: int
    wide: bool

    @property
    def chunks(self) -> int:
        """Chunks of a sequence, the last one padded."""
        return -(-self.tokens // self.chunk)

    @property
    def rows(self) -> int:
        """Chunks of all heads and sequences."""
        return self.chunks * self.heads * self.slots


def chunked_delta(graph: Graph, shape: DeltaShape, parts: tuple[Node, ...], state: Node) -> tuple[Node, Node]:
    """(output, new state) of queries, keys, values, gate and beta; every tensor as the source makes it."""
    side, rows, length = shape.chunk, shape.rows, shape.length
    gate_width = length if shape.wide else 1
    query, key, value, gate, beta = parts
    query = graph.op("scale", query.shape, query)
    wide = (length, side, rows)
    query, key, value = (graph.op("pad", wide, node) for node in (query, key, value))
    gate = graph.op("pad", (gate_width, side, rows), gate)
    beta = graph.op("pad", (1, side, rows), beta)
    value_beta = graph.op("mul", wide, value, beta)
    key_beta = graph.op("mul", wide, key, beta)
    turned = graph.op("cont", (side, gate_width, rows), graph.view(gate, (side, gate_width, rows)))
    summed = graph.op("cumsum", turned.shape, turned)
    products = _wide_products if shape.wide else _narrow_products
    within, scores = products(graph, shape, summed, (query, key, key_beta))
    scores = graph.op("tri", (side, side, rows), scores)
    solved = _solved(graph, (side, side, rows), within)
    flat = graph.op("cont", (side, length, rows), graph.view(value_beta, (side, length, rows)))
    value = graph.op("mul_mat", wide, flat, solved)
    grown = graph.op("unary", summed.shape, summed)
    key_beta = graph.op("cont", (side, length, rows), graph.view(key_beta, (side, length, rows)))
    decayed = graph.op("mul_mat", wide, graph.op("mul", key_beta.shape, key_beta, grown), solved)
    grown_back = graph.op("cont", (gate_width, side, rows), graph.view(grown, (gate_width, side, rows)))
    query_grown = graph.op("mul", wide, query, grown_back)
    last = graph.op("cont", (1, gate_width, rows), graph.view(summed, (1, gate_width, rows)))
    last_grown = graph.op("unary", last.shape, last)
    left = graph.op("sub", summed.shape, summed, last)
    left = graph.op("unary", left.shape, graph.op("unary", left.shape, left))
    left = graph.op("cont", (gate_width, side, rows), graph.view(left, (gate_width, side, rows)))
    key_left = graph.op("mul", wide, key, left)
    key_left = graph.op("cont", (side, length, rows), graph.view(key_left, (side, length, rows)))
    value_turned = graph.op("cont", (side, length, rows), graph.view(value, (side, length, rows)))
    for _ in range(shape.chunks):
        value, state = _one_chunk(
            graph, shape, (decayed, value_turned, scores, query_grown, key_left, last_grown), value, state
        )
    return graph.view(value, (length, shape.heads, shape.tokens * shape.slots)), state


def _wide_products(graph: Graph, shape: DeltaShape, summed: Node, parts: tuple[Node, ...]) -> tuple[Node, Node]:
    """Keys with keys and with queries, each element decayed by its own gate."""
    side, rows, length = shape.chunk, shape.rows, shape.length
    query, key, key_beta = parts
    full = (side, side, length * rows)
    spread = graph.op("repeat", full, summed)
    decay = graph.op("sub", full, spread, summed)
    decay = graph.op("tri", full, decay)
    decay = graph.op("unary", full, decay)
    decay = graph.op("cont", (length, side, side * rows), graph.view(decay, (length, side, side * rows)))
    by_key = graph.op("mul", decay.shape, decay, key_beta)
    by_query = graph.op("mul", decay.shape, decay, query)
    within, scores = (graph.op("mul_mat", (side, 1, side * rows), one, key) for one in (by_key, by_query))
    turned = [graph.op("cont", (side, side, rows), graph.view(one, (side, side, rows))) for one in (within, scores)]
    return turned[0], turned[1]


def _narrow_products(graph: Graph, shape: DeltaShape, summed: Node, parts: tuple[Node, ...]) -> tuple[Node, Node]:
    """Keys with keys and with queries, decayed by one gate a head."""
    square = (shape.chunk, shape.chunk, shape.rows)
    query, key, key_beta = parts
    decay = graph.op("sub", square, graph.op("repeat", square, summed), summed)
    decay = graph.op("unary", square, graph.op("tri", square, decay))
    within = graph.op("mul", square, graph.op("mul_mat", square, key, key_beta), decay)
    scores = graph.op("mul", square, graph.op("mul_mat", square, key, query), decay)
    return within, scores


def _solved(graph: Graph, square: tuple[int, ...], within: Node) -> Node:
    """The triangular system that lets a chunk's tokens see each other."""
    lower = graph.op("tri", square, within)
    unit = graph.op("diag", square[:2], graph.op("fill", square[:1], graph.view(lower, square[:1])))
    left = graph.op("add", square, lower, unit)
    right = graph.op("unary", square, lower)
    return graph.op("add", square, graph.op("solve", square, left, right), unit)


def _one_chunk(graph: Graph, shape: DeltaShape, parts: tuple[Node, ...], value: Node, state: Node) -> tuple[Node, Node]:
    """(output so far, state) after one chunk of all heads."""
    side, length, count = shape.chunk, shape.length, shape.heads * shape.slots
    decayed, value_turned, scores, query_grown, key_left, last_grown = parts
    turned, straight = (side, length, count), (length, side, count)
    before = graph.op("mul_mat", turned, graph.view(decayed, straight), state)
    new = graph.op("sub", turned, graph.view(value_turned, turned), before)
    attended = graph.op("mul_mat", straight, new, graph.view(scores, (side, side, count)))
    carried = graph.op("mul_mat", straight, state, graph.view(query_grown, straight))
    total = graph.op("add", straight, carried, attended)
    value = graph.store(value.view_of or value, value, total)
    gained = graph.op("mul_mat", (length, length, count), graph.view(key_left, turned), new)
    kept = graph.op("mul", (length, length, count), state, graph.view(last_grown, (1, length, count)))
    return value, graph.op("add", kept.shape, kept, gained)
