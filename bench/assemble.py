"""From what a run left behind to the record that is kept."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from bench.engines import registry
from bench.machine_info import fit_name, machine_info
from bench.meters import MeterTrace, NvmlCard
from bench.meters.nvml import reason_names
from bench.runner import MEMORY_HZ, PROTOCOL_NAME, PROTOCOL_VERSION, STATE_HZ, CellRun
from fitcheck import __version__
from fitcheck.errors import FileError
from fitcheck.models import catalog
from fitcheck.records import schema
from fitcheck.records.fields import MAX_STEPS, clean_text, slugify
from fitcheck.runtimes import registry as runtimes

SOURCE = schema.Source(tool="fitcheck-bench", version=__version__)
TAG_SPREAD = "spread"
TAG_TINY = "tiny"


def record_of(run: CellRun, card: NvmlCard | None, limit: schema.Limit | None = None) -> schema.PassRecord:
    """The record of ``run``; what was not measured is absent."""
    cell = run.cell
    tags = [TAG_SPREAD] if run.flags else []
    tags += [TAG_TINY] if cell.tiny else []
    return schema.PassRecord(
        created=run.created,
        source=SOURCE,
        machine=machine_info(),
        software=software_of(run.ready),
        model=_model(run),
        runtime=_runtime(run),
        workload=schema.WorkloadSizes.of(cell.workload),
        card=card_info(card, run.ready) if cell.device == "cuda" else None,
        protocol=_protocol(run),
        samples=tuple(_sample(event) for event in run.passes),
        memory=_memory(run),
        outcome=_outcome(run),
        output=_output(run),
        transfer=_transfer(run),
        power=power_of(run.trace, *_timed_window(run)) if run.timed else None,
        limit=limit,
        tags=tuple(tags) or None,
        notes=clean_text(_notes(run)) or None,
    )


def card_info(card: NvmlCard | None, ready: dict[str, Any]) -> schema.CardInfo:
    """The card by NVML, completed by what the process said in ``ready``."""
    from fitcheck.hardware.catalog import match_detected

    name = (card.name if card else None) or ready.get("name") or "unknown card"
    memory = card.memory() if card else None
    total = memory[0] if memory else ready.get("total")
    known = match_detected(name, total)
    link = card.link() if card else {}
    capability = card.compute_capability if card else None
    return schema.CardInfo(
        slug=known.slug if known else slugify(name),
        name=fit_name(name) or "unknown card",
        vendor="nvidia" if card else "amd" if ready.get("software", {}).get("rocm") else "unknown",
        memory=total,
        pci_id=card.pci_device_id if card else None,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else ready.get("capability"),
        driver=card.driver if card else None,
        power_limit_watts=card.power_limit if card else None,
        pcie_generation_max=link.get("pcie_generation_max"),
        pcie_width_max=link.get("pcie_width_max"),
        display=card.display if card else None,
    )


def software_of(ready: dict[str, Any]) -> schema.Software:
    """fitcheck's version and those that the measured process reported when it was ready."""
    return schema.Software(fitcheck=__version__, **ready.get("software", {}))


def power_of(trace: MeterTrace, since: float, until: float) -> schema.Power | None:
    """Energy, clocks and temperature between two moments; ``None`` when the card has no such sensor at all."""
    finish = trace.at_or_before("energy_joules", until)
    begin = trace.at_or_before("energy_joules", since)
    if begin is None:  # the sampler started with the program itself: count from its first reading
        begin = next(trace.values("energy_joules", since, until), None)
    # the counter is read a few times a second: over a shorter stretch its difference would be noise, or nothing
    counted = begin is not None and finish is not None and until - since >= 4 / STATE_HZ
    values: dict[str, float | None] = {
        "joules": (finish or 0) - (begin or 0) if counted else None,
        "watts_mean": trace.mean("power_watts", since, until),
        "watts_max": trace.peak("power_watts", since, until),
        "sm_clock_mean": trace.mean("sm_clock_mhz", since, until),
        "sm_clock_max": trace.peak("sm_clock_mhz", since, until),
        "memory_clock_max": trace.peak("memory_clock_mhz", since, until),
        "temperature_max": trace.peak("temperature_celsius", since, until),
    }
    found = {name: float(value) for name, value in values.items() if value is not None}
    if not found:
        return None
    reasons = tuple(
        slugify(name) for name in reason_names(trace.combined("event_reasons", since, until)) if name != "gpu idle"
    )
    return schema.Power(seconds=until - since, throttle_reasons=reasons or None, **found)


