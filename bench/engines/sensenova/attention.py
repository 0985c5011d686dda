"""Attention as SenseNova-U1 runs it: rotary embeddings on three axes, eager for the prefix, SDPA for denoising.

Shapes: B batch, S tokens, H heads, D head_dim. The order of operations and the lifetime of every temporary follow
upstream's modeling_qwen3.py, because torch's peak depends on both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.engines.sensenova.layers import Linear, RMSNorm
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture

ROPE_THETA = 5_000_000.0
ROPE_THETA_SPATIAL = 10_000.0

BACKENDS = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn", 4: "overrideable"}
Sdpa = Callable[[Tensor, Tensor, Tensor, float], Tensor]
_Parts = tuple[Tensor, ...]


class KeysAndValues:
    """Keys and values of one layer: ``keys``/``values`` [B, H, P, D] grow by concatenation during the prefix;
    ``flash_keys``/``flash_values`` [B, P + S, H, D] are allocated once before denoising and hold the prefix again."""

    __slots__ = ("flash_keys", "flash_values", "keys", "prefix", "values")

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.flash_keys: Tensor | None = None
        self.flash_values: Tensor | None = None
        self.prefix = 0

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends keys and values [B, H, S, D] of S new tokens; all that are cached then, [B, H, P + S, D]."""
        if self.keys is None or self.values is None:
            self.keys, self.values = keys.new_empty(0), values.new_empty(0)
        self.keys = torch.cat([self.keys, keys], dim=-2)
        self.values = torch.cat([self.values, values], dim=-2)
        return self.keys, self.values


class Cache:
    """One CFG branch's keys and values over all layers."""

    def __init__(self, layers: int) -> None:
        self.layers = [KeysAndValues() for _ in range(layers)]

    @property
    def length(self) -> int:
        """Tokens in the prefix; 0 while it is empty."""
        keys = self.layers[0].keys
        return 0 if keys is None else int(keys.shape[-2])

    def prepare_denoise(self, tokens: int) -> None:
        """Allocate each layer's [B, P + tokens, H, D] buffers and copy the prefix into them."""
        for layer in self.layers:
            if layer.keys is None or layer.values is None:
                raise RuntimeError("prepare_denoise needs a cache that a prefix has filled")
            keys = layer.keys.transpose(1, 2).contiguous()
            values = layer.values.transpose(1, 2).contiguous()
            batch, prefix, heads, width = keys.shape
            flash_keys = keys.new_empty((batch, prefix + tokens, heads, width))
            flash_values = values.new_empty((batch, prefix + tokens, heads, width))
            flash_keys[:, :prefix].copy_(keys)
            flash_values[:, :prefix].copy_(values)
            layer.prefix, layer.flash_keys, layer.flash_values = prefix, flash_keys, flash_values

    def drop_denoise(self) -> None:
        """Frees the buffers of ``prepare_denoise``; the prefix stays."""
        for layer in self.layers:
            layer.flash_keys = layer.flash_values = None


