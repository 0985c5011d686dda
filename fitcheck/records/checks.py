"""Whether one record can be true. Pure: the caller gives the time; nothing is read but the catalogs of known names.

Limits come from physics and from what a meter can show; each has a tolerance for rounding, and what a fast or odd but
real machine could produce is flagged, never rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from statistics import median

from fitcheck.data_files import load
from fitcheck.errors import InputError
from fitcheck.models.quant import TYPES
from fitcheck.records.findings import Finding, flag, note, reject
from fitcheck.records.schema import (
    AnyRecord,
    CardInfo,
    ExternalRecord,
    LinkRecord,
    LlmRecord,
    Memory,
    PassRecord,
    PhaseMemory,
    Power,
    Protocol,
    Sample,
)
from fitcheck.units import MIB, format_gib

CLOCK_SKEW = 3600
# B/s per lane and direction after line coding: PCI-SIG base specifications 1.0 to 7.0
_LANE = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9, 7: 15.125e9, 8: 30.25e9}
_COHERENT = re.compile(r"\b(?:GH200|GB200|GB300|GB10|Grace|MI300A)\b")  # linked to the host by more than PCIe
_WIDEST_LINK = 64e9  # PCIe 5.0 ×16, the fastest slot that a desktop had by 2026
_ROUNDING = 4 * MIB
_SPREAD = 1.25
_LEAST_SECONDS = 1e-4  # one kernel launch and its synchronization take longer
_ODD_TEXT = re.compile(
    r"<\s*[a-zA-Z/!]|\bjavascript:|\b(?:drop|alter|truncate)\s+table\b|\b(?:delete|insert|union|select)\b.*\b(?:from|into)\b|--\s*$",
    re.IGNORECASE | re.DOTALL,
)


def check(record: AnyRecord, now: float) -> list[Finding]:
    """Everything odd about one record. ``now`` is UTC seconds."""
    card = record.card
    found = list(_times(record, now))
    found += _names(record)
    found += _texts(record)
    if record.power is not None:
        found += _power(record.power, card)
    if isinstance(record, LinkRecord):
        found += _link_rates(record)
    else:
        if record.memory is not None:
            found += _memory(record.memory, record)
        if isinstance(record, LlmRecord):
            found += _token_rates(record)
        else:
            found += _samples(record.samples, record)
    if isinstance(record, PassRecord):
        found += _nothing(record)
        found += _transfer(record)
        found += _limit(record)
    found += _conditions(record)
    return found


def _times(record: AnyRecord, now: float) -> Iterator[Finding]:
    if record.created > now + CLOCK_SKEW:
        yield reject("future", f"created {record.created} is {(record.created - now) / 3600:.1f} h in the future")
    elif now - record.created > 2 * 365 * 86400:
        yield note("old", "was measured more than two years ago")


@cache
def _known_models() -> frozenset[str]:
    from fitcheck.models import catalog

    return frozenset(catalog.slugs())


@cache
def _catalog_memory(slug: str) -> int | None:
    """Memory in bytes of the catalog's card of that slug; None when there is none."""
    from fitcheck.hardware import catalog

    try:
        card = catalog.find_card(slug)
    except InputError:
        return None
    return card.memory if card.slug == slug else None


def _names(record: AnyRecord) -> Iterator[Finding]:
    if "tiny" in (record.tags or ()):
        yield reject("tiny", "a scaled-down model says nothing about a card: a run with --tiny is no measurement")
    card, model, runtime = record.card, getattr(record, "model", None), getattr(record, "runtime", None)
    if card is not None:
        known = _catalog_memory(card.slug)
        if known is None:
            yield flag("unknown-card", f"card {card.slug!r} is not in the catalog")
        elif card.memory is None:
            yield flag("no-card-memory", "the card's memory is not stated")
        elif not 0.85 <= card.memory / (known * card.count) <= 1.08:
            yield flag(
                "card-memory",
                f"the card has {format_gib(card.memory)}, the catalog's {card.slug} {format_gib(known * card.count)}",
            )
    if runtime is not None and runtime.name not in load("records", "runtimes")["known"]:
        yield flag("unknown-runtime", f"runtime {runtime.name!r} is not one that fitcheck knows")
    if model is None:
        return
    if model.sha256 is None and model.tensor_digest is None:
        yield flag("unverified-model", "neither the file's sha256 nor the tensor table's digest is given")
    if isinstance(record, PassRecord) and model.slug not in _known_models():
        yield flag("unknown-model", f"model {model.slug!r} is not in the catalog")
    unknown = sorted(set(model.quant_bytes or ()) - TYPES.keys())
    if unknown:
        yield flag("unknown-type", f"storage type {unknown[0]} is not known")


