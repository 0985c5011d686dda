"""The forward pass of a language model as a graph of tensors, layer by layer.

Mirrors what llama.cpp builds (src/llama-graph.cpp build_attn_mha, build_ffn, build_moe_ffn, and src/models/*.cpp) as
far as it decides memory. Which parts a layer has is read from its tensors, so any architecture made of these works.
"""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.runtimes.llamacpp.feedforward import add_per_layer, dense, per_layer_inputs
from fitcheck.runtimes.llamacpp.graph import F32, Graph, Node
from fitcheck.runtimes.llamacpp.graph_attention import Attending
from fitcheck.runtimes.llamacpp.graph_traits import has_trait
from fitcheck.runtimes.llamacpp.head_attention import head_attention


class Builder(Attending):
    """Builds one graph of ``plan`` for its largest micro-batch."""

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
        if "position_embd.weight" in self.plan.names:
            places = graph.op("get_rows", (width, tokens), self.weight("position_embd.weight"), self.positions)
            stream = graph.op("add", (width, tokens), stream, places)
        self.sequence_inputs()
        outputs = self.options.outputs
        self.output_ids = graph.input(outputs * 4)
        extra = per_layer_inputs(self, stream) if architecture.per_layer_embedding else None
        for index in kept:
            graph.begin_layer()
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

    def layer(self, index: int, stream: Node) -> Node:
        """One layer whose rows all go on."""
        return self._layer(index, stream, None, last=False)

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
            return self._both_added(prefix, current, output, residual)
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

    def _both_added(self, prefix: str, attended: Node, fed: Node, residual: Node) -> Node:
        """The sum of what attention and the feed-forward part make of the same norm, in the architecture's order."""
        order = (fed, residual, attended)
        if has_trait(self.plan.architecture, "fed_first"):
            order = (fed, attended, residual)
        elif f"{prefix}attn_qkv.weight" in self.plan.names:
            order = (attended, fed, residual)
        first = self.graph.op("add", attended.shape, *order[:2])
        return self.graph.op("add", attended.shape, first, order[2])

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

    def _attention(self, index: int, block: LanguageLayer, current: Node) -> Node:
        if self.plan.architecture.latent is None:
            return head_attention(self, index, block, current)
        from fitcheck.runtimes.llamacpp.latent import latent_attention

        return latent_attention(self, index, block, current)

    def _feed_forward(self, index: int, block: LanguageLayer, current: Node) -> Node:
        prefix, names = f"blk.{index}.", self.plan.names
        if f"{prefix}ffn_down_exps.weight" in names:
            from fitcheck.runtimes.llamacpp.experts import expert_feed_forward

            return expert_feed_forward(self, index, block, current)
        return dense(self, prefix, "ffn_up", "ffn_gate", "ffn_down", current)

    def _mixer(self, index: int, block: LanguageLayer, current: Node) -> Node:
        from fitcheck.runtimes.llamacpp.mixers import mixer

        return mixer(self, index, block, current)
