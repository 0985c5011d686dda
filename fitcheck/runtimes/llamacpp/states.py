"""The states of one recurrent layer in the graph: read, joined with what comes in, written back.

After llama.cpp src/llama-graph.cpp build_rs and src/models/delta-net-base.cpp. The states lie where the layer does, and
a card that works on them for a layer of the host copies them whole.
"""

from __future__ import annotations

from math import prod

from fitcheck.runtimes.llamacpp.graph import F32, Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts


class States:
    """Both caches of layer ``index``: inputs of the convolution before these tokens, and the state proper."""

    def __init__(self, builder: Parts, index: int) -> None:
        self.builder, self.graph = builder, builder.graph
        self.slots, self.kept = builder.options.slots, builder.options.states
        state = builder.plan.architecture.recurrent
        assert state is not None
        self.state, self.device = state, builder.plan.layers[index]
        place = builder.plan.host if builder.options.cache_on_host else self.device
        rows = self.slots * self.kept
        self.inputs = self.graph.cache(place, state.convolution * rows * F32)
        self.proper = self.graph.cache(place, state.state * rows * F32)

    def read(self, elements: int) -> Node:
        """The state proper of each sequence, one row each."""
        return self._rows(self.proper, elements)

    def read_convolution(self) -> Node:
        """The inputs before these tokens of each sequence."""
        return self._rows(self.inputs, self.state.convolution)

    def _rows(self, cache: Node, elements: int) -> Node:
        states = self._opened(cache, elements)
        found = self.graph.op("get_rows", (elements, self.slots), states, self.builder.state_rows)
        self.graph.expand(found)
        self._others(cache, states, elements)
        return found

    def _opened(self, cache: Node, elements: int) -> Node:
        """The cache as rows; one row is cleared before they are read."""
        states = self.graph.reshape(cache, (elements, self.slots * self.kept))
        self.graph.expand(self.graph.store(cache, states))
        return states

    def _others(self, cache: Node, states: Node, elements: int) -> None:
        """States of sequences that are not in the batch are moved: none when memory is reserved, but for the ids."""
        moved = self.graph.op("get_rows", (elements, 0), states, self.builder.other_rows)
        self.graph.expand(self.graph.store(cache, moved))

    def joined(self, mixed: Node) -> Node:
        """``mixed``, as (channels, tokens), turned and behind the inputs before it, which it replaces."""
        return self.join(self.read_convolution(), mixed)

    def join(self, held: Node, mixed: Node) -> Node:
        """The same where the inputs were read already."""
        channels, tokens = mixed.shape
        per_sequence, rows = tokens // self.slots, channels * self.slots
        before = prod(held.shape) // rows
        shaped = self.graph.reshape(held, (before, channels, self.slots))
        turned = self.graph.transposed(mixed, (per_sequence, channels, self.slots))
        joined = self.graph.op("concat", (before + per_sequence, channels, self.slots), shaped, turned)
        for _ in range(min(per_sequence, self.kept)):
            last = self.graph.view(joined, (before, rows), (before + per_sequence) * F32)
            self.graph.expand(self.graph.store(self.inputs, last))
        return joined

    def delta(self, *parts: Node, inner: int) -> Node:
        """The fused delta net of queries, keys, values, gate, beta and old states; the new ones lie behind the
        output."""
        total = inner * self.builder.tokens + self.state.state * self.slots * self.kept
        mixed = self.graph.op("delta_net", (total,), *parts)
        self.write(self.graph.view(mixed, (self.state.state, self.slots)))
        return mixed

    def scan(self, inputs: Node, step: Node, *parts: Node, inner: int) -> Node:
        """Mamba's scan, which reads the states by itself; the new ones lie behind the output."""
        states = self._opened(self.proper, self.state.state)
        rows = self.graph.reshape(states, (self.state.state, self.slots * self.kept))
        total = inner * self.builder.tokens + self.state.state * self.slots * self.kept
        scanned = self.graph.op("ssm_scan", (total,), rows, inputs, step, *parts, self.builder.state_rows)
        self.graph.expand(scanned)
        self._others(self.proper, states, self.state.state)
        self.write(self.graph.view(scanned, (self.state.state, self.slots)))
        return scanned

    def write(self, new: Node) -> None:
        """The state proper replaced."""
        self.graph.expand(self.graph.store(self.proper, new))
