"""A compute graph as ggml sees it: tensors with sizes, sources and views, in the order they will run.

Only what decides memory is kept: how many bytes a tensor takes, which tensor it is a view of, whether its operation can
work in place, and on which device it has to be. Nothing is ever computed.
"""

from __future__ import annotations

from dataclasses import field
from math import prod

from fitcheck.dataclass_later import dataclass

F32 = 4
F16 = 2
# ggml-alloc.c, ggml_op_can_inplace
IN_PLACE = frozenset(
    {
        "fill",
        "scale",
        "add",
        "add_id",
        "sub",
        "mul",
        "div",
        "sqr",
        "sqrt",
        "unary",
        "rope",
        "rms_norm",
        "clamp",
        "soft_max",
    }
)


@dataclass(eq=False, slots=True)
class Node:
    """One tensor of the graph. ``nbytes`` is what the allocator must find for it, views need nothing.

    ``device`` is where it runs or lies: 0.. are cards, the last one is the host; None until the scheduler says.
    ``external`` tensors (weights, caches) are never allocated here; ``weight`` ones pull their operation to them.
    ``name`` is that of a weight which another device may have to take over, and of its copies, which are ``times`` as
    large: their bytes are those of one tier among many. ``rows`` is the batch size by which a card decides to take the
    operation over, where its shape does not tell.
    """

    op: str
    shape: tuple[int, ...]
    nbytes: int
    sources: tuple[Node, ...] = ()
    view_of: Node | None = None
    device: int | None = None
    external: bool = False
    weight: bool = False
    is_input: bool = False
    is_output: bool = False
    layout: tuple[object, ...] = ()
    rows: int = 0
    name: str = ""
    times: int = 1
    stride: int = 0  # bytes from one token of a view to the next, where others lie between
    span: int = 0  # bytes from a view's first element to its last, where its shape does not tell
    reached: bool = field(default=False, init=False)  # the graph has it already
    # the allocator's own marks: readers and views to come, whether its memory is in use and which slot that is
    readers: int = field(default=0, init=False)
    views: int = field(default=0, init=False)
    live: bool = field(default=False, init=False)
    slot: int | None = field(default=None, init=False)
    home: int = field(default=0, init=False)

    @property
    def batch(self) -> int:
        """The batch size by which a card decides to take an operation over (ggml-cuda.cu get_op_batch_size)."""
        return self.rows or (0 if self.op == "get_rows" else prod(self.shape[1:]))


@dataclass(frozen=True, eq=False, slots=True)
class Fused:
    """Operations that a card may run as one where they lie in one split. What they read is then kept until ``until``
    has run, which is the operation after the last of them where it is ``None``; so is what they make where ``whole``
    says that each of them is kept."""

    nodes: tuple[Node, ...]
    until: Node | None = None
    whole: bool = False


@dataclass
class Graph:
    """Builds nodes and keeps them in ggml's order: depth first, sources before users (ggml_build_forward_expand).
    ``layers`` counts the nodes that were there when each layer began; ``blanks`` are those of each layer by its
    number among them."""

    nodes: list[Node] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)
    fused: list[Fused] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    blanks: list[tuple[int, Node]] = field(default_factory=list)

    def begin_layer(self) -> None:
        """What is put into the order from now on is the next layer's part, with what of earlier ones is still open."""
        self.layers.append(len(self.nodes))

    @property
    def parts(self) -> list[Node]:
        """The first node of each layer's part; the last one of all where a part has none."""
        last = len(self.nodes) - 1
        return [self.nodes[min(count, last)] for count in self.layers]

    def input(self, nbytes: int, *shape: int) -> Node:
        """A tensor of ``nbytes`` bytes that is filled from outside before the graph runs, like token ids."""
        node = Node("input", shape or (nbytes,), nbytes, is_input=True)
        node.layout = ("input", id(node))
        return node

    def blank(self, shape: tuple[int, ...]) -> Node:
        """A tensor that nothing fills before the graph runs. It has its memory from the start, where it is read."""
        node = Node("blank", shape, prod(shape) * F32)
        node.layout = (_sides(shape), F32)
        self.blanks.append((len(self.layers) - 1, node))
        return node

    def weight(self, nbytes: int, device: int, name: str = "") -> Node:
        """A weight of ``nbytes`` bytes that lies on ``device`` already; its operation is drawn there. ``name`` where
        another device may take it over."""
        return Node("weight", (), nbytes, device=device, external=True, weight=True, name=name)

    def cache(self, device: int, nbytes: int = 0) -> Node:
        """A cache tensor; ``nbytes`` is what a device that cannot read it has to copy."""
        return Node("cache", (), nbytes, device=device, external=True)

    def op(self, name: str, shape: tuple[int, ...], *sources: Node, element: int = F32, rows: int = 0) -> Node:
        """The result of an operation, ``shape`` elements of ``element`` bytes each (f32 unless said otherwise)."""
        node = Node(name, shape, prod(shape) * element, sources, rows=rows)
        node.layout = (_sides(shape), element)
        return node

    def reshape(self, source: Node, shape: tuple[int, ...]) -> Node:
        """A view of the whole tensor from its start, contiguous."""
        root = source.view_of or source
        node = Node("view", shape, 0, (source,), view_of=root)
        node.layout = (_sides(shape), source.layout[-1] if source.layout else F32)
        return node

    def view(self, source: Node, shape: tuple[int, ...], stride: int = 0) -> Node:
        """A strided or offset part of a tensor: same memory, other layout. ``stride`` is the bytes from one token to
        the next where that is no more than the part's own."""
        root = source.view_of or source
        node = Node("view", shape, 0, (source,), view_of=root)
        node.stride = stride or source.stride
        node.layout = ("strided", shape, id(node))
        return node

    def transposed(self, source: Node, shape: tuple[int, ...]) -> Node:
        """A view with rows and columns exchanged, which reaches as far as its source."""
        node = self.view(source, shape)
        node.span = source.span or copied_bytes(source)
        return node

    def store(self, cache: Node, *sources: Node) -> Node:
        """Writing into an external tensor (set_rows, cpy): a view of it that must run where it lies."""
        node = Node("store", (), 0, sources, view_of=cache, device=cache.device)
        node.layout = ("store", id(node))
        return node

    def expand(self, node: Node) -> None:
        """Puts the node and all it is made from at the end of the order, each once, sources first."""
        if node.reached:
            return
        node.reached = True
        stack = [node]
        while stack:
            current = stack[-1]
            for child in current.sources:
                if not child.reached:
                    child.reached = True
                    stack.append(child)
                    break
            else:
                stack.pop()
                if current.sources:
                    self.nodes.append(current)
                elif current.is_input or current.op == "blank":
                    self.leaves.append(current)

    def keep_leaf(self, node: Node) -> None:
        """An input that the graph holds although nothing reads it."""
        if not node.reached:
            node.reached = True
            self.leaves.append(node)


def copied_bytes(source: Node) -> int:
    """What a copy on another device takes: it keeps the strides of a view, and the room between
    (ggml_dup_tensor_layout)."""
    if source.nbytes or source.view_of is None:
        return source.nbytes
    if source.span:
        return source.span
    if source.stride:
        return (source.shape[-1] - 1) * source.stride + prod(source.shape[:-1]) * F32
    return prod(source.shape) * F32


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the ones at its end, which make no difference to a layout."""
    if shape[-1] != 1:
        return shape
    count = len(shape)
    while count > 1 and shape[count - 1] == 1:
        count -= 1
    return shape[:count]
