"""What SenseNova-U1's layers are made of: norms, and feed-forwards dense or with experts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Linear = Callable[[int, int], nn.Module]


class RMSNorm(nn.Module):
    """Normalizes the last dimension in f32 and scales in the input's dtype."""

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width), requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[.., width] for [.., width]."""
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
        """[.., hidden] for [.., hidden]; both products [.., wide] live at once."""
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
        """[B, S, hidden] for [B, S, hidden]; the weights of the ``top_k`` experts of a token add up to 1."""
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
