"""What a card and its link can do, measured alone: copies, pinning, matrix products, dequantization, the context.

``measure`` runs inside a fresh process (``python -m bench.child``); ``run_link`` starts it and makes the record.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from bench.channel import Channel, Event
from bench.device_context import ContextMeter
from bench.meters import MeterTrace, NvmlCard, NvmlStateProbe, Sampler
from bench.meters.nvml import visible_selector
from bench.meters.process_memory import locked, resident
from bench.process import Child, Hang, describe_exit
from bench.runner import PROTOCOL_NAME, PROTOCOL_VERSION, STATE_HZ, median
from bench.torch_build import software_versions
from fitcheck.errors import MeasurementError, extra
from fitcheck.models.quant import TYPES, tensor_bytes
from fitcheck.records import schema
from fitcheck.units import GIB, MIB

BLOCKS = (1 * MIB, 4 * MIB, 16 * MIB, 32 * MIB, 64 * MIB, 96 * MIB, 128 * MIB, 256 * MIB, 512 * MIB, 1 * GIB)
# an MLP matrix, a power of two, and the sizes around it: what torch's pinning allocator rounds up shows here
PIN_REQUESTS = (8 * MIB, 32 * MIB, 96 * MIB, 128 * MIB, 192 * MIB, 1 * GIB)
QUANT_TYPES = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
# rows, columns of the distinct linears of one SenseNova-U1-8B layer (out features, in features)
MATRICES = ((12288, 4096), (4096, 12288), (4096, 4096), (1024, 4096))
# tokens of a 2048² image, of a 1024² image, and of a short prompt
TOKENS = (4096, 1024, 340)
SQUARES = (4096, 8192, 16384)
REPEATS = 5
SECONDS_EACH = 0.25


def measure(channel: Channel, torch: Any, options: dict[str, Any]) -> None:
    """Sends one event a measurement. ``options["quick"]`` takes fewer sizes."""
    card = NvmlCard.open(visible_selector())
    meter = ContextMeter(torch, card) if card is not None else None
    context = meter.start() if meter is not None else None
    properties = torch.cuda.get_device_properties(0)
    channel.send(
        "ready",
        software=software_versions(torch),
        name=properties.name,
        total=int(torch.cuda.mem_get_info()[1]),
        capability=f"{properties.major}.{properties.minor}",
        context=None
        if context is None
        else {"before_matmul": context.before_matmul, "after_matmul": context.after_matmul},
    )
    blocks = BLOCKS[2::3] if options.get("quick") else BLOCKS
    for stage in (
        _pinning(torch, PIN_REQUESTS[:3] if options.get("quick") else PIN_REQUESTS),
        _copies(torch, blocks),
        _device_copy(torch),
        _matmuls(torch, SQUARES[:2] if options.get("quick") else SQUARES),
        _dequantization(torch, QUANT_TYPES[:4] if options.get("quick") else QUANT_TYPES),
    ):
        for row in stage:
            channel.send("measured", **row)
        torch.cuda.empty_cache()


def seconds_of(torch: Any, work: Callable[[], object]) -> float:
    """Median seconds of ``work`` by device events, after a warm-up; each repeat runs long enough to time well."""
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    once = max(time.perf_counter() - started, 1e-6)
    inner = max(1, min(1000, round(SECONDS_EACH / REPEATS / once)))
    times = []
    for _ in range(REPEATS):
        begin, finish = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(inner):
            work()
        finish.record()
        finish.synchronize()
        times.append(begin.elapsed_time(finish) / 1000 / inner)
    return median(times) or 0.0


def _copies(torch: Any, blocks: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for size in blocks:
        device = torch.empty(size, dtype=torch.uint8, device="cuda")
        for pinned in (True, False):
            # written once: a page that was never touched is the shared zero page and copies faster than real data
            host = torch.ones(size, dtype=torch.uint8, pin_memory=pinned)
            for direction, target, source in (("host-to-device", device, host), ("device-to-host", host, device)):
                seconds = seconds_of(torch, partial(target.copy_, source, non_blocking=True))
                yield {
                    "what": "copy",
                    "direction": direction,
                    "pinned": pinned,
                    "bytes": size,
                    "bytes_per_second": size / seconds,
                }
            del host


def _device_copy(torch: Any) -> Iterator[dict[str, Any]]:
    size = 2 * GIB
    with suppress(torch.cuda.OutOfMemoryError):
        source = torch.ones(size, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        seconds = seconds_of(torch, lambda: target.copy_(source))
        yield {"what": "memory", "bytes_per_second": 2 * size / seconds}


def _pinning(torch: Any, requests: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Seconds to pin, and what it takes: torch's own count if it has one, else the growth of locked or resident bytes.

    Runs first, in a process that has pinned nothing yet: a cached block would make the second request free.
    """
    held = []
    for size in requests:
        before = _host_held(torch)
        started = time.perf_counter()
        block = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        seconds = time.perf_counter() - started
        block.fill_(1)
        held.append(block)
        after = _host_held(torch)
        taken = {name: after[name] - before[name] for name in before if name in after}
        counted = taken.get("allocator") or max(taken.get("locked", 0), taken.get("resident", 0))
        yield {
            "what": "pin",
            "bytes": size,
            "seconds": seconds,
            "taken": counted or None,
            **{f"grew_{k}": v for k, v in taken.items()},
        }


def _host_held(torch: Any) -> dict[str, int]:
    held = {"resident": resident()}
    if (pinned := locked()) is not None:
        held["locked"] = pinned
    with suppress(Exception):  # torch before 2.7 has no such counter
        held["allocator"] = int(torch.cuda.host_memory_stats()["allocated_bytes.current"])
    return held


