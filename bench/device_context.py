"""What the CUDA context and its libraries take of a card, and a cap on the process that counts them in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bench.meters.nvml import NvmlCard
from fitcheck.errors import OptionError
from fitcheck.units import format_gib


@dataclass(frozen=True, slots=True)
class Context:
    """Device bytes outside torch's allocator, by NVML's number for the ``process`` or the growth of the ``card``."""

    before_matmul: int
    after_matmul: int
    method: str


class ContextMeter:
    """What the CUDA context and its libraries hold: NVML's number for the process, or the card's growth, less
    what torch's allocator has."""

    def __init__(self, torch: Any, card: NvmlCard) -> None:
        self._torch = torch
        self._card = card
        memory = card.memory()
        self._before = None if memory is None else memory[1]
        self.method = "card"

    def read(self) -> int | None:
        """Bytes outside torch's allocator at this moment, after a synchronize; ``None`` where NVML tells none."""
        self._torch.cuda.synchronize()
        reserved = int(self._torch.cuda.memory_reserved())
        held = self._card.process_bytes({os.getpid()})
        if held is not None:
            self.method = "process"
            return held - reserved
        self.method = "card"
        memory = self._card.memory()
        return None if memory is None or self._before is None else memory[1] - self._before - reserved

    def start(self) -> Context | None:
        """Makes the context, then loads the libraries that a pass uses, and measures after each."""
        torch = self._torch
        torch.zeros(1, device="cuda")
        before = self.read()
        _touch_libraries(torch)
        after = self.read()
        if before is None or after is None:
            return None
        return Context(before, after, self.method)


def _touch_libraries(torch: Any) -> None:
    """A matrix product, a convolution, attention and a softmax: kernels load lazily, and the cap must count them."""
    a = torch.ones(256, 256, device="cuda", dtype=torch.bfloat16)
    (a @ a).float().softmax(-1)
    torch.nn.functional.conv2d(
        torch.ones(1, 3, 32, 32, device="cuda", dtype=torch.bfloat16),
        torch.ones(8, 3, 16, 16, device="cuda", dtype=torch.bfloat16),
    )
    q = torch.ones(1, 4, 128, 64, device="cuda", dtype=torch.bfloat16)
    torch.nn.functional.scaled_dot_product_attention(q, q, q)
    torch.cuda.synchronize()
    del a, q
    torch.cuda.empty_cache()


def cap_memory(torch: Any, cap: int, context: Context) -> dict[str, Any]:
    """Makes the card look ``cap`` bytes large to this process, context included.

    torch's fraction limits its allocator alone, so the context is taken off first; ``mem_get_info`` answers as the
    smaller card would, for code that sizes itself by it. Raises InputError when nothing would be left.
    """
    _, total = torch.cuda.mem_get_info()
    room = cap - context.after_matmul
    if cap > total:
        raise OptionError(f"--vram: {format_gib(cap)} is more than the card's {format_gib(total)}; give a smaller cap.")
    if room <= 0:
        raise OptionError(
            f"--vram: {format_gib(cap)} does not even hold the CUDA context of {format_gib(context.after_matmul, 2)}."
        )
    torch.cuda.set_per_process_memory_fraction(room / total)
    real = torch.cuda.mem_get_info

    def capped(device: Any = None) -> tuple[int, int]:
        free, _ = real(device)
        return max(0, min(free, room - int(torch.cuda.memory_reserved()))), cap

    torch.cuda.mem_get_info = capped
    return {"cap": cap, "context": context.after_matmul, "allocator_limit": room, "card_total": total}
