"""Parts of a language model's graph that are alike wherever they stand: inputs, weights, norms, products, rotation."""

from __future__ import annotations

from collections.abc import Mapping

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.caches import LayerCache, sliding_cells
from fitcheck.runtimes.llamacpp.graph import Graph, Node
from fitcheck.runtimes.llamacpp.graph_traits import has_trait
from fitcheck.runtimes.llamacpp.weight_placement import HOST, head_on_host

_FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")


@dataclass(frozen=True)
class GraphPlan:
    """What the builder needs: shapes, options and where every tensor and cache lies. ``host`` is the host's index.
    ``places`` has ``HOST`` for it."""

    architecture: LanguageArchitecture
    options: LlamaOptions
    names: Mapping[str, Tensor]
    places: Mapping[str, int]
    layers: tuple[int, ...]
    output: int
    host: int
    caches: tuple[LayerCache, ...]
    head: Tensor | None

    def place(self, name: str) -> int:
        """The index of the device on which a tensor lies."""
        place = self.places[name]
        return self.host if place == HOST else place

    @property
    def tokens(self) -> int:
        """Tokens of the largest micro-batch, rounded up to a multiple of the sequences."""
        slots = self.options.slots
        return -(-self.options.micro // slots) * slots

    @property
    def full_offload(self) -> bool:
        """Whether every layer and the output run on cards."""
        return self.host not in self.layers and self.output != self.host


class Parts:
    """What every graph of a language model is made of: inputs, weights, norms, products."""

    output_ids: Node  # set by whoever lays the graph out, in its order

    def __init__(self, plan: GraphPlan) -> None:
        self.plan = plan
        self.graph = Graph()
        self.options = plan.options
        self.build = plan.options.build
        self.tokens = plan.tokens
        self.weights: dict[str, Node] = {}
        architecture = plan.architecture
        self.streams = 1 if self.options.unified_cache else self.options.slots
        self.cells = self.options.padded_context
        self.sliding = sliding_cells(architecture, self.options)
        # before that, rows were reserved for all tokens wherever they are selected
        self.late_rows = has_trait(architecture, "late_rows") and self.build.has("outputs_limited")

    def position_inputs(self) -> None:
        """Where each token stands, as int32."""
        each = 4 if has_trait(self.plan.architecture, "four_positions") else 1
        self.positions = self.graph.input(self.tokens * 4 * each)

    def sequence_inputs(self) -> None:
        """Which states of recurrent layers belong to the batch's sequences, and which to others: none of them when
        memory is reserved."""
        ids = self.graph.input(max(self.options.slots, 1) * 4)
        self.state_rows = self.graph.view(ids, (max(self.options.slots, 1),))
        self.other_rows = self.graph.view(ids, (0,))

    def weight(self, name: str) -> Node:
        """The weight of that name where the plan puts it: one node however often it is read."""
        if name not in self.weights:
            self.weights[name] = self._weight(self.plan.names[name], self.plan.place(name))
        return self.weights[name]

    def head(self, index: int | None = None) -> Node:
        """The output matrix: a prediction layer's own where layer ``index`` has one, else the model's."""
        own = None if index is None else self.plan.names.get(f"blk.{index}.nextn.shared_head_head.weight")
        head = own or self.plan.head
        assert head is not None
        stays = head_on_host(self.plan.architecture, self.options)
        return self._weight(head, self.plan.host if stays else self.plan.output)

    def _weight(self, tensor: Tensor, place: int) -> Node:
        """Only what a host with cards holds ever moves, and needs room where it does."""
        if place == self.plan.host > 0:
            return self.graph.weight(tensor.nbytes, place, tensor.name)
        return self.graph.weight(0, place)

    def select(self, node: Node, rows: int) -> Node:
        """The columns of ``rows`` output tokens; the node itself when that is all, but for builds that always
        select."""
        if rows == self.tokens and not self.build.has("outputs_always_selected"):
            return node
        return self.graph.op("get_rows", (node.shape[0], rows), node, self.output_ids)

    def norm(self, node: Node, name: str, device: int | None) -> Node:
        """The node normalized, with what the file has of weight and bias; held on ``device``, where it belongs to a
        layer, when all layers are on cards and in batches of less than 32 tokens."""
        graph = self.graph
        normed = graph.op("norm" if self.plan.architecture.layer_norm else "rms_norm", node.shape, node)
        if self.plan.full_offload or self.tokens < 32:
            normed.device = device
        weight = f"{name}.weight" if f"{name}.weight" in self.plan.names else name
        if weight in self.plan.names:
            normed = graph.op("mul", node.shape, normed, self.weight(weight))
        if f"{name}.bias" in self.plan.names:
            normed = graph.op("add", node.shape, normed, self.weight(f"{name}.bias"))
        return normed

    def head_norm(self, node: Node, name: str) -> Node:
        """Each head normed by itself."""
        normed = self.graph.op("rms_norm", node.shape, node)
        return self.graph.op("mul", node.shape, normed, self.weight(f"{name}.weight"))

    def linear(self, name: str, node: Node, rows: int, bias: bool = True) -> Node:
        """``name``.weight times the node, with its bias where the file has one: ``rows`` elements a token."""
        tokens = node.shape[-1]
        found = self.graph.op("mul_mat", (rows, tokens), self.weight(f"{name}.weight"), node, rows=tokens)
        if bias and f"{name}.bias" in self.plan.names:
            found = self.graph.op("add", found.shape, found, self.weight(f"{name}.bias"))
        return found

    def rope(self, index: int, node: Node) -> Node:
        """The node turned by its tokens' positions where the layer does that, with the file's factors where it has
        some: they lie with every layer. Gemma 4's are those of the layers without a window."""
        block, names = self.plan.architecture.blocks[index], self.plan.names
        if not self._turns(index):
            return node
        factors = next((name for name in _FACTORS if name in names), None)
        sliding_alone = has_trait(self.plan.architecture, "unturned_unless_sliding")
        if factors is None or (block.sliding and not sliding_alone):
            return self.graph.op("rope", node.shape, node, self.positions)
        place = self.plan.layers[index]
        key = f"{factors} of {place}"
        if key not in self.weights:
            self.weights[key] = self._weight(names[factors], place)
        return self.graph.op("rope", node.shape, node, self.positions, self.weights[key])

    def _turns(self, index: int) -> bool:
        architecture = self.plan.architecture
        if has_trait(architecture, "every_fourth_unturned"):
            return (index + 1) % 4 != 0
        if has_trait(architecture, "unturned_unless_sliding") and architecture.window:
            leads = has_trait(architecture, "leading_turned") and index < architecture.dense_lead
            return leads or architecture.blocks[index].sliding
        return not has_trait(architecture, "unturned")
