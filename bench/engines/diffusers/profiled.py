"""Where a card's time goes in one call: by operation with the shapes it got, and by kernel."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from torch.profiler import ProfilerActivity, profile

# rows that are kept of each table, those that took longest
_KEPT = 60
_CUDA = "DeviceType.CUDA"


def profiled(call: Callable[[], Any], cuda: bool) -> dict[str, Any]:
    """``busy``: seconds in which kernels ran, ``kernels``: how many; ``by_kernel`` and ``by_operation`` as lists of
    (name, shapes for an operation, count, microseconds, FLOPs for an operation that torch counts)."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=kinds, record_shapes=True, with_flops=True) as seen:
        call()
    kernels = _kernels(seen) if cuda else []
    return {
        "busy": sum(took for _, took in kernels) / 1e6,
        "kernels": len(kernels),
        "by_kernel": _by_kernel(kernels),
        "by_operation": _by_operation(seen.key_averages(group_by_input_shape=True), cuda),
    }


def _kernels(seen: Any) -> list[tuple[str, float]]:
    """(name, microseconds) of everything that ran on the card, copies included."""
    events = seen.profiler.kineto_results.events()
    return [
        (event.name(), event.duration_ns() / 1e3)
        for event in events
        if str(event.device_type()) == _CUDA and event.name() and not event.name().startswith(("aten::", "Profiler"))
    ]


def _by_kernel(kernels: Iterable[tuple[str, float]]) -> list[tuple[str, int, float]]:
    count: Counter[str] = Counter()
    took: defaultdict[str, float] = defaultdict(float)
    for name, microseconds in kernels:
        count[name] += 1
        took[name] += microseconds
    longest = sorted(took, key=lambda name: -took[name])[:_KEPT]
    return [(name[:160], count[name], round(took[name], 1)) for name in longest]


def _by_operation(rows: Any, cuda: bool) -> list[tuple[str, list[Any], int, float, int]]:
    def time_of(row: Any) -> float:
        return float(row.self_device_time_total if cuda else row.self_cpu_time_total)

    timed = [row for row in rows if time_of(row) > 0 and row.key.startswith("aten::")]
    timed.sort(key=lambda row: -time_of(row))
    return [
        (
            row.key,
            [list(one) for one in row.input_shapes if one],
            row.count,
            round(time_of(row), 1),
            int(row.flops or 0),
        )
        for row in timed[:_KEPT]
    ]