def _texts(record: AnyRecord) -> Iterator[Finding]:
    for place, text in (("notes", record.notes), ("outcome.message", record.outcome.message)):
        if text and _ODD_TEXT.search(text):
            yield flag("odd-text", f"{place} holds markup or database commands; it is only ever shown as plain text")


def _memory(memory: Memory, record: AnyRecord) -> Iterator[Finding]:
    card = record.card
    points: list[tuple[str, Memory | PhaseMemory]] = [("memory", memory)]
    points += [(f"memory.phases.{phase.name}", phase) for phase in memory.phases or ()]
    for place, point in points:
        yield from _card_peak(place, point, card, record)
        if point.allocated is not None and point.reserved is not None and point.allocated > point.reserved:
            yield reject("allocated-over-reserved", f"{place}: more is allocated than the allocator has reserved")
        if point.process is not None and point.device is not None and point.process > point.device + 64 * MIB:
            yield flag("process-over-device", f"{place}: the process holds more than the whole card does")
    for name in ("allocated", "reserved", "process", "device"):
        total, parts = getattr(memory, name), [getattr(phase, name) for phase in memory.phases or ()]
        highest = max((part for part in parts if part is not None), default=None)
        if total is not None and highest is not None and highest > total:
            yield reject("phase-over-total", f"memory.{name}: a phase has a higher peak than the whole run")
    if memory.process is not None and memory.reserved is not None and memory.process < memory.reserved:
        message = "memory.process is less than the allocator reserved: the peak fell between two readings"
        yield note("missed-peak", f"{message}, so that it does not count as what the card held")
    if memory.pinned_rounded is not None and memory.pinned_rounded < (memory.pinned_requested or 0):
        yield reject("pinned-rounding", "memory: less pinned memory was taken than asked for")
    ram = record.machine.ram
    for name in ("rss", "pinned_rounded", "available_drop"):
        value = getattr(memory, name)
        if ram is not None and value is not None and value > ram:
            message = f"memory.{name} {format_gib(value)} is more than the machine's {format_gib(ram)}"
            yield reject("host-over-ram", message)


def _nothing(record: PassRecord) -> Iterator[Finding]:
    """Sizes and peaks of nothing: a run that finished made something and took memory."""
    sizes, memory, protocol = record.workload, record.memory, record.protocol
    asked: dict[str, object] = {"steps": sizes.steps, "steps_run": protocol.steps_run}
    if sizes.task == "interleave":  # text alone may be handed in, so an empty list of references is a run
        asked["images"] = sizes.images
    else:
        asked["references"] = sizes.references
    for name, value in asked.items():
        if value in (0, ()):
            yield reject("empty-workload", f"{name}: a run of none of them is no measurement")
    if record.card is not None and record.card.memory == 0:
        yield reject("no-memory", "card.memory is 0: no card has none")
    if protocol.cap is not None and protocol.cap.bytes == 0:
        yield reject("no-memory", "protocol.cap is 0: nothing runs in none")
    on_card = ("allocated", "reserved", "process", "device") if record.card is not None else ()
    for name in (*on_card, "rss"):
        if record.outcome.result == "ok" and getattr(memory, name) == 0:
            yield reject("no-memory", f"memory.{name} is 0: a run that finished took some")


def _card_peak(place: str, point: Memory | PhaseMemory, card: CardInfo | None, record: AnyRecord) -> Iterator[Finding]:
    cap = record.protocol.cap
    capped = cap.bytes if cap is not None and cap.enforced_by == "allocator-fraction" else None
    for name in ("allocated", "reserved", "process", "device"):
        value, torch = getattr(point, name), name in ("allocated", "reserved")
        if value is None:
            continue
        if card is not None and card.memory is not None and value > card.memory + _ROUNDING:
            message = f"{place}.{name} {format_gib(value, 2)} is more than the card's {format_gib(card.memory, 2)}"
            if torch and _spills(record):
                yield flag("spilled", f"{message}: it spilled into system memory")
            else:
                yield reject("peak-over-card", message)
        elif torch and capped is not None and value > capped + _ROUNDING:
            message = f"{place}.{name} {format_gib(value, 2)} is over the cap of {format_gib(capped, 2)}"
            yield reject("peak-over-cap", message)


