"""Storages of one decoder layer: norms, linears, attention and the MLP, in the program's order.

Functions take and give back storages; what a function binds to a name lives until it returns, as in the code it mirrors
(upstream's modeling_qwen3.py; bench/attention.py, bench/layers.py). Sizes in bytes, tokens counted over the batch.
"""

from __future__ import annotations

from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.caching_allocator import SMALL
from fitcheck.memory.dequantization import Linear, steps
from fitcheck.memory.storage import ReplayedCard, Storage
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.runtimes.sensenova.activations import BF16, F32, hidden_bytes

INT64 = 8
Maybe = Storage | None


def norm(device: ReplayedCard, elements: int) -> Maybe:
    """RMSNorm: squares and scales in f32, gives bf16."""
    wide = device.new(F32 * elements)
    squares = device.new(F32 * elements)
    del squares
    wide = device.new(F32 * elements)
    narrow = device.new(BF16 * elements)
    output = device.new(BF16 * elements)
    del wide, narrow
    return output


def linear(device: ReplayedCard, weight: Linear | None, output_bytes: int) -> Maybe:
    """A matrix product; a block-quantized weight is dequantized as a whole before it."""
    if weight is None:
        return device.new(output_bytes)
    live: list[Maybe] = []
    for made, dropped in _plan(weight.type, weight.elements):
        if made:
            live.append(device.new(made))
        else:
            live[dropped] = None
    return device.new(output_bytes)


@lru_cache(maxsize=512)
def _plan(type_name: str, elements: int) -> tuple[tuple[int, int], ...]:
    """(bytes made, 0) or (0, which one is dropped) for one weight, without temporaries of the small pool."""
    found: list[tuple[int, int]] = []
    place: dict[int, int] = {}
    number = 0
    for step in steps(type_name):
        if step > 0:
            number += 1
            if (nbytes := round(step * elements)) > SMALL:
                place[number] = len(place)
                found.append((nbytes, 0))
        elif round(-step) in place:
            found.append((0, place[round(-step)]))
    return tuple(found)


@dataclass(slots=True)
class ReplayedCache:
    """One layer's keys and values: of the prefix, and the denoising buffers for prefix and image."""

    keys: Storage | None = None
    values: Storage | None = None
    joint_keys: Storage | None = None
    joint_values: Storage | None = None
    length: int = 0


@dataclass(frozen=True, slots=True)
class Projected:
    """Queries, keys and values, and what else of projecting them lives while they are attended."""

    query: Maybe
    key: Maybe
    value: Maybe
    parts: tuple[Maybe, ...]


