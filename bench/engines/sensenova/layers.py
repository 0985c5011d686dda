"""Decoder layers of SenseNova-U1: two branches side by side, dense or with experts, in upstream's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture

if TYPE_CHECKING:
    from bench.engines.sensenova.attention import LayerCache

Linear = Callable[[int, int], nn.Module]


class RMSNorm(nn.Module):
    """Normalizes the last dimension in f32 and scales in the input's dtype."""

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width), requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.to(torch.float32)
        variance = x.pow(2).mean(-1, keepdim=True)
        x = x * torch.rsqrt(variance + self.epsilon)
        return self.weight * x.to(dtype)


class MLP(nn.Module):
    """SwiGLU: [.., hidden] -> [.., hidden] through ``wide``."""

    def __init__(self, hidden: int, wide: int, linear: Linear) -> None:
        super().__init__()
        self.gate_proj = linear(hidden, wide)
        self.up_proj = linear(hidden, wide)
        self.down_proj = linear(wide, hidden)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return output


class SparseMLP(nn.Module):
    """Top-k routed experts, one after another, each on the tokens that chose it."""

    def __init__(self, hidden: int, wide: int, experts: int, top_k: int, linear: Linear) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(hidden, experts, bias=False)
        self.experts = nn.ModuleList(MLP(hidden, wide, linear) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(-1, x.shape[-1])
        logits = self.gate(flat)
        weights = functional.softmax(logits, dim=1, dtype=torch.float32)
        weights, chosen = torch.topk(weights, self.top_k, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        weights = weights.to(flat.dtype)
        output = torch.zeros(flat.shape, dtype=flat.dtype, device=flat.device)
        mask = functional.one_hot(chosen, num_classes=len(self.experts)).permute(2, 1, 0)
        for index, expert in enumerate(self.experts):
            slot, tokens = torch.where(mask[index])
            if tokens.numel() == 0:
                continue
            current = flat.index_select(0, tokens)
            current = expert(current) * weights[tokens, slot, None]
            output.index_add_(0, tokens, current.to(flat.dtype))
        return output.view(x.shape)


def _feed_forward(arch: SenseNovaArchitecture, experts: int, linear: Linear) -> nn.Module:
    if not experts:
        return MLP(arch.hidden_size, arch.intermediate_size, linear)
    return SparseMLP(arch.hidden_size, arch.expert_intermediate_size, experts, arch.experts_per_token, linear)


class DecoderLayer(nn.Module):
    """One layer: ``understand`` for text and reference images, ``generate`` for the image being made."""

    def __init__(self, arch: SenseNovaArchitecture, linear: Linear) -> None:
        super().__init__()
        from bench.engines.sensenova.attention import Attention

        self.self_attn = Attention(arch, linear)
        self.mlp = _feed_forward(arch, arch.experts, linear)
        self.mlp_mot_gen = _feed_forward(arch, arch.generation_experts, linear)
        self.input_layernorm = RMSNorm(arch.hidden_size)
        self.input_layernorm_mot_gen = RMSNorm(arch.hidden_size)
        self.post_attention_layernorm = RMSNorm(arch.hidden_size)
        self.post_attention_layernorm_mot_gen = RMSNorm(arch.hidden_size)

    def understand(self, x: Tensor, positions: Tensor, mask: Tensor, cache: LayerCache) -> Tensor:
        residual = x
        x = self.input_layernorm(x)
        # upstream binds the attention weights to a name it never uses, which keeps them alive through the MLP
        x, _weights = self.self_attn.understand(x, positions, mask, cache)
        x = residual + x
        residual = x
        x = self.post_attention_layernorm(x)
        x = self.mlp(x)
        return residual + x

    def generate(self, x: Tensor, positions: Tensor, cache: LayerCache) -> Tensor:
        residual = x
        x = self.input_layernorm_mot_gen(x)
        x = self.self_attn.generate(x, positions, cache)
        x = residual + x
        residual = x
        x = self.post_attention_layernorm_mot_gen(x)
        x = self.mlp_mot_gen(x)
        return residual + x
