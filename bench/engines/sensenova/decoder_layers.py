"""Decoder layers of SenseNova-U1: two branches side by side, dense or with experts, in upstream's order."""

from __future__ import annotations

from torch import Tensor, nn

from bench.engines.sensenova.attention import Attention, KeysAndValues
from bench.engines.sensenova.layers import MLP, Linear, RMSNorm, SparseMLP
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture


def _feed_forward(arch: SenseNovaArchitecture, experts: int, linear: Linear) -> nn.Module:
    if not experts:
        return MLP(arch.hidden_size, arch.intermediate_size, linear)
    return SparseMLP(arch.hidden_size, arch.expert_intermediate_size, experts, arch.experts_per_token, linear)


class DecoderLayer(nn.Module):
    """One layer: ``understand`` for text and reference images, ``generate`` for the image being made."""

    def __init__(self, arch: SenseNovaArchitecture, linear: Linear) -> None:
        super().__init__()
        self.self_attn = Attention(arch, linear)
        self.mlp = _feed_forward(arch, arch.experts, linear)
        self.mlp_mot_gen = _feed_forward(arch, arch.generation_experts, linear)
        self.input_layernorm = RMSNorm(arch.hidden_size)
        self.input_layernorm_mot_gen = RMSNorm(arch.hidden_size)
        self.post_attention_layernorm = RMSNorm(arch.hidden_size)
        self.post_attention_layernorm_mot_gen = RMSNorm(arch.hidden_size)

    def understand(self, x: Tensor, positions: Tensor, mask: Tensor, cache: KeysAndValues) -> Tensor:
        """[B, S, hidden] after the understanding branch; the layer's cache grows by S tokens."""
        residual = x
        x = self.input_layernorm(x)
        # upstream binds the attention weights to a name it never uses, which keeps them alive through the MLP
        x, _weights = self.self_attn.understand(x, positions, mask, cache)
        x = residual + x
        residual = x
        x = self.post_attention_layernorm(x)
        x = self.mlp(x)
        return residual + x

    def generate(self, x: Tensor, positions: Tensor, cache: KeysAndValues) -> Tensor:
        """[B, S, hidden] after the generation branch; the cached prefix is read and left as it is."""
        residual = x
        x = self.input_layernorm_mot_gen(x)
        x = self.self_attn.generate(x, positions, cache)
        x = residual + x
        residual = x
        x = self.post_attention_layernorm_mot_gen(x)
        x = self.mlp_mot_gen(x)
        return residual + x
