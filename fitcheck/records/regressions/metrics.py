"""What a record measured, as series of numbers: values of one run each, their unit, and how they are to be judged."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from fitcheck.dataclass_later import dataclass
from fitcheck.records.run import TokenTest
from fitcheck.records.schema import AnyRecord, ExternalRecord, LinkRecord, LlmRecord, Memory, PassRecord, Sample
from fitcheck.units import format_gib, format_seconds, format_time_span

# Blocks of torch's caching allocator (c10/core/AllocatorConfig.h: kMinBlockSize, kSmallBuffer): tensors are rounded to
# 512 bytes, segments to 2 MiB; the driver hands out card memory in 2 MiB pages too, host memory comes in 4 KiB pages.
BLOCK, SEGMENT, PAGE = 512, 2 << 20, 4 << 10


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity: seconds, bytes, joules or something a second (then ``higher`` is better).

    ``step`` is set for memory that is the same in each run: the bytes by which two equal runs may differ.
    """

    name: str
    unit: str
    higher: bool = False
    step: int | None = None

    @property
    def exact(self) -> bool:
        """Whether equal runs give the same number within ``step`` bytes, unlike times."""
        return self.step is not None


def amount(metric: Metric, value: float) -> str:
    """A value of the metric as people read it."""
    if metric.unit == "bytes":
        return format_gib(value, 2)
    return format_seconds(value) if metric.unit == "s" else f"{value:.4g} {metric.unit}"


def amounts(metric: Metric, low: float, high: float) -> str:
    """A range of the metric's values as people read it."""
    if metric.unit == "s":
        return format_time_span(low, high, " to ")
    return f"{amount(metric, low)} to {amount(metric, high)}"


@dataclass(frozen=True, slots=True)
class MetricValues:
    """A metric of one record: ``values`` of its timed runs, at least one, each positive."""

    metric: Metric
    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """The median of the timed runs, in the metric's unit."""
        return float(median(self.values))


_MEMORY = (
    Metric("allocated", "bytes", step=BLOCK),
    Metric("reserved", "bytes", step=SEGMENT),
    Metric("process", "bytes", step=SEGMENT),
    Metric("pinned_rounded", "bytes", step=PAGE),
    Metric("rss", "bytes"),
)
_CARD_PEAK = Metric("card_peak", "bytes", step=SEGMENT)


def measured(record: AnyRecord) -> dict[str, MetricValues]:
    """Metric name -> what ``record`` says about it. A run that did not finish measured nothing."""
    if record.outcome.result != "ok":
        return {}
    found = {}
    for metric, values in _all(record):
        positive = tuple(float(value) for value in values if value > 0)
        if positive:
            found[metric.name] = MetricValues(metric, positive)
    return found


def _all(record: AnyRecord) -> Iterator[tuple[Metric, tuple[float, ...]]]:
    if isinstance(record, PassRecord | ExternalRecord):
        yield from _times(record)
    elif isinstance(record, LlmRecord):
        yield from _tokens(record)
    if isinstance(record, LinkRecord):
        yield from _link(record)
    elif record.memory is not None:
        yield from _memory(record.memory)


def _times(record: PassRecord | ExternalRecord) -> Iterator[tuple[Metric, tuple[float, ...]]]:
    timed = [sample for sample in record.samples if not sample.warmup]
    probe = record.protocol.steps_run is not None
    if not probe:
        yield Metric("seconds", "s"), tuple(sample.total for sample in timed)
    yield Metric("step_seconds", "s"), tuple(step for sample in timed if (step := _step(sample)) is not None)
    if record.load_seconds is not None:
        yield Metric("load_seconds", "s"), (record.load_seconds,)
    power = record.power
    if power is not None and power.joules is not None and timed and not probe:
        yield Metric("joules", "J"), (power.joules / len(timed),)


def _step(sample: Sample) -> float | None:
    """One value a run: steps of the same run are no independent repeats."""
    return float(median(sample.steps)) if sample.steps else None


def _tokens(record: LlmRecord) -> Iterator[tuple[Metric, tuple[float, ...]]]:
    for rate in record.rates or ():
        name = TokenTest(rate.prompt_tokens, rate.new_tokens, rate.depth, rate.mean).name
        yield Metric(name, "tokens/s", higher=True), rate.samples or (rate.mean,)
    for buffer in record.buffers or ():
        yield Metric(f"buffer {buffer.kind} {buffer.device}", "bytes", step=BLOCK), (buffer.bytes,)


def _memory(memory: Memory) -> Iterator[tuple[Metric, tuple[float, ...]]]:
    for metric in _MEMORY:
        value = getattr(memory, metric.name)
        if value is not None:
            yield metric, (value,)
    if memory.device is not None:  # what others held before is no part of this run
        yield _CARD_PEAK, (memory.device - (memory.device_before or 0),)


def _link(record: LinkRecord) -> Iterator[tuple[Metric, tuple[float, ...]]]:
    for copy in record.copies or ():
        kind = "pinned" if copy.pinned else "pageable"
        yield Metric(f"{copy.direction} {kind} {copy.bytes}", "B/s", higher=True), (copy.bytes_per_second,)
    for product in record.matmul or ():
        yield (
            Metric(f"matmul {product.dtype} {product.m}x{product.n}x{product.k}", "FLOP/s", higher=True),
            (product.flops,),
        )
    for rate in record.dequantization or ():
        yield (
            Metric(f"dequantization {rate.type} {rate.dtype} {rate.bytes}", "B/s", higher=True),
            (rate.bytes_per_second,),
        )
    if record.memory_bytes_per_second is not None:
        yield Metric("memory_bytes_per_second", "B/s", higher=True), (record.memory_bytes_per_second,)
    if record.context_bytes is not None:
        yield Metric("context", "bytes", step=SEGMENT), (record.context_bytes,)