class RotaryEmbedding(nn.Module):
    """cos and sin [1, S, dim] for positions [1, S]; frequencies are spread as if the head were twice as wide."""

    inverse_frequencies: Tensor

    def __init__(self, dim: int, base: float) -> None:
        super().__init__()
        self.dim, self.base = dim, base
        self.register_buffer("inverse_frequencies", torch.empty(dim // 2, dtype=torch.float32), persistent=False)

    def frequencies(self) -> Tensor:
        """f32 [dim / 2] on the host."""
        exponents = torch.arange(0, 2 * self.dim, 2, dtype=torch.int64).float() / (2 * self.dim)
        return (1.0 / self.base**exponents)[::2].contiguous()

    def forward(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [1, S, dim] in the dtype of ``like``, computed in f32."""
        expanded = self.inverse_frequencies[None, :, None].float().expand(positions.shape[0], -1, 1)
        frequencies = (expanded @ positions[:, None, :].float()).transpose(1, 2)
        embedding = torch.cat((frequencies, frequencies), dim=-1)
        cos, sin = embedding.cos() * 1.0, embedding.sin() * 1.0
        return cos.to(dtype=like.dtype), sin.to(dtype=like.dtype)


def _rotate_half(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def _rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    rotated_query = (query * cos) + (_rotate_half(query) * sin)
    rotated_key = (key * cos) + (_rotate_half(key) * sin)
    return rotated_query, rotated_key


def _repeat_heads(x: Tensor, times: int) -> Tensor:
    batch, heads, tokens, width = x.shape
    if times == 1:
        return x
    return x[:, :, None].expand(batch, heads, times, tokens, width).reshape(batch, heads * times, tokens, width)


def eager(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(output [B, S, H, D], weights [B, H, S, T]): scores as a matrix, f32 once the mask is added, f32 softmax."""
    groups = query.shape[1] // key.shape[1]
    keys, values = _repeat_heads(key, groups), _repeat_heads(value, groups)
    weights = torch.matmul(query, keys.transpose(2, 3)) * scale
    weights = weights + mask[:, :, :, : keys.shape[-2]]
    weights = functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    output = torch.matmul(weights, values)
    return output.transpose(1, 2).contiguous(), weights


def torch_sdpa(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention without a mask over [B, H, S, D] tensors, by the backend that torch chooses."""
    return functional.scaled_dot_product_attention(query, key, value, scale=scale)


def grouped_sdpa(query: Tensor, key: Tensor, value: Tensor, scale: float, sdpa: Sdpa) -> Tensor:
    """[B, S, H, D] in and out; grouped keys and values are repeated in memory, as upstream does without flash-attn."""
    queries, keys, values = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    groups = queries.shape[1] // keys.shape[1]
    if groups > 1:
        keys = keys.repeat_interleave(groups, dim=1)
        values = values.repeat_interleave(groups, dim=1)
    output = sdpa(queries, keys, values, scale)
    return output.transpose(1, 2).contiguous()


def causal_block_mask(positions: Tensor) -> Tensor:
    """[1, 1, L, L] f32: causal, and full inside a run of equal temporal positions (an image)."""
    length = positions.size(0)
    rows = positions.unsqueeze(1).expand(length, length)
    columns = positions.unsqueeze(0).expand(length, length)
    order = torch.arange(length, device=positions.device)
    mask = (columns == rows) | (order.unsqueeze(0) <= order.unsqueeze(1))
    return torch.where(mask[None, None, :, :] > 0, torch.tensor(0.0), torch.tensor(float("-inf")))


class Attention(nn.Module):
    """Both branches of one layer's attention. Half of each head carries time, a quarter height, a quarter width."""

    def __init__(self, arch: SenseNovaArchitecture, linear: Linear) -> None:
        super().__init__()
        hidden, width = arch.hidden_size, arch.head_dim
        queries, keys = arch.heads * width, arch.kv_heads * width
        self.head_dim, self.scale = width, width**-0.5
        for suffix in ("", "_mot_gen"):
            self.add_module(f"q_proj{suffix}", linear(hidden, queries))
            self.add_module(f"k_proj{suffix}", linear(hidden, keys))
            self.add_module(f"v_proj{suffix}", linear(hidden, keys))
            self.add_module(f"o_proj{suffix}", linear(queries, hidden))
            for name in ("q_norm", "q_norm_hw", "k_norm", "k_norm_hw"):
                self.add_module(f"{name}{suffix}", RMSNorm(width // 2))
        self.rotary_emb = RotaryEmbedding(width // 2, ROPE_THETA)
        self.rotary_emb_hw = RotaryEmbedding(width // 4, ROPE_THETA_SPATIAL)
        self.sdpa: Sdpa = torch_sdpa
        self.backend = ""

    def _project(self, hidden_states: Tensor, positions: Tensor, suffix: str) -> tuple[Tensor, Tensor, Tensor, _Parts]:
        """Queries, keys, values [B, H, S, D] with norms and rotary positions [3, S] (time, height, width) applied.

        Upstream projects and attends in one function, so the rotated parts stay alive while it attends; they are
        handed back to be held as long.
        """
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)

        query = getattr(self, f"q_proj{suffix}")(hidden_states).view(shape)
        query_t, query_hw = query.chunk(2, dim=-1)
        query_t = getattr(self, f"q_norm{suffix}")(query_t).transpose(1, 2)
        query_hw = getattr(self, f"q_norm_hw{suffix}")(query_hw).transpose(1, 2)
        query_h, query_w = query_hw.chunk(2, dim=-1)

        key = getattr(self, f"k_proj{suffix}")(hidden_states).view(shape)
        key_t, key_hw = key.chunk(2, dim=-1)
        key_t = getattr(self, f"k_norm{suffix}")(key_t).transpose(1, 2)
        key_hw = getattr(self, f"k_norm_hw{suffix}")(key_hw).transpose(1, 2)
        key_h, key_w = key_hw.chunk(2, dim=-1)

        value = getattr(self, f"v_proj{suffix}")(hidden_states).view(shape).transpose(1, 2)

        cos_t, sin_t = self.rotary_emb(hidden_states, positions[0].unsqueeze(0))
        query_t, key_t = _rotate(query_t, key_t, cos_t, sin_t)
        cos_h, sin_h = self.rotary_emb_hw(hidden_states, positions[1].unsqueeze(0))
        query_h, key_h = _rotate(query_h, key_h, cos_h, sin_h)
        cos_w, sin_w = self.rotary_emb_hw(hidden_states, positions[2].unsqueeze(0))
        query_w, key_w = _rotate(query_w, key_w, cos_w, sin_w)

        query = torch.cat([query_t, query_h, query_w], dim=-1)
        key = torch.cat([key_t, key_h, key_w], dim=-1)
        angles = (cos_t, sin_t, cos_h, sin_h, cos_w, sin_w)
        return query, key, value, (query_t, query_hw, query_h, query_w, key_t, key_hw, key_h, key_w, *angles)

    def understand(
        self, hidden_states: Tensor, positions: Tensor, mask: Tensor, cache: KeysAndValues
    ) -> tuple[Tensor, Tensor]:
        """(output [B, S, hidden], weights [B, H, S, T]); appends to the cache."""
        query, key, value, _parts = self._project(hidden_states, positions, "")
        key, value = cache.update(key, value)
        output, weights = eager(query, key, value, mask, self.scale)
        output = output.reshape(*hidden_states.shape[:-1], -1).contiguous()
        output = self.get_submodule("o_proj")(output)
        return output, weights

    def generate(self, hidden_states: Tensor, positions: Tensor, cache: KeysAndValues) -> Tensor:
        """[B, S, hidden]: image tokens attend to the prefix and to each other; the cache's tail is overwritten."""
        query, key, value, _parts = self._project(hidden_states, positions, "_mot_gen")
        q = query.transpose(1, 2).contiguous()
        k_now = key.transpose(1, 2).contiguous()
        v_now = value.transpose(1, 2).contiguous()
        if cache.flash_keys is None or cache.flash_values is None:
            raise RuntimeError("denoising needs Cache.prepare_denoise first")
        end = cache.prefix + k_now.shape[1]
        cache.flash_keys[:, cache.prefix : end].copy_(k_now)
        cache.flash_values[:, cache.prefix : end].copy_(v_now)
        k, v = cache.flash_keys[:, :end], cache.flash_values[:, :end]
        if not self.backend:
            self.backend = _chosen_backend(q)
        output = grouped_sdpa(q, k, v, self.scale, self.sdpa)
        output = output.reshape(*hidden_states.shape[:-1], -1).contiguous()
        projected: Tensor = self.get_submodule("o_proj_mot_gen")(output)
        return projected


def _chosen_backend(query: Tensor) -> str:
    """Which SDPA kernel torch picks for tensors like ``query`` [B, S, H, D]."""
    if query.device.type == "meta":
        return "flash"
    probe = query.transpose(1, 2)
    return BACKENDS.get(int(torch._fused_sdp_choice(probe, probe, probe)), "unknown")