def _model(run: CellRun) -> schema.ModelRef:
    cell, report = run.cell, run.loaded.get("report", {})
    tier = catalog.get(cell.model).tier(cell.tier)
    # an engine that counted its tensors needs no table of the catalog's
    table = None if report.get("type_bytes") else registry.of(cell).table(cell)
    return schema.ModelRef(
        slug=cell.model,
        tier=cell.tier,
        weights="synthetic" if cell.gguf is None else "real",
        repository=tier.repository if tier and cell.gguf is None else None,
        file=_file_name(cell.gguf) if cell.gguf else None,
        sha256=file_sha256(cell.gguf) if cell.gguf else None,
        tensor_digest=report.get("table_digest") or (table.digest if table else None),
        quant_bytes=table.bytes_by_type if table else report["type_bytes"],
    )


def _file_name(path: str) -> str:
    return (
        "".join(c if c.isascii() and (c.isalnum() or c in " _.+()-") else "_" for c in Path(path).name).lstrip("_.")
        or "file"
    )


@cache
def _sha256(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: str) -> str:
    """sha256 of a weights file, computed once a process. Raises InputError when it cannot be read."""
    try:
        status = Path(path).stat()
        return _sha256(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise FileError(f"--gguf: {path} cannot be read ({error.strerror}).") from error


def _runtime(run: CellRun) -> schema.RuntimeUsed:
    placement = run.cell.placement
    named = runtimes.get(placement.runtime).recorded(placement)
    return schema.RuntimeUsed(**named, attention=_attention(run), dtype=registry.of(run.cell).dtype)


def _attention(run: CellRun) -> str | None:
    backend = run.passes[-1]["report"].get("attention_backend") if run.passes else None
    return fit_name(backend) if backend else None


def _protocol(run: CellRun) -> schema.Protocol:
    protocol = run.protocol
    return schema.Protocol(
        name=PROTOCOL_NAME,
        version=PROTOCOL_VERSION,
        warmup=protocol.warmup,
        repeats=protocol.repeats,
        fresh_process=True,
        cap=None if protocol.cap is None else schema.Cap(bytes=protocol.cap, enforced_by="allocator-fraction"),
        metering_hz=MEMORY_HZ if protocol.meters else None,
        steps_run=protocol.steps_run,
    )


def _sample(event: dict[str, Any]) -> schema.Sample:
    report = event["report"]
    phases = {slugify(name): float(seconds) for name, seconds in report["seconds"].items()}
    steps = tuple(float(seconds) for seconds in report["step_seconds"][:MAX_STEPS])
    return schema.Sample(total=event["seconds"], warmup=event["warmup"], phases=phases or None, steps=steps or None)


def _memory(run: CellRun) -> schema.Memory:
    trace, report = run.trace, run.loaded.get("report", {})
    last = run.end or run.failed
    rss = [value for value in (trace.peak("host_rss"), last.get("rss"), run.last_alive.get("rss")) if value is not None]
    pinned = [value for value in (report.get("pinned_rounded_bytes"), last.get("pinned")) if value]
    context = run.end.get("context")
    if context is None:
        context = (run.ready.get("context") or {}).get("after_matmul")
    return schema.Memory(
        allocated=last.get("allocated", run.last_alive.get("allocated")),
        reserved=last.get("reserved", run.last_alive.get("reserved")),
        process=as_int(trace.peak("card_process")),
        device=as_int(trace.peak("card_used")),
        device_before=run.card_before,
        context=context,
        rss=as_int(max(rss)) if rss else None,
        pinned_requested=report.get("pinned_bytes"),
        pinned_rounded=max(pinned) if pinned else None,
        available_drop=available_drop(trace),
        phases=_phase_memory(run) or None,
    )


def as_int(value: float | None) -> int | None:
    """A reading as records hold it: cut to a whole number; ``None`` stays ``None``."""
    return None if value is None else int(value)


def available_drop(trace: MeterTrace) -> int | None:
    """Largest fall of available RAM; unknown where the total changed meanwhile (a growing virtual machine)."""
    first, lowest = trace.first("host_available"), trace.lowest("host_available")
    if first is None or lowest is None or trace.peak("host_total") != trace.lowest("host_total"):
        return None
    return int(first - lowest)


def _phase_memory(run: CellRun) -> tuple[schema.PhaseMemory, ...]:
    rows: dict[str, dict[str, int | None]] = {}
    sources = [run.loaded, *run.passes, run.failed]
    for reading in (row for source in sources for row in source.get("phases", [])):
        window = (reading["began"], reading["ended"])
        seen = {
            "allocated": reading["allocated"],
            "reserved": reading["reserved"],
            "process": as_int(run.trace.peak("card_process", *window)),
            "device": as_int(run.trace.peak("card_used", *window)),
        }
        row = rows.setdefault(slugify(reading["name"]), dict.fromkeys(seen))
        for name, value in seen.items():
            if value is not None:
                row[name] = max(value, row[name] or 0)
    return tuple(schema.PhaseMemory(name=name, **row) for name, row in rows.items())


def _outcome(run: CellRun) -> schema.Outcome:
    failed = run.outcome != "ok"
    phase = run.failed.get("phase") or run.open_phase
    return schema.Outcome(
        result=run.outcome,  # type: ignore[arg-type]
        message=clean_text(run.message) if run.message else None,
        phase=slugify(phase) if failed and phase else None,
        allocated=run.failed.get("allocated", run.last_alive.get("allocated")) if failed else None,
        requested=run.failed.get("requested") if failed else None,
    )


def _output(run: CellRun) -> schema.Output | None:
    if not run.passes:
        return None
    report = run.passes[-1]["report"]
    return schema.Output(digest=report["output_digest"], finite=report["finite"])


def _transfer(run: CellRun) -> schema.Transfer | None:
    """Streaming of the last pass, which has everything warm."""
    if not run.timed:
        return None
    report = run.timed[-1]["report"]
    if report["streamed_bytes"] is None:
        return None
    since, until = _timed_window(run)
    streamed = sum(report["streamed_bytes"].values())
    copying, waiting = (sum((report.get(name) or {}).values()) for name in ("copy_seconds", "wait_seconds"))
    metered = streamed and report.get("copy_seconds") is not None
    return schema.Transfer(
        bytes_streamed=streamed,
        copies=sum(report["copies"].values()),
        resident_layers=report["resident_layers"],
        bytes_per_second=streamed / copying if metered and copying else None,
        wait_seconds=waiting if metered else None,
        pcie_generation=as_int(run.trace.peak("pcie_generation", since, until)),
        pcie_width=as_int(run.trace.peak("pcie_width", since, until)),
    )


def _timed_window(run: CellRun) -> tuple[float, float]:
    first = len(run.passes) - len(run.timed)
    return run.pass_began[first], run.timed[-1]["at"]


def _notes(run: CellRun) -> str:
    """What has no field of its own, one fact a line."""
    lines = []
    context = run.ready.get("context")
    if context:
        lines.append(
            f"context bytes: {context['before_matmul']} before, {context['after_matmul']} after the first product "
            f"({context['method']})"
        )
    if run.ready.get("allocator"):
        lines.append(f"allocator: {run.ready['allocator']}")
    if run.capped:
        lines.append(
            f"cap: {run.capped['cap']} bytes = {run.capped['context']} context + {run.capped['allocator_limit']} "
            "for the allocator"
        )
    if run.loaded:
        lines.append(f"load: {run.loaded['seconds']:.2f} s")
    if run.first_timed_pass is not None:
        lines.append(f"first timed pass: {run.first_timed_pass:.2f} s after the start of the process")
    digests = {event["report"]["output_digest"] for event in run.passes}
    if len(digests) > 1:
        lines.append(f"outputs differ between passes: {len(digests)} digests in {len(run.passes)} passes")
    if run.protocol.steps_run is not None:
        lines.append("fewer steps than the workload's: the peak of memory does not depend on their number")
    return "\n".join(lines)