class Layer:
    """The passes of one layer on ``device``; ``linears`` are its branch's block-quantized matrices by kind.

    ``flash`` says that flash-attn attends instead of SDPA.
    """

    def __init__(self, arch: SenseNovaArchitecture, device: ReplayedCard, *, flash: bool = False) -> None:
        self.arch, self.device, self.flash = arch, device, flash
        self.queries, self.keys = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim

    def _angles(self, tokens: int, width: int) -> tuple[Maybe, Maybe]:
        """cos and sin of one rotary axis in bf16; worked out in f32."""
        new = self.device.new
        frequencies = new(F32 * tokens * width // 2)
        both = new(F32 * tokens * width)
        cosine = new(F32 * tokens * width)
        cosine = new(F32 * tokens * width)
        sine = new(F32 * tokens * width)
        sine = new(F32 * tokens * width)
        found = new(BF16 * tokens * width), new(BF16 * tokens * width)
        del frequencies, both, cosine, sine
        return found

    def _rotated(self, nbytes: int) -> Maybe:
        new = self.device.new
        straight = new(nbytes)
        negated = new(nbytes // 2)
        turned = new(nbytes)
        del negated
        scaled = new(nbytes)
        del turned
        output = new(nbytes)
        del straight, scaled
        return output

    def _project(self, tokens: int, linears: dict[str, Linear]) -> Projected:
        """Half of each head carries time, a quarter each the row and the column."""
        device = self.device
        query_bytes, key_bytes, dim = BF16 * tokens * self.queries, BF16 * tokens * self.keys, self.arch.head_dim
        query = linear(device, linears.get("q_proj"), query_bytes)
        query_time = norm(device, tokens * self.queries // 2)
        query_space = norm(device, tokens * self.queries // 2)
        key = linear(device, linears.get("k_proj"), key_bytes)
        key_time = norm(device, tokens * self.keys // 2)
        key_space = norm(device, tokens * self.keys // 2)
        value = linear(device, linears.get("v_proj"), key_bytes)
        angles = self._angles(tokens, dim // 2)
        turned = self._rotated(query_bytes // 2), self._rotated(key_bytes // 2)
        query_time, key_time = turned
        rows = self._angles(tokens, dim // 4)
        turned_rows = self._rotated(query_bytes // 4), self._rotated(key_bytes // 4)
        columns = self._angles(tokens, dim // 4)
        turned_columns = self._rotated(query_bytes // 4), self._rotated(key_bytes // 4)
        query = device.new(query_bytes)
        key = device.new(key_bytes)
        parts = (query_time, query_space, key_time, key_space)
        return Projected(query, key, value, (*parts, *angles, *rows, *turned_rows, *columns, *turned_columns))

    def _feed_forward(self, tokens: int, linears: dict[str, Linear], experts: int) -> Maybe:
        """SwiGLU, dense or in ``experts`` that are routed to."""
        if experts:
            return self._routed(tokens, linears, experts)
        return self._swiglu(tokens, self.arch.intermediate_size, linears)

    def _routed(self, tokens: int, linears: dict[str, Linear], experts: int) -> Maybe:
        """The busiest expert is taken to receive every token, which bounds the imbalance from above."""
        device, chosen, nbytes = self.device, self.arch.experts_per_token, hidden_bytes(self.arch, tokens)
        logits = device.new(BF16 * tokens * experts)
        probabilities = device.new(F32 * tokens * experts)
        output = device.new(nbytes)
        mask = device.new(INT64 * tokens * chosen * experts)
        current = device.new(nbytes)
        result = self._swiglu(tokens, self.arch.expert_intermediate_size, linears)
        current = device.new(nbytes)
        del result, current, mask, probabilities, logits
        return output

    def _swiglu(self, tokens: int, width: int, linears: dict[str, Linear]) -> Maybe:
        device, wide = self.device, BF16 * tokens * width
        gate = linear(device, linears.get("gate_proj"), wide)
        gate = device.new(wide)
        up = linear(device, linears.get("up_proj"), wide)
        product = device.new(wide)
        del gate, up
        output = linear(device, linears.get("down_proj"), hidden_bytes(self.arch, tokens))
        del product
        return output

    def understand(self, hidden: Maybe, tokens: int, cache: ReplayedCache, linears: dict[str, Linear]) -> Maybe:
        """Eager attention with f32 scores over what is cached; the probabilities live through the MLP."""
        device, arch, nbytes = self.device, self.arch, hidden_bytes(self.arch, tokens)
        normed = norm(device, tokens * arch.hidden_size)
        attended, probabilities = self._eager(tokens, cache, linears)
        normed = attended
        del attended
        summed = device.new(nbytes)
        del normed
        normed = norm(device, tokens * arch.hidden_size)
        normed = self._feed_forward(tokens, linears, arch.experts)
        output = device.new(nbytes)
        del normed, summed, probabilities
        return output

    def extend(self, cache: ReplayedCache, tokens: int) -> None:
        """Keys and values grow by concatenation: the old ones go when the new ones are there."""
        cache.length += tokens
        kept = BF16 * cache.length * self.keys
        cache.keys = self.device.keep(kept)
        cache.values = self.device.keep(kept)

    def _eager(self, tokens: int, cache: ReplayedCache, linears: dict[str, Linear]) -> tuple[Maybe, Maybe]:
        device, arch = self.device, self.arch
        held = self._project(tokens, linears)
        self.extend(cache, tokens)
        held = Projected(held.query, None, None, held.parts)
        repeated = device.new(BF16 * cache.length * self.queries), device.new(BF16 * cache.length * self.queries)
        scores = arch.heads * tokens * cache.length
        raw = device.new(BF16 * scores)
        weights = device.new(BF16 * scores)
        del raw
        weights = device.new(F32 * scores)
        exact = device.new(F32 * scores)
        weights = device.new(BF16 * scores)
        del exact
        mixed = device.new(BF16 * tokens * self.queries)
        output = device.new(BF16 * tokens * self.queries)
        del mixed, repeated
        output = linear(device, linears.get("o_proj"), hidden_bytes(arch, tokens))
        del held
        return output, weights

    def generate(
        self, hidden: Maybe, tokens: int, batch: int, cache: ReplayedCache, linears: dict[str, Linear]
    ) -> Maybe:
        """Attention through SDPA over the joint buffers, keys and values repeated to every query head."""
        device, arch, nbytes = self.device, self.arch, hidden_bytes(self.arch, tokens)
        normed = norm(device, tokens * arch.hidden_size)
        normed = self._sdpa(tokens, tokens + batch * cache.length, linears)
        summed = device.new(nbytes)
        del normed
        normed = norm(device, tokens * arch.hidden_size)
        normed = self._feed_forward(tokens, linears, arch.generation_experts if arch.experts else 0)
        output = device.new(nbytes)
        del normed, summed
        return output

    def _sdpa(self, tokens: int, total: int, linears: dict[str, Linear]) -> Maybe:
        device, arch = self.device, self.arch
        query_bytes = BF16 * tokens * self.queries
        held = self._project(tokens, linears)
        contiguous = device.new(query_bytes), device.new(BF16 * tokens * self.keys)
        repeated: list[Maybe] = []
        if not self.flash:  # flash-attn takes grouped keys and values as they are
            repeated = [device.new(BF16 * total * self.queries), device.new(BF16 * total * self.queries)]
        attended = device.new(query_bytes)
        logsumexp = device.new(F32 * tokens * arch.heads)
        del logsumexp, repeated
        output = linear(device, linears.get("o_proj"), hidden_bytes(arch, tokens))
        del held, contiguous, attended
        return output