def _spills(record: AnyRecord) -> bool:
    """Whether the driver may back torch's memory with system RAM: WDDM does, also under WSL; unified memory is RAM."""
    version = (record.machine.os_version or "").lower()
    return record.machine.os == "windows" or "wsl" in version or "microsoft" in version


def _samples(samples: tuple[Sample, ...], record: PassRecord | ExternalRecord) -> Iterator[Finding]:
    timed = [sample for sample in samples if not sample.warmup]
    if record.outcome.result == "ok" and not timed:
        yield flag("no-sample", "succeeded without a timed sample")
    for number, sample in enumerate(samples):
        if sample.total < _LEAST_SECONDS:
            yield reject("zero-time", f"samples[{number}]: a run took no time at all")
        slack = 1.02 * sample.total + 0.05
        for what, parts in (("phases", list((sample.phases or {}).values())), ("steps", list(sample.steps or ()))):
            if sum(parts) > slack:
                message = f"samples[{number}]: {what} take {sum(parts):.3g} s of {sample.total:.3g} s"
                yield reject("parts-over-total", message)
    totals = [sample.total for sample in timed]
    if len(totals) > 1 and min(totals) > 0 and max(totals) / min(totals) > _SPREAD:
        yield flag("spread", f"the slowest run took {max(totals) / min(totals):.2f} times as long as the fastest")
    if record.outcome.result == "ok" and timed and len(timed) != record.protocol.repeats:
        yield note("repeats", f"{len(timed)} timed samples where the protocol says {record.protocol.repeats}")
    expected = record.protocol.steps_run
    if expected is None and record.workload is not None:
        expected = record.workload.steps
    if expected and any(sample.steps is not None and len(sample.steps) not in (0, expected) for sample in timed):
        counts = sorted({len(sample.steps) for sample in timed if sample.steps is not None})
        yield note("step-count", f"samples have {counts[0]} step times where {expected} steps are stated")


def _transfer(record: PassRecord) -> Iterator[Finding]:
    transfer = record.transfer
    if transfer is None:
        return
    rates = [("transfer.bytes_per_second", transfer.bytes_per_second)]
    totals = [sample.total for sample in record.samples if not sample.warmup and sample.total > 0]
    if transfer.bytes_streamed and totals:
        rates.append(("transfer.bytes_streamed over the run", transfer.bytes_streamed / median(totals)))
    for place, rate in rates:
        if rate is not None:
            yield from _over_link(place, rate, record.card)


def link_limit(card: CardInfo | None) -> float | None:
    """B/s that the card's slot can carry one way; None when it is not stated."""
    if card is None or card.pcie_generation_max is None or card.pcie_width_max is None:
        return None
    return _LANE[card.pcie_generation_max] * card.pcie_width_max * card.count


def _over_link(place: str, rate: float, card: CardInfo | None) -> Iterator[Finding]:
    limit = link_limit(card)
    if limit is not None and rate > limit * 1.01:
        message = f"{place} {rate / 1e9:.1f} GB/s is more than the link's {limit / 1e9:.1f} GB/s"
        coherent = card is not None and _COHERENT.search(card.name)
        yield flag("over-pcie", f"{message}: a coherent link") if coherent else reject("over-link", message)
    elif limit is None and rate > _WIDEST_LINK * (card.count if card else 1):
        message = f"{place} {rate / 1e9:.1f} GB/s is more than PCIe 5.0 ×16 carries, and the link is not stated"
        yield flag("fast-link", message)


