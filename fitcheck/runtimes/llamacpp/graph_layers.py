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
from fitcheck.runtimes.llamacpp.uncached_attention import uncached_attention, uncached_masks

_AFTER_ATTENTION = ("post_attention_norm", "attn_output_norm")
_AFTER_FED = ("post_ffw_norm", "layer_output_norm")


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
        self._masks()
        if (
            "token_embd_norm.weight" in self.plan.names and "output_norm.weight" in self.plan.names
        ):  # LFM2's is the last
            stream = self.norm(stream, "token_embd_norm", None)
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
        graph.expand(self.capped(self._last_rows(stream)))
        return graph

    def capped(self, stream: Node) -> Node:
        """Logits of the rows of ``stream``, where the model has a head."""
        graph, rows = self.graph, stream.shape[-1]
        if self.plan.head is None:
            return stream
        stream = graph.op("mul_mat", (self.plan.architecture.vocabulary, rows), self.head(), stream, rows=rows)
        if "output.bias" in self.plan.names:
            stream = graph.op("add", stream.shape, stream, self.weight("output.bias"))
        if self.plan.architecture.final_soft_cap:
            for name in ("scale", "unary", "scale"):
                stream = graph.op(name, stream.shape, stream)
        return stream

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

    def _masks(self) -> None:
        if self.plan.architecture.caches:
            self.attention_inputs()
        else:
            self.masks = uncached_masks(self)

    def layer(self, index: int, stream: Node) -> Node:
        """One layer whose rows all go on."""
        return self._layer(index, stream, None, last=False)

    def _layer(self, index: int, stream: Node, extra: Node | None, last: bool) -> Node:
        graph, plan = self.graph, self.plan
        block, prefix, device = plan.architecture.blocks[index], f"blk.{index}.", plan.layers[index]
        names = plan.names
        residual = stream
        current = stream
        routed = self._routed_before(index, stream, last)
        bare = has_trait(plan.architecture, "norms_without_weights")
        if bare or f"{prefix}attn_norm.weight" in names:
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
        else:  # a layer of Nemotron-H is a mixer, an attention or a feed-forward part; one of Deci may not attend
            fed = self._fed(index, block, current, None)
            return graph.op("add", current.shape, fed, residual)
        after = self._norm_after(prefix, _AFTER_ATTENTION) if self._post_norm_first(prefix) else None
        normed_first = has_trait(plan.architecture, "rows_after_post_norm")
        if after is not None and normed_first:
            current = self.norm(current, after, device)
        if last and not self.late_rows:
            rows = self.options.outputs
            current = self.select(current, rows)
            residual = self.select(residual, rows)
        if after is not None and not normed_first:
            current = self.norm(current, after, device)
        parallel = self._second_norm(prefix) is None and not bare
        if not self._has_feed_forward(prefix):
            return graph.op("add", current.shape, current, residual)
        if parallel and f"{prefix}attn_norm.weight" in names and f"{prefix}post_ffw_norm.weight" not in names:
            branch = self.select(normed, self.options.outputs) if last and not self.late_rows else normed
            output = self._feed_forward(index, block, branch)
            return self._both_added(prefix, current, output, residual)
        middle = self._added(current, residual, "residual_before_attended")
        current = middle
        current = self._fed(index, block, middle, routed)
        after = self._norm_after(prefix, _AFTER_FED)
        if after is not None:
            current = self.norm(current, after, device)
        current = self._added(current, middle, "residual_before_fed")
        if extra is not None:
            current = add_per_layer(self, index, current, extra, last and not self.late_rows)
        if f"{prefix}layer_output_scale.weight" in names:
            current = graph.op("mul", current.shape, current, self.weight(f"{prefix}layer_output_scale.weight"))
        return current

    def _fed(self, index: int, block: LanguageLayer, stream: Node, routed: Node | None) -> Node:
        """The feed-forward part of ``stream``, with the norm before it."""
        prefix = f"blk.{index}."
        if f"{prefix}pre_ffw_norm_2.weight" in self.plan.names:
            from fitcheck.runtimes.llamacpp.dense_beside import normed_apart

            return normed_apart(self, index, block, stream)
        bare = has_trait(self.plan.architecture, "norms_without_weights")
        second = self._second_norm(prefix) or (f"{prefix}ffn_norm" if bare else None)
        current = stream if second is None else self.norm(stream, second, self.plan.layers[index])
        return self._feed_forward(index, block, current, routed)

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

    def _norm_after(self, prefix: str, kinds: tuple[str, ...]) -> str | None:
        """The norm behind a part of the layer, under whichever name the file has it."""
        names = self.plan.names
        found = (f"{prefix}{kind}" for kind in kinds)
        return next((name for name in found if f"{name}.weight" in names or name in names), None)

    def _post_norm_first(self, prefix: str) -> bool:
        """post_attention_norm follows attention (Gemma, GLM 4); in Qwen3-Next it is the second norm's other name, and
        so is DBRX's attn_output_norm."""
        names = self.plan.names
        return f"{prefix}ffn_norm.weight" in names or f"{prefix}post_ffw_norm.weight" in names

    def _second_norm(self, prefix: str) -> str | None:
        """The norm before the feed-forward part, under whichever name the file has it."""
        names = self.plan.names
        for name in (f"{prefix}ffn_norm.weight", f"{prefix}ffn_norm"):
            if name in names:
                return name.removesuffix(".weight")
        return None if self._post_norm_first(prefix) else self._norm_after(prefix, _AFTER_ATTENTION)

    def _has_feed_forward(self, prefix: str) -> bool:
        names = self.plan.names
        return f"{prefix}ffn_up.weight" in names or f"{prefix}ffn_down_exps.weight" in names

    def _attention(self, index: int, block: LanguageLayer, current: Node) -> Node:
        if not self.plan.architecture.caches:
            return uncached_attention(self, index, current, self.masks[block.sliding])
        if self.plan.architecture.latent is None:
            return head_attention(self, index, block, current)
        from fitcheck.runtimes.llamacpp.latent import latent_attention

        return latent_attention(self, index, block, current)

    def _routed_before(self, index: int, stream: Node, last: bool) -> Node | None:
        """A router's verdict on what the layer reads, where experts are chosen by that (SmallThinker)."""
        routes = f"blk.{index}.ffn_gate_inp.weight" in self.plan.names
        if not routes or not has_trait(self.plan.architecture, "routed_by_stream"):
            return None
        from fitcheck.runtimes.llamacpp.experts import router_logits

        logits = router_logits(self, f"blk.{index}.", stream)
        return self.select(logits, self.options.outputs) if last else logits

    def _feed_forward(self, index: int, block: LanguageLayer, current: Node, routed: Node | None = None) -> Node:
        prefix, names = f"blk.{index}.", self.plan.names
        if f"{prefix}ffn_down_exps.weight" in names and f"{prefix}ffn_down.weight" in names:
            from fitcheck.runtimes.llamacpp.dense_beside import halved_sum

            return halved_sum(self, index, block, current)
        if f"{prefix}ffn_down_exps.weight" in names:
            from fitcheck.runtimes.llamacpp.experts import expert_feed_forward

            return expert_feed_forward(self, index, block, current, routed)
        return dense(self, prefix, "ffn_up", "ffn_gate", "ffn_down", current)

    def _mixer(self, index: int, block: LanguageLayer, current: Node) -> Node:
        from fitcheck.runtimes.llamacpp.mixers import mixer

        return mixer(self, index, block, current)
