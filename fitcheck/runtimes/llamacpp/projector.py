"""What a projector takes beside its model: its weights on the first card, and a compute buffer for one image.

The graph is the vision transformer of llama.cpp tools/mtmd/clip.cpp (build_inp, build_vit) at the size with which
llama-server warms up. What joins it to the language model is modelled for the kinds that are
``held``; of others it is small
beside the transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import isqrt

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.models.companions import Companion
from fitcheck.models.tensors import Tensor
from fitcheck.runtimes.llamacpp.compute import HOST_ALIGNMENT
from fitcheck.runtimes.llamacpp.graph import F16, Graph, Node
from fitcheck.runtimes.llamacpp.graph_allocator import allocate
from fitcheck.runtimes.llamacpp.schedule import schedule

ALIGNMENT = 128
MOST_LAYERS = 256
MOST_SIDE = 1 << 14
USUAL_MERGE = 2


@dataclass(frozen=True, slots=True)
class ProjectorKind:
    """What kinds differ in, see data/projector_kinds.json."""

    tokens: int | None = None
    merge: int = USUAL_MERGE
    positions: tuple[int, ...] = ()
    norm: str = "norm"
    joined: str = ""
    held: bool = False


@cache
def kind_of(name: str) -> ProjectorKind:
    """The kind of that name; of one that is not known, what is usual."""
    told = load("runtimes.llamacpp", "projector_kinds")["kinds"].get(name, {})
    return ProjectorKind(**{**told, "positions": tuple(told.get("positions", ()))})


@dataclass(frozen=True, slots=True)
class ProjectorMemory:
    """Bytes on the card; ``compute`` is ``None`` where the graph is not modelled."""

    weights: int
    compute: int | None


def projector_memory(companion: Companion, *, flash: bool = True) -> ProjectorMemory:
    """Memory of a projector. Sound projectors and those that are no transformer are weights alone."""
    weights = sum(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in companion.tensors)
    return ProjectorMemory(weights, _compute(companion, flash))


def _compute(companion: Companion, flash: bool) -> int | None:
    names = {tensor.name: tensor for tensor in companion.tensors}
    width, patch, heads = (
        companion.number(f"clip.vision.{key}") for key in ("embedding_length", "patch_size", "attention.head_count")
    )
    kind = kind_of(companion.kind)
    side = _side(companion, kind, patch or 0)
    if not (width and patch and heads and side) or "v.blk.0.ffn_down.weight" not in names:
        return None
    image = _Image(names, width, heads, patch, side, flash)
    image.kind = kind
    image.windows = companion.number("clip.vision.n_wa_pattern") or 0
    nodes, leaves = schedule(image.graph_of_one(), 2, op_offload=True)
    return allocate(nodes, leaves, [ALIGNMENT, HOST_ALIGNMENT])[0]


def _side(companion: Companion, kind: ProjectorKind, patch: int) -> int | None:
    """Pixels a side at the warm-up; ``None`` where the file does not say, or what cannot be."""
    side = companion.number("clip.vision.image_size")
    if kind.tokens is not None:
        side = kind.tokens * patch * (companion.number("clip.vision.spatial_merge_size") or kind.merge)
    return side if side is not None and patch <= side <= MOST_SIDE else None


class _Image:
    """The graph of one image."""

    def __init__(self, names: dict[str, Tensor], width: int, heads: int, patch: int, side: int, flash: bool) -> None:
        self.names, self.width, self.heads, self.flash = names, width, heads, flash
        self.patch, self.side, self.patches = patch, side, (side // patch) ** 2
        self.graph = Graph()
        self.kind, self.windows = ProjectorKind(), 0
        self.rows = self.patches + ("v.class_embd" in names)  # what goes through the layers
        self.positions: tuple[Node, ...] = ()
        self.mask: Node | None = None

    def graph_of_one(self) -> Graph:
        """Patches, the layers that run, and what joins them to the language model."""
        stream, layers = self._embedded(), self._layers()
        if self.kind.joined == "class":  # all layers but the last
            stream, layers = self._classed(stream), layers - 1
        else:
            if "v.position_embd.weight" in self.names:
                stream = self.graph.op("add", stream.shape, stream, self._position_table())
            self.positions = tuple(self.graph.input(self.patches * count * 4) for count in self.kind.positions)
            stream = self._by_windows(stream) if self.windows else stream
        stream = self._normed(stream, "v.pre_ln")
        for index in range(layers):
            stream = self._layer(index, stream)
        self.graph.expand(self._joined(self._normed(stream, "v.post_ln")))
        return self.graph

    def _embedded(self) -> Node:
        """Patches as vectors of the transformer's width."""
        graph, patches = self.graph, self.patches
        pixels = graph.input(self.side * self.side * 3 * 4)
        stream = self._patches(pixels, "v.patch_embd.weight")
        if "v.patch_embd.weight.1" in self.names:  # two frames, which are one image twice (models/qwen2vl.cpp)
            stream = graph.op("add", stream.shape, stream, self._patches(pixels, "v.patch_embd.weight.1"))
            stream = graph.op("cont", stream.shape, graph.view(stream, stream.shape))
        stream = graph.op("cont", (self.width, patches), graph.view(stream, (self.width, patches)))
        if "v.patch_embd.bias" in self.names:
            stream = graph.op("add", stream.shape, stream, self.weight("v.patch_embd.bias"))
        return stream

    def _joined(self, stream: Node) -> Node:
        """Through what the kind has before the language model, where the file has its first matrix."""
        matrix, join = _JOINTS.get(self.kind.joined, ("", _Image._pooled))
        return join(self, stream) if not matrix or matrix in self.names else self._pooled(stream)

    def _pooled(self, stream: Node) -> Node:
        """Squares of patches as their mean, through one matrix (Gemma 3)."""
        graph, patches = self.graph, self.patches
        turned = graph.op("cont", (patches, self.width), graph.view(stream, (patches, self.width)))
        tokens = max(isqrt(patches) ** 2 // 16, 1)
        pooled = graph.op("pool", (tokens, self.width), turned)
        flat = graph.op("cont", (self.width, tokens), graph.view(pooled, (self.width, tokens)))
        return self._projected_out(graph.op("rms_norm", flat.shape, flat))

    def _classed(self, stream: Node) -> Node:
        """A class token before the patches, and learned positions (models/llava.cpp)."""
        graph = self.graph
        if self.rows > self.patches:
            stream = graph.op("concat", (self.width, self.rows), stream, self.weight("v.class_embd"))
        places = graph.input(self.rows * 4)
        table = graph.op("get_rows", stream.shape, self.weight("v.position_embd.weight"), places)
        return graph.op("add", stream.shape, stream, table)

    def _patches_alone(self, stream: Node) -> Node:
        """Without the class token, through two matrices."""
        found = self.graph.op("get_rows", (self.width, self.patches), stream, self.graph.input(self.patches * 4))
        return self._two_matrices("mm.0", "mm.2", found)

    def _two_matrices(self, first: str, second: str, node: Node) -> Node:
        names, graph = self.names, self.graph
        if f"{first}.weight" not in names:
            return node
        node = self._linear(first, node, names[f"{first}.weight"].shape[0])
        node = graph.op("unary", node.shape, node)
        return self._linear(second, node, names[f"{second}.weight"].shape[0]) if f"{second}.weight" in names else node

    def _in_rows(self, stream: Node) -> Node:
        """Squares of patches as one token where the file merges them (models/pixtral.cpp), through two matrices, and a
        token at the end of each row."""
        graph, merger = self.graph, self.names.get("mm.patch_merger.weight")
        if merger is not None:
            stream = graph.op("rms_norm", stream.shape, stream)
            stream = graph.op("mul", stream.shape, stream, self.weight("mm.input_norm.weight"))
            grid = graph.op("cont", (self.patches, self.width), graph.view(stream, (self.patches, self.width)))
            wide = max(merger.shape[-1], 1)
            tokens = self.patches * self.width // wide
            grid = graph.op("im2col", (wide, tokens), grid)
            stream = graph.op("mul_mat", (merger.shape[0], tokens), self.weight("mm.patch_merger.weight"), grid)
        return self._rows_broken(self._two_matrices("mm.1", "mm.2", stream))

    def _rows_broken(self, stream: Node) -> Node:
        """A token at the end of each row of patches."""
        if "v.token_embd.img_break" not in self.names:
            return stream
        graph, (width, tokens) = self.graph, stream.shape
        across = isqrt(tokens)
        breaks = graph.op("scale", (width, 1, across), graph.blank((width, 1, across)))
        breaks = graph.op("add", breaks.shape, breaks, self.weight("v.token_embd.img_break"))
        return graph.op("concat", (width, across + 1, across), graph.reshape(stream, (width, across, across)), breaks)

    def _in_squares(self, stream: Node) -> Node:
        """Four patches as one token, through two matrices, and back from the order of windows."""
        graph, tokens = self.graph, self.patches // 4
        found = graph.reshape(stream, (4 * self.width, tokens))
        found = self._two_matrices("mm.0", "mm.2", found)
        return graph.op("get_rows", found.shape, found, graph.input(tokens * 4)) if self.windows else found

    def _projected_out(self, pooled: Node) -> Node:
        """Gemma 3's projection, whose matrix is turned before it is used."""
        projection = self.names.get("mm.input_projection.weight")
        if projection is None:
            return pooled
        weight = self.weight(projection.name)
        element = -(-projection.quant.block_bytes // projection.quant.block)
        turned = self.graph.op("cont", projection.shape, self.graph.view(weight, projection.shape), element=element)
        return self.graph.op("mul_mat", (projection.shape[-1], pooled.shape[-1]), turned, pooled)

    def _layers(self) -> int:
        """All of the file's layers that run: where memory is free drifts from one to the next."""
        count = 0
        while f"v.blk.{count}.ffn_down.weight" in self.names and count < MOST_LAYERS:
            count += 1
        return count

    def _position_table(self) -> Node:
        """Learned positions, stretched where the image has another grid than they were learned on, and in the order in
        which patches are merged where two frames are."""
        graph, table, shape = self.graph, self.weight("v.position_embd.weight"), (self.width, self.patches)
        rows = self.names["v.position_embd.weight"].shape[0]
        if "v.patch_embd.weight.1" not in self.names:
            return table
        steps = ("upscale", "cont", "cont", "cont") if rows != self.patches else ("cont", "cont")
        for step in steps:
            table = graph.op(step, shape, graph.view(table, shape))
        return table

    def _by_windows(self, stream: Node) -> Node:
        """Patches in the order of their windows, and the mask that parts these (models/qwen2vl.cpp)."""
        graph, square = self.graph, (self.patches, self.patches)
        mask = graph.input(self.patches**2 * 4)
        self.mask = graph.op("cpy", square, mask, element=F16) if self.flash else mask
        merged = graph.reshape(stream, (4 * self.width, self.patches // 4))
        found = graph.op("get_rows", merged.shape, merged, graph.input(self.patches))
        return graph.reshape(found, stream.shape)

    def _masked(self, index: int) -> tuple[Node, ...]:
        """The mask of windows where the layer has them, for flash attention once more as float16."""
        if self.mask is None or (index + 1) % self.windows == 0:
            return ()
        if not self.flash:
            return (self.mask,)
        return (self.graph.op("cpy", self.mask.shape, self.mask, element=F16),)

    def _patches(self, pixels: Node, kernel: str) -> Node:
        """A convolution as ggml makes it: columns, a product, and the result turned."""
        size = self.names[kernel].quant.block_bytes if kernel in self.names else 4
        columns = self.graph.op("im2col", (3 * self.patch**2, self.patches), pixels, element=min(size, 4))
        found = self.graph.op("mul_mat", (self.patches, self.width), columns, self.weight(kernel))
        return self.graph.op("cont", (self.width, self.patches), self.graph.view(found, found.shape))

    def weight(self, name: str) -> Node:
        """A weight on the card; of no size where the file lacks it."""
        tensor = self.names.get(name)
        return self.graph.weight(0 if tensor is None else tensor.nbytes, 0)

    def _linear(self, name: str, node: Node, rows: int) -> Node:
        found = self.graph.op("mul_mat", (rows, node.shape[-1]), self.weight(f"{name}.weight"), node)
        if f"{name}.bias" in self.names:
            found = self.graph.op("add", found.shape, found, self.weight(f"{name}.bias"))
        return found

    def _normed(self, node: Node, name: str) -> Node:
        if f"{name}.weight" not in self.names and name.startswith("v.p"):
            return node
        normed = self.graph.op(self.kind.norm, node.shape, node)
        for part, operation in (("weight", "mul"), ("bias", "add")):
            if f"{name}.{part}" in self.names:
                normed = self.graph.op(operation, node.shape, normed, self.weight(f"{name}.{part}"))
        return normed

    def _layer(self, index: int, stream: Node) -> Node:
        graph, patches, prefix = self.graph, self.rows, f"v.blk.{index}."
        current = self._normed(stream, f"{prefix}ln1")
        query, keys, values = self._projected(prefix, current)
        for places in self.positions:
            query, keys = (graph.op("rope", node.shape, node, places) for node in (query, keys))
        masked = self._masked(index)
        for node in (query, keys, values):
            graph.expand(node)
        length = self.width // self.heads
        if self.flash:
            keys, values = (graph.op("cpy", node.shape, node, element=F16) for node in (keys, values))
            mixed = graph.op("flash_attn", (length, self.heads, patches), query, keys, values, *masked)
            output = graph.reshape(mixed, (self.width, patches))
        else:
            turned = graph.op("cont", (patches, length, self.heads), graph.view(values, (patches, length, self.heads)))
            scores = graph.op("mul_mat", (patches, patches, self.heads), keys, query)
            weights = graph.op("soft_max", scores.shape, scores, *masked)
            mixed = graph.op("mul_mat", (length, patches, self.heads), turned, weights)
            output = graph.op("cont", (self.width, patches), graph.view(mixed, (length, self.heads, patches)))
        attended = self._linear(f"{prefix}attn_out", output, self.width)
        middle = graph.op("add", attended.shape, attended, stream)
        inner = self._normed(middle, f"{prefix}ln2")
        return graph.op("add", middle.shape, middle, self._feed_forward(prefix, inner))

    def _projected(self, prefix: str, current: Node) -> tuple[Node, Node, Node]:
        graph, shape = self.graph, (self.width // self.heads, self.heads, self.rows)
        if f"{prefix}attn_qkv.weight" in self.names:
            joint = self._linear(f"{prefix}attn_qkv", current, 3 * self.width)
            one, two, three = (graph.view(joint, shape) for _ in range(3))
            return one, two, three
        one, two, three = (
            graph.reshape(self._linear(f"{prefix}attn_{name}", current, self.width), shape) for name in "qkv"
        )
        return one, two, three

    def _feed_forward(self, prefix: str, current: Node) -> Node:
        graph = self.graph
        rows = self.names[f"{prefix}ffn_down.weight"].shape[-1]
        upper = self._linear(f"{prefix}ffn_up", current, rows)
        if f"{prefix}ffn_gate.weight" in self.names:
            gate = self._linear(f"{prefix}ffn_gate", current, rows)
            upper = graph.op("glu", upper.shape, gate, upper)
        else:
            upper = graph.op("unary", upper.shape, upper)
        return self._linear(f"{prefix}ffn_down", upper, self.width)


# by what a kind's ``joined`` says: the matrix without which patches are pooled, and the way through it
_JOINTS: Mapping[str, tuple[str, Callable[[_Image, Node], Node]]] = {
    "squares": ("mm.0.weight", _Image._in_squares),
    "rows": ("mm.1.weight", _Image._in_rows),
    "class": ("", _Image._patches_alone),
}