def _link_rates(record: LinkRecord) -> Iterator[Finding]:
    for number, copy in enumerate(record.copies or ()):
        if copy.direction != "device-to-device":
            yield from _over_link(f"copies[{number}]", copy.bytes_per_second, record.card)
    for number, pin in enumerate(record.pinning or ()):
        if pin.taken is not None and pin.taken < pin.bytes:
            yield reject("pinned-rounding", f"pinning[{number}]: less memory was taken than asked for")
    memory = record.card.memory
    if record.context_bytes is not None and memory is not None and record.context_bytes > memory:
        yield reject("peak-over-card", "context_bytes is more than the card's memory")


def _token_rates(record: LlmRecord) -> Iterator[Finding]:
    for number, rate in enumerate(record.rates or ()):
        place = f"rates[{number}]"
        if rate.prompt_tokens + rate.new_tokens == 0:
            yield reject("no-tokens", f"{place}: a rate of a test without tokens")
        samples = rate.samples or ()
        if samples and not min(samples) * 0.999 <= rate.mean <= max(samples) * 1.001:
            yield reject("mean-outside-samples", f"{place}: the mean lies outside its own samples")
        spread = max(samples) / min(samples) if samples else 1 + 2 * (rate.stddev or 0) / rate.mean
        if spread > _SPREAD:
            yield flag("spread", f"{place}: runs differ by a factor of {spread:.2f}")
    card, held = record.card, 0
    for buffer in record.buffers or ():
        on_card = buffer.device != "CPU" and not buffer.device.endswith("_Host")
        held += buffer.bytes if on_card else 0
    if card is not None and card.memory is not None and held > card.memory and record.outcome.result == "ok":
        message = f"buffers on the card take {format_gib(held, 2)} of {format_gib(card.memory, 2)}"
        yield flag("spilled", message) if _spills(record) else reject("peak-over-card", message)


def _power(power: Power, card: CardInfo | None) -> Iterator[Finding]:
    if power.watts_mean is not None and power.watts_max is not None and power.watts_mean > power.watts_max * 1.01:
        yield reject("mean-over-max", "power: the mean is higher than the maximum")
    mean = power.watts_mean
    if power.joules is not None and power.seconds:
        rate = power.joules / power.seconds
        if mean and not 0.7 <= rate / mean <= 1.4:
            message = f"power: {power.joules:.0f} J over {power.seconds:.1f} s is not {mean:.0f} W"
            yield flag("energy-and-power", message)
        mean = max(mean or 0, rate)
    limit = card.power_limit_watts * card.count if card is not None and card.power_limit_watts else None
    if mean is not None and limit is not None and mean > limit * 1.1:
        yield reject("energy-over-limit", f"power: {mean:.0f} W on average is over the limit of {limit:.0f} W")
    if mean is not None and limit is None and mean > 1500 * (card.count if card else 1):
        yield flag("power", f"power: {mean:.0f} W on average, and the card's limit is not stated")
    if power.sm_clock_mean and power.sm_clock_max and power.sm_clock_mean > power.sm_clock_max * 1.01:
        yield reject("mean-over-max", "power: the mean clock is higher than the maximum")
    if power.throttle_reasons:
        yield note("throttled", f"the card throttled: {', '.join(power.throttle_reasons)}")


def _limit(record: PassRecord) -> Iterator[Finding]:
    limit = record.limit
    if limit is None:
        return
    if limit.works == 0:
        yield reject("no-memory", "limit: nothing works in no memory")
    if limit.works is None and limit.fails is None:
        yield reject("empty-limit", "limit: a search that saw neither a cap that works nor one that fails")
    elif limit.works is not None and limit.fails is not None and limit.fails >= limit.works:
        yield reject("limit-order", "limit: the largest cap that fails is not below the smallest that works")


def _conditions(record: AnyRecord) -> Iterator[Finding]:
    """What a reader should know although nothing is wrong."""
    protocol: Protocol = record.protocol
    if protocol.cap is not None:
        yield note("capped", f"ran under a cap of {format_gib(protocol.cap.bytes)} ({protocol.cap.enforced_by})")
    if protocol.steps_run is not None:
        yield note("probe", f"ran {protocol.steps_run} steps only: its memory counts, its total time does not")
    model = getattr(record, "model", None)
    if model is not None and model.weights == "synthetic":
        yield note("synthetic", "weights are synthetic")
    if record.outcome.result != "ok":
        yield note("failed", f"did not finish: {record.outcome.result}")
