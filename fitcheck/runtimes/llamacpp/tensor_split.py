"""``--split-mode tensor``: every card has a part of each matrix and of each cache, and the whole of what is small.

llama.cpp makes one device of all cards (src/llama.cpp, ggml-backend-meta.cpp), on which the graph is that of a single
card. Which tensors are parted, along which side and in pieces of how many elements, follows
llama_meta_device_get_split_state of src/llama-model.cpp; all others lie whole on every card. Pieces are whole heads
and whole blocks of quantized types, so parts are uneven where heads or blocks do not divide by the cards; the card
that gets more changes from layer to layer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from math import lcm

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import NotModelledError, OptionError
from fitcheck.models.families.language.architecture import LanguageArchitecture, Recurrent
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LAYER, LlamaOptions
from fitcheck.runtimes.llamacpp.caches import LayerCache
from fitcheck.runtimes.llamacpp.weight_groups import card_bytes
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, TensorPlaces

_PIECE = 128  # elements that kernels like; of llama_meta_device_get_split_state
_GATED = frozenset({"qwen3next", "qwen35", "qwen35moe", "qwen4exp"})  # queries and gates in one matrix
_WHOLE_STATES = frozenset({"lfm2", "lfm2moe"})  # short convolutions run on every card
_ATTENTION, _DELTA, _FEED_FORWARD, _NORM, _OUTPUT = "attn_output", "ssm_out", "ffn", "norm", "output"
# the side of a matrix that is parted, as rows of its shape (0) or columns (-1), and what decides the pieces
_PARTED = (
    (r"attn_(?:q|k|v|qkv|gate)\.weight|attn_(?:q|k|v|qkv)\.bias|attn_sinks\.weight", 0, _ATTENTION),
    (r"attn_output\.weight", -1, _ATTENTION),
    (r"attn_[qk]_norm\.weight", -2, _NORM),
    (r"ssm_(?:dt\.bias|a|alpha\.weight|beta\.weight|ba\.weight|conv1d\.weight)", 0, _DELTA),
    (r"ssm_out\.weight", -1, _DELTA),
    (r"ffn_(?:up|gate|gate_up)(?:_exps)?\.weight|ffn_(?:up|gate)(?:_exps)?\.bias", -2, _FEED_FORWARD),
    (r"ffn_down(?:_exps)?\.weight", -1, _FEED_FORWARD),
    (r"output\.weight|output\.bias", 0, _OUTPUT),
)


@cache
def _parted() -> tuple[tuple[re.Pattern[str], int, str], ...]:
    """Compiled when the first model is parted, which few commands do."""
    return tuple((re.compile(pattern), side, kind) for pattern, side, kind in _PARTED)


def as_one_card(architecture: LanguageArchitecture, options: LlamaOptions) -> LlamaOptions:
    """The run on the one device that stands for all cards: it takes over no work on the host's weights and keeps
    nothing for fused operations (ggml-backend-meta.cpp has neither offload_op nor graph_optimize). Raises OptionError
    for an architecture that llama.cpp does not run so, NotModelledError for states of which that is not known."""
    known = load("runtimes.llamacpp", "support")["no_tensor_split"]["architectures"]
    if architecture.name in known:
        raise OptionError(f"--split-mode: llama.cpp does not share tensors of {architecture.name}; choose layer.")
    state = architecture.recurrent
    if (
        state is not None
        and architecture.name not in _WHOLE_STATES
        and not (architecture.name in _GATED and state.groups and state.state_size and state.kernel > 1)
    ):
        raise NotModelledError(f"how cards share the states of {architecture.name} is not modelled; choose layer.")
    if options.overrides:
        raise OptionError("--override-tensor: with --split-mode tensor no card can be named; leave one of them out.")
    return options.with_(split_mode=LAYER, tensor_split=(), main_gpu=0, op_offload=False, holds_fused=False)


def _shares(options: LlamaOptions, cards: int) -> tuple[float, ...]:
    """Each card's part as told; the same for all where none is."""
    told = [*options.tensor_split[:cards], *[0.0] * (cards - len(options.tensor_split))]
    return tuple(told) if any(told) else (1.0,) * cards


@dataclass(frozen=True, slots=True)
class SharedStretch:
    """``times`` stretches of ``elements`` each, cut in multiples of ``piece``."""

    elements: int
    piece: int
    times: int = 1

    def parts(self, shares: Sequence[float], turn: int) -> list[int]:
        """Elements of each card, the first cut's at card ``turn``."""
        cards = len(shares)
        turned = [shares[(at + turn) % cards] for at in range(cards)]
        found, low, reached = [0] * cards, 0, 0.0
        for at, share in enumerate(turned):
            reached += share
            high = int(self.elements * reached / sum(turned))
            high = self.elements if at == cards - 1 else high - high % max(self.piece, 1)
            found[(at + turn) % cards] = (high - low) * self.times
            low = high
        return found


