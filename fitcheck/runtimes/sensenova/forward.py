"""How much work one forward pass of a SenseNova branch is: FLOPs, bytes through card memory, kernels.

Traffic of the elementwise kernels is counted from upstream's eager code in units of one hidden-state tensor; nothing
here is fitted.
"""

from __future__ import annotations

from fitcheck.data_files import load
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.sensenova.branch_sums import BranchWeights, branch_weights
from fitcheck.speed.passes import Work

BF16 = 2


# An RMSNorm in eager mode moves 16 times its bf16 input: cast up, square, mean, scale, cast down, weight.
_NORM = 16.0
# Rotary embedding: two products, negation and concatenation of the half turned, a sum.
_ROTARY = 10.0


def _kernels_a_layer() -> int:
    """Launches of one layer of an eager pass, as profiled; the allocator's launch queue is counted in them too."""
    return int(load("memory", "allocator")["launch_queue"]["kernels_a_layer"])


def _elementwise_bytes(arch: SenseNovaArchitecture, tokens: int, keys: int, *, eager: bool, batch: int) -> float:
    """Bytes that the elementwise kernels of one layer read and write; ``keys`` is what each token attends to."""
    hidden = tokens * arch.hidden_size * BF16
    query = tokens * arch.heads * arch.head_dim * BF16
    key = tokens * arch.kv_heads * arch.head_dim * BF16
    repeated = 2 * batch * keys * arch.heads * arch.head_dim * BF16
    wide = tokens * arch.active_intermediate * BF16
    norms = _NORM * (2 * hidden + query + key)
    rotary = (_ROTARY + 4) * (query + key)
    residuals = 6 * hidden
    gated = 5 * wide
    scores = 0.0
    if eager:  # scale, mask, f32 softmax and the cast back, per head and score
        scores = arch.heads * tokens * keys * 30.0
    return norms + rotary + 1.25 * repeated + residuals + gated + scores


def forward(
    arch: SenseNovaArchitecture, table: TensorTable, branch: str, tokens: int, past: int, *, eager: bool, batch: int = 1
) -> Work:
    """One pass of ``tokens`` new tokens over all layers of a branch, attending to ``past`` cached tokens as well.

    The tokens belong to ``batch`` sequences of the same length, each of which attends to itself and the cache alone.
    """
    weights: BranchWeights = branch_weights(table, branch)
    keys = tokens // batch + past
    attention = 4.0 * tokens * keys * arch.heads * arch.head_dim * arch.layers
    share = _active_share(arch, branch)
    parameters = weights.attention_elements + share * weights.mlp_elements
    # Weights are read once a pass; for few tokens that is what a pass costs.
    touched = min(1.0, share * max(tokens, 1)) if arch.experts else 1.0
    traffic = weights.attention_bytes + touched * weights.mlp_bytes
    traffic += arch.layers * _elementwise_bytes(arch, tokens, keys, eager=eager, batch=batch)
    traffic += 2.0 * arch.kv_bytes_per_token * past * batch
    return Work(
        matrix_flops=2.0 * tokens * parameters,
        attention_flops=attention,
        traffic=traffic,
        dequantization=weights.dequantization_bytes,
        kernels=arch.layers * _kernels_a_layer(),
        gguf_kernels=weights.dequantization_kernels,
    )


def _active_share(arch: SenseNovaArchitecture, branch: str) -> float:
    """Share of the MLP's parameters that one token passes through."""
    if not arch.experts:
        return 1.0
    count = arch.experts if branch == "understanding" else arch.generation_experts
    return min(1.0, arch.experts_per_token / count)


def head(arch: SenseNovaArchitecture, tokens: int) -> Work:
    """Image embedding, timestep embedders and generation head around one denoising pass."""
    hidden = arch.hidden_size
    pixels = 3 * arch.pixels_per_token**2
    per_token = hidden * (2 * (256 + hidden)) + arch.head_hidden * (hidden + pixels) + 4 * 1024 * (768 + hidden)
    return Work(2.0 * tokens * per_token, 0.0, 40.0 * tokens * hidden * BF16, 0.0, 80)


def vocabulary(arch: SenseNovaArchitecture, tokens: int) -> Work:
    """The output head over the vocabulary."""
    elements = float(arch.vocab_size * arch.hidden_size)
    return Work(2.0 * tokens * elements, 0.0, BF16 * elements, 0.0, 4)
