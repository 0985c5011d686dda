"""What dequantizing one weight costs through diffusers' GGUF path: temporaries, traffic and kernels, by quant type.

Runs diffusers' own functions on the CPU under a dispatch mode that counts bytes, so the figures are properties of the
code and hold on any card. Writes ``fitcheck/memory/data/dequantization.json``:

``peak_bytes``    highest live bytes on top of the quantized weight, per weight element, compute dtype bfloat16
``linear_bytes``  what is left of that while the matrix product runs
``traffic_bytes`` bytes read plus written by all kernels, per weight element
``kernels``       kernel launches for one weight
``steps``         temporaries in order: a positive number makes one of so many bytes per element, -n drops the n-th

Run: python scripts/trace_dequantization.py   (needs the extra ``bench``)
"""

from __future__ import annotations

import json
import sys
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
ROWS, COLUMNS = 512, 4096  # large enough that per-call constants vanish in the per-element figures
_CONSTANT = 1024  # temporaries below so many bytes do not grow with the weight


class ByteCounter(TorchDispatchMode):
    """Counts live storage bytes and kernel traffic of everything that runs inside."""

    def __init__(self, known: torch.Tensor) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.known = known.untyped_storage().data_ptr()
        self.peak = self.traffic = self.kernels = 0
        self.made = 0
        self.steps: list[float] = []

    def _track(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key == self.known or key in self.live or storage.nbytes() == 0:
            return
        self.live[key] = storage.nbytes()
        self.made += 1
        self.steps.append(storage.nbytes())
        weakref.finalize(storage, self._drop, key, self.made)
        self.peak = max(self.peak, sum(self.live.values()))

    def _drop(self, key: int, number: int) -> None:
        self.live.pop(key, None)
        self.steps.append(-number)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        outputs = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        seen = {t.untyped_storage().data_ptr() for t in inputs}
        fresh = [t for t in outputs if t.untyped_storage().data_ptr() not in seen]
        if fresh:  # views move nothing
            self.kernels += 1
            self.traffic += sum(t.numel() * t.element_size() for t in inputs + fresh)
        for tensor in outputs:
            self._track(tensor)
        return out


def measure(name: str) -> dict[str, float]:
    quant = GGMLQuantizationType[name]
    block, size = GGML_QUANT_SIZES[quant]
    elements = ROWS * COLUMNS
    raw = torch.randint(0, 255, (ROWS, COLUMNS // block * size), dtype=torch.uint8)
    weight = GGUFParameter(raw, quant_type=quant)
    with torch.inference_mode(), ByteCounter(raw) as counter:
        # the two statements of diffusers' GGUFLinear.forward_native, in its order
        dense = dequantize_gguf_tensor(weight)
        dense = dense.to(torch.bfloat16)
        left = sum(counter.live.values())
        steps = _per_element(counter.steps, elements)
    return {
        "peak_bytes": round(counter.peak / elements, 3),
        "linear_bytes": round(left / elements, 3),
        "traffic_bytes": round(counter.traffic / elements, 3),
        "kernels": counter.kernels,
        "steps": steps,
    }


def _per_element(steps: list[float], elements: int) -> list[float]:
    """Steps relative to the weight, without the few bytes of constants such as shifts, and numbered anew."""
    kept: dict[int, int] = {}
    found: list[float] = []
    number = 0
    for step in steps:
        if step > 0:
            number += 1
            if step >= _CONSTANT:
                kept[number] = len(kept) + 1
                found.append(step / elements)
        elif round(-step) in kept:
            found.append(-kept[round(-step)])
    return found


def main() -> None:
    torch.manual_seed(0)
    target = Path(__file__).parents[1] / "fitcheck/memory/data/dequantization.json"
    data = {
        "version": 1,
        "made_by": "scripts/trace_dequantization.py",
        "date": datetime.now(UTC).date().isoformat(),
        "software": {"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0]},
        "unit": "per element of the weight matrix",
        "types": {name: measure(name) for name in TYPES},
    }
    target.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    print(target, file=sys.stderr)


if __name__ == "__main__":
    main()