def _matmuls(torch: Any, squares: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    shapes = [(tokens, rows, columns) for tokens in TOKENS for rows, columns in MATRICES]
    for m, n, k in shapes + [(side, side, side) for side in squares]:
        # random: products of zeros draw less power and run faster than real ones
        a = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
        b = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
        seconds = seconds_of(torch, partial(torch.nn.functional.linear, a, b))
        yield {"what": "matmul", "dtype": "BF16", "m": m, "n": n, "k": k, "flops": 2 * m * n * k / seconds}


def _dequantization(torch: Any, types: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """As a GGUF linear of diffusers does it before each product: blocks to floats, then to bf16."""
    try:
        import gguf

        runtime: Any = importlib.import_module("diffusers.quantizers.gguf.utils")
    except ImportError as error:
        yield {
            "what": "skipped",
            "part": "dequantization",
            "message": f"{error}; {extra('bench')}",
        }
        return
    for name in types:
        for rows, columns in MATRICES[:1] + MATRICES[2:3]:
            size = tensor_bytes((rows, columns), TYPES[name])
            # any bytes are valid blocks; a scale that decodes to NaN takes no longer than one that does not
            blocks = torch.randint(0, 256, (rows, size // rows), dtype=torch.uint8, device="cuda")
            weight = runtime.GGUFParameter(blocks, quant_type=gguf.GGMLQuantizationType[name])
            run = partial(_dequantize, runtime.dequantize_gguf_tensor, weight, torch.bfloat16)
            seconds = seconds_of(torch, run)
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            output = run()
            peak = torch.cuda.max_memory_allocated() - before - output.numel() * output.element_size()
            del output
            yield {
                "what": "dequantization", "type": name, "dtype": "BF16", "bytes": size,
                "bytes_per_second": size / seconds, "seconds": seconds, "temporary_bytes": max(0, int(peak)),
            }  # fmt: skip


def _dequantize(function: Callable[[Any], Any], weight: Any, dtype: Any) -> Any:
    return function(weight).to(dtype)


def run_link(
    card: NvmlCard | None,
    quick: bool,
    listener: Callable[[Event], None] = lambda event: None,
    hang_seconds: float = 120,
) -> schema.LinkRecord:
    """Measures the card in a fresh process. Raises InputError when the process refuses (no PyTorch, no GPU)."""
    created, ready, rows = int(time.time()), {}, []
    outcome, message = "killed", None
    job = {"job": "link", "options": {"quick": quick}}
    with Child(job, hang_seconds) as child, Sampler([NvmlStateProbe(card, 1 / STATE_HZ)] if card else []) as sampler:
        began = time.monotonic()
        try:
            for event in child.events():
                kind = event["event"]
                if kind == "refused":
                    raise MeasurementError(event["message"])
                if kind == "ready":
                    ready = event
                elif kind == "measured":
                    rows.append(event)
                elif kind == "bye":
                    outcome = "ok"
                listener(event)
        except Hang as hang:
            outcome, message = "hang", str(hang)
        if outcome == "killed":
            tail = next((line for line in reversed(child.output) if line.strip()), "")
            code = child.process.poll()
            outcome = "killed" if code is not None and code < 0 else "error"
            message = f"the process ended early with {describe_exit(code)}" + (f": {tail[:300]}" if tail else "")
    return _record(card, created, ready, rows, schema.Outcome(result=outcome, message=message), sampler.trace, began)  # type: ignore[arg-type]


def _record(
    card: NvmlCard | None,
    created: int,
    ready: Event,
    rows: list[Event],
    outcome: schema.Outcome,
    trace: MeterTrace,
    began: float,
) -> schema.LinkRecord:
    from bench.assemble import SOURCE, as_int, card_info, power_of, software_of
    from bench.machine_info import machine_info

    def pick(what: str, *names: str) -> list[dict[str, Any]]:
        return [{name: row[name] for name in names} for row in rows if row["what"] == what]

    context = ready.get("context")
    notes = []
    if context:
        notes.append(
            f"context bytes: {context['before_matmul']} before, {context['after_matmul']} after the first product"
        )
    notes += [f"{row['part']} skipped: {row['message']}" for row in rows if row["what"] == "skipped"]
    memory = pick("memory", "bytes_per_second")
    return schema.LinkRecord(
        created=created,
        source=SOURCE,
        machine=machine_info(),
        software=software_of(ready),
        card=card_info(card, ready),
        protocol=schema.Protocol(
            name=PROTOCOL_NAME, version=PROTOCOL_VERSION, warmup=1, repeats=REPEATS, fresh_process=True
        ),
        outcome=outcome,
        copies=tuple(schema.CopyRate(**row) for row in pick("copy", "direction", "pinned", "bytes", "bytes_per_second"))
        or None,
        pinning=tuple(schema.PinRate(**row) for row in pick("pin", "bytes", "seconds", "taken")) or None,
        matmul=tuple(schema.MatmulRate(**row) for row in pick("matmul", "dtype", "m", "n", "k", "flops")) or None,
        dequantization=tuple(
            schema.DequantRate(**row)
            for row in pick("dequantization", "type", "dtype", "bytes", "bytes_per_second", "temporary_bytes")
        )
        or None,
        memory_bytes_per_second=memory[0]["bytes_per_second"] if memory else None,
        context_bytes=context["after_matmul"] if context else None,
        pcie_generation=as_int(trace.peak("pcie_generation")),
        pcie_width=as_int(trace.peak("pcie_width")),
        power=power_of(trace, began, time.monotonic()),
        notes="\n".join(notes) or None,
    )
