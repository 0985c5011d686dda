"""The record: one measurement, with everything needed to repeat it. Schema version 1.

Bytes are integers, times are seconds, rates are per second. A meter that a platform lacks is ``None`` and absent from
the file, never zero. Build a record from these classes (strict: tuples, not lists), then ``store.write`` it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from fitcheck.records.fields import (
    MAX_ITEMS,
    MAX_SAMPLES,
    Block,
    Bytes,
    BytesPerSecond,
    Count,
    Flops,
    Label,
    Positive,
    Seconds,
    Small,
    TypeName,
)
from fitcheck.records.record_parts import (
    Cap,
    CardInfo,
    Limit,
    MachineInfo,
    Memory,
    ModelRef,
    Outcome,
    Output,
    PhaseMemory,
    Power,
    Protocol,
    RecordBase,
    RuntimeUsed,
    Sample,
    Software,
    Source,
    Transfer,
    WorkloadSizes,
)

SCHEMA_VERSION = 1

Samples = Annotated[tuple[Sample, ...], Field(max_length=MAX_SAMPLES)]


class PassRecord(RecordBase):
    """A measured cell: model × tier × workload × runtime × mode on a card. A failed run may have no samples; without a
    card it ran on the CPU."""

    kind: Literal["pass"] = "pass"
    model: ModelRef
    runtime: RuntimeUsed
    workload: WorkloadSizes
    card: CardInfo | None = None
    protocol: Protocol
    samples: Samples
    load_seconds: Seconds | None = None
    memory: Memory
    outcome: Outcome
    output: Output | None = None
    transfer: Transfer | None = None
    power: Power | None = None
    limit: Limit | None = None


class CopyRate(Block):
    """A copy between host and card of ``bytes`` at a time. ``pinned`` tells page-locked from pageable host memory."""

    direction: Literal["host-to-device", "device-to-host", "device-to-device"]
    pinned: bool
    bytes: Bytes
    bytes_per_second: BytesPerSecond


class MatmulRate(Block):
    """[m, k] × [k, n] in ``dtype``: 2·m·n·k operations a run."""

    dtype: TypeName
    m: Count
    n: Count
    k: Count
    flops: Flops


class DequantRate(Block):
    """Turning ``type`` blocks into ``dtype``: ``bytes_per_second`` counts the quantized bytes read,
    ``temporary_bytes`` the extra device memory at its peak beyond input and output."""

    type: TypeName
    dtype: TypeName
    bytes: Bytes
    bytes_per_second: BytesPerSecond
    temporary_bytes: Bytes | None = None


class PinRate(Block):
    """Page-locking ``bytes`` of host memory in ``seconds``; ``taken`` is what the allocator really reserved."""

    bytes: Bytes
    seconds: Seconds
    taken: Bytes | None = None


class LinkRecord(RecordBase):
    """What a card and its link can do, measured alone: the rates that a speed estimate is calibrated on."""

    kind: Literal["link"] = "link"
    card: CardInfo
    protocol: Protocol
    outcome: Outcome
    copies: Annotated[tuple[CopyRate, ...], Field(max_length=MAX_ITEMS)] | None = None
    pinning: Annotated[tuple[PinRate, ...], Field(max_length=MAX_ITEMS)] | None = None
    matmul: Annotated[tuple[MatmulRate, ...], Field(max_length=MAX_ITEMS)] | None = None
    dequantization: Annotated[tuple[DequantRate, ...], Field(max_length=MAX_ITEMS)] | None = None
    memory_bytes_per_second: BytesPerSecond | None = None
    context_bytes: Bytes | None = None
    pcie_generation: Annotated[int, Field(ge=1, le=8)] | None = None
    pcie_width: Annotated[int, Field(ge=1, le=32)] | None = None
    power: Power | None = None


class ExternalRecord(RecordBase):
    """Any program, measured from outside while it ran: what the meters saw, and what the user says it did."""

    kind: Literal["external"] = "external"
    runtime: RuntimeUsed
    model: ModelRef | None = None
    workload: WorkloadSizes | None = None
    card: CardInfo | None = None
    protocol: Protocol
    samples: Samples
    load_seconds: Seconds | None = None
    memory: Memory
    outcome: Outcome
    power: Power | None = None


class Buffer(Block):
    """A buffer that llama.cpp prints at load: ``kind`` on ``device`` (``CUDA0``, ``CPU``, ``CUDA_Host``…)."""

    kind: Literal["model", "kv", "recurrent", "compute", "output"]
    device: Label
    bytes: Bytes


class TokenRate(Block):
    """Tokens per second of one test: prompt processing (``prompt_tokens``), generation (``new_tokens``) or both,
    after ``depth`` tokens already in the cache. ``samples`` holds every run when the tool states them."""

    prompt_tokens: Count
    new_tokens: Count
    depth: Count = 0
    mean: Positive
    stddev: Annotated[float, Field(ge=0, le=1e9)] | None = None
    samples: Annotated[tuple[Positive, ...], Field(max_length=MAX_SAMPLES)] | None = None


class LlmSettings(Block):
    """llama.cpp's switches: ``gpu_layers`` is -ngl, ``cpu_moe_layers`` --n-cpu-moe, ``type_k`` / ``type_v`` the types
    that the cache is stored in."""

    backend: Label | None = None
    gpu_layers: Annotated[int, Field(ge=-1, le=100_000)] | None = None
    cpu_moe_layers: Small | None = None
    threads: Small | None = None
    batch: Count | None = None
    ubatch: Count | None = None
    context: Count | None = None
    sequences: Count | None = None
    type_k: TypeName | None = None
    type_v: TypeName | None = None
    flash_attention: Literal["on", "off", "auto"] | None = None
    split_mode: Label | None = None
    mmap: bool | None = None
    kv_offload: bool | None = None


class LlmRecord(RecordBase):
    """A llama.cpp run: buffers, tokens per second, and meters where there were any. No card means it ran on the CPU."""

    kind: Literal["llm"] = "llm"
    model: ModelRef
    runtime: RuntimeUsed
    card: CardInfo | None = None
    protocol: Protocol
    settings: LlmSettings
    rates: Annotated[tuple[TokenRate, ...], Field(max_length=MAX_ITEMS)] | None = None
    buffers: Annotated[tuple[Buffer, ...], Field(max_length=MAX_ITEMS)] | None = None
    memory: Memory | None = None
    power: Power | None = None
    outcome: Outcome


AnyRecord = PassRecord | LinkRecord | ExternalRecord | LlmRecord
ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


__all__ = [
    "ADAPTER",
    "SCHEMA_VERSION",
    "AnyRecord",
    "Buffer",
    "Cap",
    "CardInfo",
    "CopyRate",
    "DequantRate",
    "ExternalRecord",
    "Limit",
    "LinkRecord",
    "LlmRecord",
    "LlmSettings",
    "MachineInfo",
    "MatmulRate",
    "Memory",
    "ModelRef",
    "Outcome",
    "Output",
    "PassRecord",
    "PhaseMemory",
    "PinRate",
    "Power",
    "Protocol",
    "RecordBase",
    "RuntimeUsed",
    "Sample",
    "Software",
    "Source",
    "TokenRate",
    "Transfer",
    "WorkloadSizes",
]