@dataclass(frozen=True, slots=True)
class CardShare:
    """Bytes of a card: by how much its weights are ``spared``, and what it has of caches and states."""

    spared: int
    kv_cache: int
    recurrent: int


class Parted:
    """The parts of each card of a model on the one device that stands for all of them."""

    def __init__(
        self,
        architecture: LanguageArchitecture,
        tensors: TensorTable,
        asked: LlamaOptions,
        one: LlamaOptions,
        devices: Devices,
        cards: int,
    ) -> None:
        self.architecture, self.options, self.devices = architecture, one, devices
        self.names: Mapping[str, Tensor] = {tensor.name: tensor for tensor in tensors}
        self.shares = _shares(asked, cards)

    def cards(self, caches: Sequence[LayerCache]) -> list[CardShare]:
        """What each card has."""
        spared, attention, states = self._spared(), self._zeros(), self._zeros()
        for layer, held in enumerate(caches):
            if self.devices.layers[layer] == HOST or self.options.cache_on_host:
                continue
            for card, size in enumerate(self._cache(layer, held)):
                attention[card] += size
            for card, size in enumerate(self._states(layer, held.recurrent)):
                states[card] += size
        return [CardShare(*amounts) for amounts in zip(spared, attention, states, strict=True)]

    def _zeros(self) -> list[int]:
        return [0] * len(self.shares)

    def _spared(self) -> list[int]:
        """Bytes that each card's weights are less than all of them."""
        places = TensorPlaces(self.architecture, self.names, self.options, self.devices)
        left_out = frozenset() if self.options.predicts else self.architecture.predicting
        found = self._zeros()
        for tensor in self.names.values():
            cut = None if tensor.layer in left_out or places[tensor.name] == HOST else self._cut(tensor)
            if cut is None:
                continue
            side, stretches, turn = cut
            whole = card_bytes(tensor, self.options.alignment)
            for card, part in enumerate(self._parts(stretches, turn)):
                shape = list(tensor.shape)
                shape[side] = part
                found[card] += whole - card_bytes(replace(tensor, shape=tuple(shape)), self.options.alignment)
        return found

    def _parts(self, stretches: Sequence[SharedStretch], turn: int) -> list[int]:
        every = [stretch.parts(self.shares, turn) for stretch in stretches]
        return [sum(parts) for parts in zip(*every, strict=True)]

    def _cut(self, tensor: Tensor) -> tuple[int, list[SharedStretch], int] | None:
        """(side, stretches, card of the first cut) of a tensor; ``None`` where it lies whole on every card."""
        short = tensor.name if tensor.layer is None else tensor.name.removeprefix(f"blk.{tensor.layer}.")
        for pattern, side, kind in _parted():
            if pattern.fullmatch(short):
                if kind == _NORM and len(tensor.shape) == 1:  # one norm for all heads
                    return None
                at = max(side, -len(tensor.shape))
                return at, self._stretches(tensor, short, kind, tensor.shape[at]), self._turn(tensor.layer)
        return None

    def _turn(self, layer: int | None) -> int:
        if layer is None:
            return len(self.architecture.main_blocks) % len(self.shares)
        return self._earlier[layer] % len(self.shares)

    @cached_property
    def _earlier(self) -> list[int]:
        """How many layers of its own kind come before each."""
        seen: defaultdict[tuple[bool, bool], int] = defaultdict(int)
        found = []
        for block in self.architecture.blocks:
            kind = (block.recurrent, block.sliding)
            found.append(seen[kind])
            seen[kind] += 1
        return found

    def _stretches(self, tensor: Tensor, short: str, kind: str, length: int) -> list[SharedStretch]:
        if tensor.layer is None or kind in (_NORM, _OUTPUT):
            return [SharedStretch(length, 1)]
        if kind == _FEED_FORWARD:
            return [self._feed_forward(tensor.layer, short, length)]
        if self.architecture.blocks[tensor.layer].recurrent and self._state.state_size:
            return self._delta(tensor.layer, short, length)
        return self._attention(tensor.layer, short, length)

    def _block(self, layer: int, *names: str) -> int:
        """Elements of a block of the first of these matrices that the layer has."""
        found = (self.names.get(f"blk.{layer}.{name}.weight") for name in names)
        return next((tensor.quant.block for tensor in found if tensor is not None), 1)

    def _feed_forward(self, layer: int, short: str, length: int) -> SharedStretch:
        if short.endswith("_exps.bias"):
            return SharedStretch(length, 1)
        piece = lcm(self._block(layer, "ffn_down", "ffn_down_exps"), _PIECE)
        block = self.architecture.blocks[layer]
        fused = short.startswith("ffn_gate_up") or (short.startswith("ffn_up.") and length == 2 * block.feed_forward)
        return SharedStretch(length // 2, piece, 2) if fused else SharedStretch(length, piece)

    def _attention(self, layer: int, short: str, length: int) -> list[SharedStretch]:
        block = self.architecture.blocks[layer]
        queries, keys, values = self._pieces(layer)
        heads, piece = self._together(layer)
        doubled = lcm(2 * heads, piece) if self.architecture.name in _GATED else queries
        length_of_one = max(block.key_length, 1)
        if short.startswith("attn_qkv."):
            parts = (block.heads * block.key_length, block.key_elements, block.value_elements)
            return [SharedStretch(*one) for one in zip(parts, (doubled, keys, values), strict=True)]
        if short == "attn_sinks.weight" or (short == "attn_gate.weight" and length == block.heads):
            return [SharedStretch(length, queries // length_of_one)]
        if short == "attn_output.weight":
            return [SharedStretch(length, queries // length_of_one * block.value_length)]
        if short.startswith("attn_k."):
            return [SharedStretch(length, keys)]
        if short.startswith("attn_v."):
            return [SharedStretch(length, values)]
        return [SharedStretch(length, doubled if short.startswith("attn_q.") else queries)]

    def _together(self, layer: int) -> tuple[int, int]:
        """(elements of the queries that share a head of keys, elements that a kernel likes in one piece)."""
        block = self.architecture.blocks[layer]
        heads = max(block.heads // max(block.kv_heads, 1), 1) * max(block.key_length, 1)
        piece = self._block(layer, _ATTENTION, _DELTA)
        while piece < _PIECE and piece * len(self.shares) < heads:
            piece *= 2
        return heads, piece

    def _pieces(self, layer: int) -> tuple[int, int, int]:
        """Elements of queries, keys and values that stay together."""
        block, (heads, piece) = self.architecture.blocks[layer], self._together(layer)
        length = max(block.key_length, 1)
        queries = lcm(heads, piece)
        keys = queries // (heads // length)
        return queries, keys, keys // length * block.value_length

    def _delta(self, layer: int, short: str, length: int) -> list[SharedStretch]:
        state = self._state
        piece = lcm(self._block(layer, _DELTA), _PIECE, state.state_size)
        if short == "ssm_ba.weight":
            return [SharedStretch(length, 2 * (piece // state.state_size))]
        if short.startswith("ssm_") and not short.startswith(("ssm_conv1d", "ssm_out")):
            return self._by_heads(length, state.groups, piece // state.state_size)
        if short.startswith(("attn_qkv", "ssm_conv1d")):
            return self._convolved(length, 1, piece)
        return self._by_heads(length, state.groups * state.state_size, piece)

    @property
    def _state(self) -> Recurrent:
        state = self.architecture.recurrent
        assert state is not None
        return state

    def _by_heads(self, length: int, keys: int, piece: int) -> list[SharedStretch]:
        """Values are parted as the keys that they go with, where they stand in the order of these."""
        if self.architecture.name == "qwen3next":
            return [SharedStretch(length, piece)]
        return [SharedStretch(keys, piece, length // keys)]

    def _convolved(self, length: int, steps: int, piece: int) -> list[SharedStretch]:
        """Queries, keys and values side by side, ``steps`` of each."""
        keys = self._state.groups * self._state.state_size * steps
        if self.architecture.name == "qwen3next":
            return [SharedStretch(keys, piece * steps, 2), SharedStretch(length - 2 * keys, piece * steps)]
        return [SharedStretch(keys, piece * steps, length // keys)]

    def _cache(self, layer: int, held: LayerCache) -> list[int]:
        """Bytes of each card of a layer's attention cache."""
        if not held.attention:
            return self._zeros()
        block = self.architecture.blocks[layer]
        _, *pieces = self._pieces(layer)
        found, sizes = self._zeros(), (held.keys, held.values)
        for size, length, piece in zip(sizes, (block.key_elements, block.value_elements), pieces, strict=True):
            for card, part in enumerate(self._parts([SharedStretch(length, piece)], self._turn(layer))):
                found[card] += size * part // length
        return found

    def _states(self, layer: int, size: int) -> list[int]:
        """Bytes of each card of a layer's recurrent states; the whole where short convolutions run on every card."""
        if not size or self.architecture.name in _WHOLE_STATES:
            return [size] * len(self.shares)
        state = self._state
        piece, turn = lcm(self._block(layer, _DELTA), _PIECE, state.state_size), self._turn(layer)
        inputs = self._parts(self._convolved(state.convolution, state.kernel - 1, piece), turn)
        proper = self._parts(
            self._by_heads(state.state, state.groups * state.state_size**2, piece * state.state_size), turn
        )
        return [size * (one + two) // state.elements for one, two in zip(inputs, proper, strict=True)]
