"""What llama.cpp prints of its buffers, and the estimate beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.engines.base import PrintedNumber
from fitcheck.models.families.language.metadata import architecture_of_header
from fitcheck.models.gguf import GgufHeader
from fitcheck.runtimes.llamacpp import LlamaEstimate, LlamaOptions, estimate
from fitcheck.units import MIB

_MIB = r"(\d{1,12}(?:\.\d{1,6})?) MiB"
_BUFFER = re.compile(rf"(?<!~)\b\w+:\s+(\S+)\s+(model|KV|RS|compute|output) buffer size =\s+{_MIB}")
_CONTEXT = re.compile(r"llama_\w*context\w*: n_ctx\s+= (\d{1,12})\b")
_KINDS = {"model": "model", "KV": "kv", "RS": "recurrent", "compute": "compute", "output": "output"}


@dataclass(frozen=True, slots=True)
class PrintedBuffer:
    """A buffer line of llama.cpp's log: ``kind`` is model, kv, recurrent, compute or output; ``size`` in MiB."""

    device: str
    kind: str
    size: float


@dataclass(frozen=True, slots=True)
class PrintedContext:
    """One context of a log: its length in tokens and the buffers printed for it, the model's included."""

    tokens: int
    buffers: tuple[PrintedBuffer, ...]

    def total(self, kind: str) -> float:
        """MiB of all buffers of a kind."""
        return sum(buffer.size for buffer in self.buffers if buffer.kind == kind)


def parse_log(text: str) -> tuple[PrintedContext, ...]:
    """The contexts of a llama.cpp log with their buffers, in order; those of a simulated load (0 MiB) are left out."""
    model: list[PrintedBuffer] = []
    used = False
    contexts: list[tuple[int, list[PrintedBuffer]]] = []
    for line in text.splitlines():
        started = _CONTEXT.search(line)
        if started:
            contexts.append((int(started.group(1)), list(model)))
            used = True
            continue
        found = _BUFFER.search(line)
        if not found:
            continue
        device, kind, size = found.groups()
        buffer = PrintedBuffer(device, _KINDS[kind], float(size))
        if not buffer.size:
            continue
        if kind == "model":
            # the next load of a log that holds several
            model = [*([] if used else model), buffer]
            used = False
        elif contexts:
            contexts[-1][1].append(buffer)
    return tuple(
        PrintedContext(tokens, tuple(buffers))
        for tokens, buffers in contexts
        if any(buffer.kind != "model" for buffer in buffers)
    )


def compare(header: GgufHeader, options: LlamaOptions, contexts: Sequence[PrintedContext]) -> tuple[PrintedNumber, ...]:
    """The estimate beside the printed buffers of the largest context by kind; empty when nothing was printed."""
    if not contexts:
        return ()
    largest = max(contexts, key=lambda context: (context.tokens, context.total("compute")))
    cards = len({b.device for b in largest.buffers if re.fullmatch(r"[A-Za-z]+\d+", b.device)})
    wanted = options.with_(context=largest.tokens, sequences=1, program="library")
    if not cards:
        wanted = wanted.with_(gpu_layers=0)
    result = estimate(architecture_of_header(header), header.tensors, wanted, vram=[1 << 34] * cards)
    predicted = _predicted(result)
    return tuple(
        PrintedNumber(kind, printed, predicted[kind])
        for kind in _KINDS.values()
        if (printed := largest.total(kind)) and predicted[kind]
    )


def _predicted(result: LlamaEstimate) -> dict[str, float]:
    devices = [*result.cards, result.host]
    return {
        "model": sum(device.weights for device in devices) / MIB,
        "kv": result.kv_cache / MIB,
        "recurrent": result.recurrent / MIB,
        "compute": sum(device.compute for device in devices) / MIB,
        "output": result.host.output / MIB,
    }
