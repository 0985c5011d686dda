"""The forward pass of a language model as a graph of tensors, layer by layer.

Mirrors what llama.cpp builds (src/llama-graph.cpp build_attn_mha, build_ffn, build_moe_ffn, and src/models/*.cpp) as
far as it decides memory. Which parts a layer has is read from its tensors, so any architecture made of these works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from fitcheck.models.families.language.architecture import LanguageArchitecture, LanguageLayer
from fitcheck.models.quant import TYPES
from fitcheck.models.tensors import Tensor
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions, cache_type
from fitcheck.runtimes.llamacpp.caches import LayerCache, cache_elements, sliding_cells
from fitcheck.runtimes.llamacpp.feedforward import add_per_layer, dense, per_layer_inputs
from fitcheck.runtimes.llamacpp.graph import F16, F32, Graph, Node
from fitcheck.runtimes.llamacpp.graph_traits import has_trait
from fitcheck.runtimes.llamacpp.layer_facts import cache_owner
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


class Builder:
    """Builds one graph of ``plan`` for its largest micro-batch."""

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

    def build_graph(self, kept: tuple[int, ...]) -> Graph:
        """The graph of the layers ``kept`` (indices in order), between embedding and head."""
        graph, architecture, tokens = self.graph, self.plan.architecture, self.tokens
        width = architecture.embedding
        ids = graph.input(tokens * 4)
        embedding = graph.op("get_rows", (width, tokens), self.weight("token_embd.weight"), ids)
        graph.expand(embedding)
        if self.build.has("two_inputs"):
            graph.keep_leaf(graph.input(tokens * width * F32))
        stream = embedding
        if architecture.embedding_scaled:
            stream = graph.op("scale", (width, tokens), stream)
        graph.expand(stream)
        self.position_inputs()
        self.attention_inputs()
        self.sequence_inputs()
        outputs = self.options.outputs
        self.output_ids = graph.input(outputs * 4)
        extra = per_layer_inputs(self, stream) if architecture.per_layer_embedding else None
        for index in kept:
            stream = self._layer(index, stream, extra, index == kept[-1])
        stream = self._last_rows(stream)
        rows = stream.shape[-1]
        if self.plan.head is not None:
            head = self.head()
            stream = graph.op("mul_mat", (architecture.vocabulary, rows), head, stream, rows=rows)
            if "output.bias" in self.plan.names:
                stream = graph.op("add", stream.shape, stream, self.weight("output.bias"))
            if architecture.final_soft_cap:
                for name in ("scale", "unary", "scale"):
                    stream = graph.op(name, stream.shape, stream)
        graph.expand(stream)
        return graph

    def _last_rows(self, stream: Node) -> Node:
        """The last norm, and the rows of outputs where they were not selected before. What they are selected from is
        an output itself, which prediction layers go on with: it is never given back (llm_graph_result::set_outputs)."""
        early = has_trait(self.plan.architecture, "rows_before_last_norm")
        if not early or not self.late_rows:
            stream = self.norm(stream, "output_norm", None)
        if self.late_rows:
            stream.is_output = True
            stream = self.select(stream, self.options.outputs)
        return self.norm(stream, "output_norm", None) if early and self.late_rows else stream

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

    def layer(self, index: int, stream: Node) -> Node:
        """One layer whose rows all go on."""
        return self._layer(index, stream, None, last=False)

    def attention_inputs(self) -> None:
        """Masks and cache indices; float16 masks from mid-2026 on, before that float32 with a float16 copy."""
        graph, options = self.graph, self.options
        self.masks: dict[bool, Node] = {}
        self.indices: dict[bool, tuple[Node, Node]] = {}
        latent_only = self.plan.architecture.latent is not None and self.build.has("latent_without_values")
        for slides in (False, True):
            if not any(block.sliding is slides and block.attention for block in self.plan.architecture.main_blocks):
                continue
            cells = self.sliding if slides else self.cells
            per_stream = cells // self.streams
            half = options.flash and self.build.has("half_mask")
            rows = self.tokens // self.streams
            if not half and not self.build.has("padded_context"):
                rows = -(-rows // 64) * 64
            mask = graph.input(per_stream * rows * self.streams * (F16 if half else F32))
            if options.flash and not half:
                mask = graph.op("cpy", (per_stream, rows, self.streams), mask, element=F16)
            self.masks[slides] = mask
            widest = max((b.value_elements for b in self.plan.architecture.main_blocks), default=0)
            if self.build.has("set_rows"):
                keys = graph.input(self.tokens * 8)
                values = graph.input(self.tokens * 8 * (1 if options.flash or latent_only else max(widest, 1)))
                self.indices[slides] = (keys, values)
        self._rotation_inputs()

    def _rotation_inputs(self) -> None:
        """Hadamard matrices by which K and V are turned before they are quantized (since April 2026)."""
        self.rotations: dict[tuple[bool, int], Node] = {}
        architecture = self.plan.architecture
        if not self.build.has("rotated_cache") or self._latent_cache():
            return
        for slides in (False, True):
            alike = [b for b in architecture.main_blocks if b.attention and b.cached and b.sliding is slides]
            lengths = {(b.key_length, b.value_length) for b in alike}
            if len(lengths) != 1:
                continue
            key, value = lengths.pop()
            quantized = [
                TYPES[cache_type(name)].quantized for name in (self.options.cache_type_k, self.options.cache_type_v)
            ]
            if quantized[0] and key % 64 == 0:
                side = key & -key
                self.rotations[(slides, 0)] = self.graph.input(side * side * F32, side, side)
            if quantized[1] and value % 64 == 0:
                self.rotations[(slides, 1)] = self.graph.input(64 * 64 * F32, 64, 64)

    def _latent_cache(self) -> bool:
        return self.plan.architecture.latent is not None

    def _rotate(self, node: Node, slides: bool, which: int) -> Node:
        matrix = self.rotations.get((slides, which))
        if matrix is None:
            return node
        side, total = matrix.shape[0], prod(node.shape)
        flat = self.graph.reshape(node, (side, total // side))
        turned = self.graph.op("mul_mat", (side, total // side), matrix, flat)
        return self.graph.reshape(turned, node.shape)

    def _layer(self, index: int, stream: Node, extra: Node | None, last: bool) -> Node:
        graph, plan = self.graph, self.plan
        block, prefix, device = plan.architecture.blocks[index], f"blk.{index}.", plan.layers[index]
        names = plan.names
        residual = stream
        current = stream
        if f"{prefix}attn_norm.weight" in names:
            current = self.norm(stream, f"{prefix}attn_norm", device)
        normed = current
        if has_trait(plan.architecture, "norm_first"):
            graph.expand(current)
        if block.recurrent and block.attention:
            attended = self._attention(index, block, current)
            again = self.norm(stream, f"{prefix}attn_norm", device)
            current = graph.op("add", current.shape, attended, self._mixer(index, block, again))
        elif block.recurrent:
            current = self._mixer(index, block, current)
        elif block.attention:
            current = self._attention(index, block, current)
        else:  # Nemotron-H: a layer is a mixer, an attention or a feed-forward part
            return graph.op("add", current.shape, self._feed_forward(index, block, current), residual)
        if last and not self.late_rows:
            rows = self.options.outputs
            current = self.select(current, rows)
            residual = self.select(residual, rows)
        if f"{prefix}post_attention_norm.weight" in names and self._post_norm_first(prefix):
            current = self.norm(current, f"{prefix}post_attention_norm", device)
        parallel = self._second_norm(prefix) is None
        if not self._has_feed_forward(prefix):
            return graph.op("add", current.shape, current, residual)
        if parallel and f"{prefix}attn_norm.weight" in names and f"{prefix}post_ffw_norm.weight" not in names:
            branch = self.select(normed, self.options.outputs) if last and not self.late_rows else normed
            output = self._feed_forward(index, block, branch)
            pair = (current, output) if f"{prefix}attn_qkv.weight" in names else (output, residual)
            first = graph.op("add", current.shape, *pair)
            return graph.op("add", current.shape, first, residual if pair[0] is current else current)
        middle = self._added(current, residual, "residual_before_attended")
        current = middle
        second = self._second_norm(prefix)
        if second is not None:
            current = self.norm(middle, second, device)
        current = self._feed_forward(index, block, current)
        if f"{prefix}post_ffw_norm.weight" in names:
            current = self.norm(current, f"{prefix}post_ffw_norm", device)
        current = self._added(current, middle, "residual_before_fed")
        if extra is not None:
            current = add_per_layer(self, index, current, extra, last and not self.late_rows)
        return current

    def _added(self, current: Node, residual: Node, trait: str) -> Node:
        """Both together, in the order of the architecture."""
        pair = (residual, current) if has_trait(self.plan.architecture, trait) else (current, residual)
        return self.graph.op("add", current.shape, *pair)

    def _post_norm_first(self, prefix: str) -> bool:
        """post_attention_norm follows attention (Gemma, GLM 4); in Qwen3-Next it is the second norm's other name."""
        names = self.plan.names
        return f"{prefix}ffn_norm.weight" in names or f"{prefix}post_ffw_norm.weight" in names

    def _second_norm(self, prefix: str) -> str | None:
        """The norm before the feed-forward part, under whichever name the file has it."""
        names = self.plan.names
        for name in (f"{prefix}ffn_norm.weight", f"{prefix}ffn_norm"):
            if name in names:
                return name.removesuffix(".weight")
        if f"{prefix}post_attention_norm.weight" in names and not self._post_norm_first(prefix):
            return f"{prefix}post_attention_norm"
        return None

    def _has_feed_forward(self, prefix: str) -> bool:
        names = self.plan.names
        return f"{prefix}ffn_up.weight" in names or f"{prefix}ffn_down_exps.weight" in names

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

    def linear(self, name: str, node: Node, rows: int, bias: bool = True) -> Node:
        """``name``.weight times the node, with its bias where the file has one: ``rows`` elements a token."""
        tokens = node.shape[-1]
        found = self.graph.op("mul_mat", (rows, tokens), self.weight(f"{name}.weight"), node, rows=tokens)
        if bias and f"{name}.bias" in self.plan.names:
            found = self.graph.op("add", found.shape, found, self.weight(f"{name}.bias"))
        return found

    def _attention(self, index: int, block: LanguageLayer, current: Node) -> Node:
        if self.plan.architecture.latent is not None:
            from fitcheck.runtimes.llamacpp.latent import latent_attention

            return latent_attention(self, index, block, current)
        graph, prefix, tokens = self.graph, f"blk.{index}.", self.tokens
        names = self.plan.names
        heads, kv_heads, key, value = block.heads, block.kv_heads, block.key_length, block.value_length
        own = block.cached and (f"{prefix}attn_k.weight" in names or f"{prefix}attn_qkv.weight" in names)
        gate, whole = None, False
        if f"{prefix}attn_qkv.weight" in names:
            total = heads * key + kv_heads * (key + value)
            joint = self.linear(f"{prefix}attn_qkv", current, total)
            query = graph.view(joint, (key, heads, tokens))
            keys = graph.view(joint, (key, kv_heads, tokens))
            values = graph.view(joint, (value, kv_heads, tokens), total * F32)
        else:
            rows = names[f"{prefix}attn_q.weight"].shape[0]
            whole = self._normed_whole(prefix, rows)
            flat = self.linear(f"{prefix}attn_q", current, rows)
            flat = self.head_norm(flat, f"{prefix}attn_q_norm") if whole else flat
            if rows == 2 * heads * key:
                query = graph.view(flat, (key, heads, tokens))
                gate = graph.op("cont", (key * heads, tokens), graph.view(flat, (key, heads, tokens)))
            else:
                query = graph.reshape(flat, (key, heads, tokens))
            if own:
                flat_keys = self.linear(f"{prefix}attn_k", current, kv_heads * key)
                flat_keys = self.head_norm(flat_keys, f"{prefix}attn_k_norm") if whole else flat_keys
                keys = graph.reshape(flat_keys, (key, kv_heads, tokens))
                values = keys
                if f"{prefix}attn_v.weight" in names:
                    flat_values = self.linear(f"{prefix}attn_v", current, kv_heads * value)
                    values = graph.reshape(flat_values, (value, kv_heads, tokens))
        if f"{prefix}attn_q_norm.weight" in names and not whole:
            query = self.head_norm(query, f"{prefix}attn_q_norm")
        query = self.rope(index, query)
        if own:
            if f"{prefix}attn_k_norm.weight" in names and not whole:
                keys = self.head_norm(keys, f"{prefix}attn_k_norm")
            keys = self.rope(index, keys)
        output = self.attend(index, block, query, keys if own else None, values if own else None, value)
        if gate is not None:
            output = graph.op("mul", output.shape, output, graph.op("unary", gate.shape, gate))
        return self.linear(f"{prefix}attn_output", output, self.plan.architecture.embedding)

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
            return architecture.blocks[index].sliding
        return not has_trait(architecture, "unturned")

    def _normed_whole(self, prefix: str, rows: int) -> bool:
        """Whether all of a token's heads are normed as one (OLMo 2, MiniMax M2), before they are told apart."""
        norm = self.plan.names.get(f"{prefix}attn_q_norm.weight")
        return norm is not None and norm.shape == (rows,)

    def head_norm(self, node: Node, name: str) -> Node:
        """Each head normed by itself."""
        normed = self.graph.op("rms_norm", node.shape, node)
        return self.graph.op("mul", node.shape, normed, self.weight(f"{name}.weight"))

    def attend(
        self,
        index: int,
        block: LanguageLayer,
        query: Node,
        keys: Node | None,
        values: Node | None,
        width: int,
        raised: tuple[Node, int] | None = None,
    ) -> Node:
        """Store K and V, multiply with the whole cache; the result is (heads × width, tokens). Where values are a
        latent, ``raised`` is the matrix that makes heads of so many elements of it."""
        graph, options, tokens, heads = self.graph, self.options, self.tokens, block.heads
        cache_device = self.plan.host if options.cache_on_host else self.plan.layers[index]
        slides = block.sliding
        cells = self.sliding if slides else self.cells
        held = self.plan.caches[cache_owner(self.plan.architecture, index)]
        cached_keys = graph.cache(cache_device, held.keys)
        cached_values = graph.cache(cache_device, held.values or self._within_keys(held))
        query = self._rotate(query, slides, 0)
        keys = self._rotate(keys, slides, 0) if keys is not None else None
        values = self._rotate(values, slides, 1) if values is not None else None
        graph.expand(query)
        order = (keys, values) if self.plan.architecture.window else (values, keys)
        for part in order if self.build.has("set_rows") else (keys, values):
            if part is not None:
                graph.expand(part)
        pair = self.indices.get(slides)
        for position, (part, target) in enumerate(((keys, cached_keys), (values, cached_values))):
            if part is not None:
                flat = graph.view(part, (part.shape[0] * part.shape[1], tokens))
                sources = (flat, pair[position]) if pair is not None else (flat,)
                graph.expand(graph.store(target, *sources))
        turned = graph.view(query, (query.shape[0], tokens, heads))
        mask = self.masks.get(slides) or next(iter(self.masks.values()))
        sinks = f"blk.{index}.attn_sinks.weight"
        beside = (mask, self.weight(sinks)) if sinks in self.plan.names else (mask,)
        if options.flash:
            output = graph.op("flash_attn", (width, heads, tokens), turned, cached_keys, cached_values, *beside)
            output.nbytes += self._half_copy(index, cells)
            if raised is not None:
                output = self._raised(graph.view(output, (width, tokens, heads)), raised)
            output = graph.reshape(output, (prod(output.shape) // tokens, tokens))
            graph.expand(output)
            return self._rotate(output, slides, 1)
        scores = graph.op("mul_mat", (cells // self.streams, tokens, heads), cached_keys, turned)
        if self.plan.architecture.soft_cap:
            for name in ("scale", "unary", "scale"):
                scores = graph.op(name, scores.shape, scores)
        weights = graph.op("soft_max", scores.shape, scores, *beside)
        if raised is not None and not held.values:  # a view of the keys is not turned as it is stored
            cached_values = graph.op("cont", (cells, width), cached_values, element=F16)
        mixed = graph.op("mul_mat", (width, tokens, heads), cached_values, weights)
        if raised is None:
            output = graph.op("cont", (width * heads, tokens), graph.view(mixed, (width, heads, tokens)))
        else:
            output = self._raised(mixed, raised)
            output = graph.reshape(output, (prod(output.shape) // tokens, tokens))
        if options.cache_on_host:
            (output.view_of or output).device = self.plan.host
        graph.expand(output)
        return self._rotate(output, slides, 1)

    def _raised(self, latent: Node, raised: tuple[Node, int]) -> Node:
        """Heads made of a latent (width, tokens, heads), turned to (length, heads, tokens)."""
        weight, length = raised
        _, tokens, heads = latent.shape
        found = self.graph.op("mul_mat", (length, tokens, heads), weight, latent, rows=tokens)
        return self.graph.op("cont", (length, heads, tokens), self.graph.view(found, (length, heads, tokens)))

    def _within_keys(self, held: LayerCache) -> int:
        """Bytes from the first value to the last where values are a part of the keys: the last key ends behind it."""
        latent = self.plan.architecture.latent
        if latent is None or not held.cells:
            return held.keys
        row = held.keys // held.cells
        return held.keys - row * latent.rope // (latent.rank + latent.rope)

    def _half_copy(self, index: int, cells: int) -> int:
        """The float16 copy of a quantized cache that CUDA's flash attention keeps behind its result, in bytes."""
        options = self.options
        on_host = self.plan.layers[index] == self.plan.host and not (self.plan.host and options.op_offload)
        if options.backend != "cuda" or on_host or not self.build.has("half_cache_copy"):
            return 0
        keys, values = cache_elements(self.plan.architecture, index, options)
        size = 0
        if TYPES[cache_type(options.cache_type_k)].name != "F16":
            size += keys * cells * F16 + 128
        if values and TYPES[cache_type(options.cache_type_v)].name != "F16":
            size += values * cells * F16 + 128
        return size

    def _feed_forward(self, index: int, block: LanguageLayer, current: Node) -> Node:
        prefix, names = f"blk.{index}.", self.plan.names
        if f"{prefix}ffn_down_exps.weight" in names:
            from fitcheck.runtimes.llamacpp.experts import expert_feed_forward

            return expert_feed_forward(self, index, block, current)
        return dense(self, prefix, "ffn_up", "ffn_gate", "ffn_down", current)

    def _mixer(self, index: int, block: LanguageLayer, current: Node) -> Node:
        from fitcheck.runtimes.llamacpp.mixers import mixer

        return mixer(self, index, block, current)
