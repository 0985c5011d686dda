"""What one forward pass of a SenseNova branch keeps alive, at the moments that can set its peak. Sizes in bytes.

Counted from upstream's modeling code (modeling_qwen3.py, modeling_neo_chat.py): every local that is still referenced
when the largest temporaries exist. ``u`` is one bf16 hidden-state tensor of the pass. No constant here is fitted.
"""

from __future__ import annotations

from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.memory import dequantization
from fitcheck.memory.dequantization import Linear
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING, SenseNovaArchitecture
from fitcheck.runtimes.sensenova.layer_weights import LayerWeights

BF16 = 2
F32 = 4


@dataclass(frozen=True, slots=True)
class Moment:
    """A point inside a pass: live activations and dequantization scratch."""

    activations: int
    scratch: int

    @property
    def total(self) -> int:
        """Bytes live at this point, scratch included."""
        return self.activations + self.scratch


def _highest(moments: list[Moment]) -> Moment:
    return max(moments, key=lambda moment: moment.total)


def hidden_bytes(arch: SenseNovaArchitecture, tokens: int) -> int:
    """Bytes of one hidden-state tensor of ``tokens`` tokens, in bf16."""
    return tokens * arch.hidden_size * BF16


def pixel_bytes(arch: SenseNovaArchitecture, tokens: int) -> int:
    """One bf16 RGB image as patches."""
    return tokens * 3 * arch.pixels_per_token**2 * BF16


def _mlp_moments(arch: SenseNovaArchitecture, weights: LayerWeights, branch: str, tokens: int) -> list[Moment]:
    """Layer input, residual and normed tensor are live; gate, up and their product are as wide as the MLP."""
    base = 3 * hidden_bytes(arch, tokens)
    if arch.experts:
        return [Moment(base + _expert_bytes(arch, branch, tokens), 0)]
    wide = tokens * arch.intermediate_size * BF16
    gate, up, down = (weights.largest.get((branch, kind)) for kind in ("gate_proj", "up_proj", "down_proj"))
    return [
        Moment(base, dequantization.before_product(gate)),
        Moment(base + wide, dequantization.before_product(up)),
        Moment(base + 2 * wide, dequantization.during_product(up)),
        Moment(base + 3 * wide, 0),
        Moment(base + wide, dequantization.before_product(down)),
        Moment(base + wide + hidden_bytes(arch, tokens), dequantization.during_product(down)),
    ]


def _expert_bytes(arch: SenseNovaArchitecture, branch: str, tokens: int) -> int:
    """Routed MLP: f32 router probabilities, the int64 one-hot mask, the output and the busiest expert's tensors.

    The busiest expert is taken to receive every token, which bounds the routing imbalance from above.
    """
    experts = arch.experts if branch == UNDERSTANDING else arch.generation_experts
    routing = tokens * experts * (BF16 + F32) + tokens * arch.experts_per_token * experts * 8
    expert = tokens * (2 * arch.hidden_size + 3 * arch.expert_intermediate_size) * BF16
    return routing + hidden_bytes(arch, tokens) + expert


@lru_cache(maxsize=1024)
def generation_pass(
    arch: SenseNovaArchitecture, weights: LayerWeights, tokens: int, prefix: int, *, flash: bool = False
) -> Moment:
    """A denoising forward over ``tokens`` image tokens that attends to ``prefix`` cached tokens as well.

    Attention keeps, beside layer input and normed tensor, the split and rotated queries and keys (4.5 times their size
    in all, with the contiguous copy and the output) and, through SDPA, keys and values repeated to every query head.
    """
    query = tokens * arch.heads * arch.head_dim * BF16
    key = tokens * arch.kv_heads * arch.head_dim * BF16
    repeated = 0 if flash else 2 * (tokens + prefix) * arch.heads * arch.head_dim * BF16
    attention = 2 * hidden_bytes(arch, tokens) + round(4.5 * query) + round(4.5 * key) + repeated
    projections = [weights.largest.get((GENERATION, kind)) for kind in ("q_proj", "o_proj")]
    moments = [Moment(attention, 0), *_mlp_moments(arch, weights, GENERATION, tokens)]
    moments += [
        Moment(2 * hidden_bytes(arch, tokens) + query, dequantization.before_product(linear)) for linear in projections
    ]
    return _highest(moments)


@lru_cache(maxsize=1024)
def understanding_pass(arch: SenseNovaArchitecture, weights: LayerWeights, tokens: int, past: int = 0) -> Moment:
    """A prefix forward over ``tokens`` new tokens with ``past`` cached ones: eager attention with f32 softmax.

    Per head and score: f32 masked scores, f32 softmax and its bf16 copy are live together, 10 bytes; plus the f32 mask.
    """
    query = tokens * arch.heads * arch.head_dim * BF16
    key = tokens * arch.kv_heads * arch.head_dim * BF16
    total = tokens + past
    scores = (2 * F32 + BF16) * arch.heads * tokens * total
    repeated = 2 * total * arch.heads * arch.head_dim * BF16
    held = 2 * hidden_bytes(arch, tokens) + round(2.5 * query) + round(1.5 * key) + repeated
    moments = [Moment(held + scores, 0), *_mlp_moments(arch, weights, UNDERSTANDING, tokens)]
    moments += [
        Moment(2 * hidden_bytes(arch, tokens), dequantization.before_product(linear))
        for linear in _attention_linears(weights, UNDERSTANDING)
    ]
    return _highest(moments)


def _attention_linears(weights: LayerWeights, branch: str) -> list[Linear | None]:
    return [weights.largest.get((branch, kind)) for kind in ("q_proj", "o_proj")]


def mask_bytes(tokens: int, past: int = 0) -> int:
    """The f32 attention mask of one prefix branch."""
    return F32 * tokens * (tokens + past)


def sampler_bytes(arch: SenseNovaArchitecture, tokens: int, velocity_branches: int) -> int:
    """Tensors of the sampling loop that outlive each forward.

    Image, its patches at both patch sizes (three pixel tensors), image, timestep and noise-scale embeddings (three
    hidden tensors), and the velocities: one, or with guidance one of each branch and their combination.
    """
    velocities = 1 if velocity_branches == 1 else velocity_branches + 1
    return (3 + velocities) * pixel_bytes(arch, tokens) + 3 * hidden_bytes(arch, tokens)


def logits_bytes(arch: SenseNovaArchitecture, tokens: int) -> int:
    """Bytes of the logits of ``tokens`` positions over the whole vocabulary, in bf16."""
    return tokens * arch.vocab_size * BF16
