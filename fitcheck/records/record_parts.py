"""The parts that records are made of: which weights, program, card and machine, and what was measured.

Bytes are integers, times are seconds, rates are per second; ``None`` means that nobody knows, and is absent from files.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fitcheck.models.workload import Task, Workload
from fitcheck.records.fields import (
    MAX_ITEMS,
    MAX_PHASES,
    MAX_STEPS,
    Block,
    Bytes,
    BytesPerSecond,
    Commit,
    Count,
    FileName,
    Handle,
    Label,
    Name,
    PciId,
    Pixels,
    Positive,
    Repository,
    Revision,
    Seconds,
    Sha256,
    Slug,
    Small,
    Text,
    TypeName,
    UtcSeconds,
    Version,
    Watts,
)
from fitcheck.records.sizes import used_sizes

OutcomeKind = Literal["ok", "oom-gpu", "oom-host", "killed", "hang", "error"]
TaskName = Literal["t2i", "editing", "t2v", "i2v", "interleave", "vqa", "chat", "embed"]


class ModelRef(Block):
    """Which weights ran. ``sha256`` is the file's, ``tensor_digest`` that of ``TensorTable.digest``; one of them
    makes the identity certain. ``quant_bytes`` is bytes by storage type over all tensors. ``synthetic`` weights have
    the real shapes and types but random values: memory and time hold, pictures do not."""

    slug: Slug
    tier: Label
    weights: Literal["real", "synthetic"]
    repository: Repository | None = None
    revision: Revision | None = None
    file: FileName | None = None
    sha256: Sha256 | None = None
    tensor_digest: Sha256 | None = None
    quant_bytes: Annotated[dict[TypeName, Bytes], Field(max_length=MAX_ITEMS)] | None = None


class RuntimeUsed(Block):
    """The program and its placement policy. ``revision`` is the label fitcheck predicts with (``pr241``, ``v0``),
    ``commit`` the source it was built from, ``version`` a released version."""

    name: Slug
    revision: Label | None = None
    commit: Commit | None = None
    version: Version | None = None
    mode: Label | None = None
    policy: Label | None = None
    prefetch: Small | None = None
    attention: Label | None = None
    dtype: TypeName | None = None


class WorkloadSizes(Block):
    """``fitcheck.models.workload.Workload`` as stored: sizes that the task does not use are absent."""

    task: TaskName
    width: Pixels | None = None
    height: Pixels | None = None
    steps: Count | None = None
    cfg: Annotated[float, Field(ge=0, le=1000)] | None = None
    image_cfg: Annotated[float, Field(ge=0, le=1000)] | None = None
    references: Annotated[tuple[tuple[Pixels, Pixels], ...], Field(max_length=MAX_ITEMS)] | None = None
    images: Small | None = None
    frames: Small | None = None
    prompt_tokens: Count | None = None
    new_tokens: Count | None = None
    think: Count | None = None
    context: Count | None = None
    batch: Annotated[int, Field(ge=1, le=4096)] = 1

    @classmethod
    def of(cls, workload: Workload) -> WorkloadSizes:
        """The sizes that ``workload``'s task uses, and the length of its prompt."""
        values = used_sizes(workload) | {"task": workload.task.value, "prompt_tokens": workload.prompt_tokens}
        return cls.model_validate(values)

    def workload(self) -> Workload:
        """The ``Workload`` these sizes describe; absent sizes take its defaults."""
        given = {name: value for name, value in self if value is not None and name != "task"}
        return Workload(task=Task(self.task), **given)


class CardInfo(Block):
    """The card that ran. ``memory`` is the total the driver reports, in bytes (``None`` only when an imported tool does
    not say it); ``pci_id`` is vendor:device in hex; ``compute_capability`` like ``"8.6"``; ``slug`` the catalog's.
    A GPU UUID or serial has no place here."""

    slug: Slug
    name: Name
    vendor: Slug
    memory: Bytes | None = None
    pci_id: PciId | None = None
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d{1,2}$")] | None = None
    driver: Version | None = None
    power_limit_watts: Watts | None = None
    pcie_generation_max: Annotated[int, Field(ge=1, le=8)] | None = None
    pcie_width_max: Annotated[int, Field(ge=1, le=32)] | None = None
    count: Annotated[int, Field(ge=1, le=64)] = 1
    mig: bool | None = None
    display: bool | None = None


class MachineInfo(Block):
    """The host. ``cpu`` is the model string; ``os_version`` a release like ``"ubuntu 24.04"`` or a kernel version."""

    cpu: Name | None = None
    physical_cores: Small | None = None
    logical_cores: Small | None = None
    ram: Bytes | None = None
    os: Literal["linux", "windows", "macos", "other", "unknown"]
    os_version: Version | None = None
    virtualised: Literal["yes", "no", "unknown"] = "unknown"


class Software(Block):
    """Versions of what took part; absent when not installed or not known."""

    fitcheck: Version | None = None
    python: Version | None = None
    torch: Version | None = None
    cuda: Version | None = None
    rocm: Version | None = None
    diffusers: Version | None = None
    transformers: Version | None = None
    accelerate: Version | None = None
    gguf: Version | None = None
    triton: Version | None = None
    flash_attn: Version | None = None
    llama_cpp: Version | None = None
    comfyui: Version | None = None


class Cap(Block):
    """A limit put on a larger card so that it behaves like a smaller one: never a real small card's record.

    ``enforced_by``: ``allocator-fraction`` (torch's per-process memory fraction), ``ballast`` (another process holds
    the rest), ``mig`` (a hardware slice), ``cgroup`` (host memory).
    """

    bytes: Bytes
    enforced_by: Literal["allocator-fraction", "ballast", "mig", "cgroup", "other"]


class Protocol(Block):
    """How it was measured. ``steps_run`` is set when a probe ran fewer steps than the workload asks for: its memory
    counts for the cell, its total time does not. ``host_cap`` limits system memory."""

    name: Slug
    version: Small
    warmup: Small
    repeats: Small
    fresh_process: bool | None = None
    cap: Cap | None = None
    host_cap: Cap | None = None
    metering_hz: Positive | None = None
    steps_run: Count | None = None


class Sample(Block):
    """One run. ``phases`` is seconds by phase name; ``steps`` seconds of each denoising step or token, in order."""

    total: Seconds
    warmup: bool = False
    phases: Annotated[dict[Slug, Seconds], Field(max_length=MAX_PHASES)] | None = None
    steps: Annotated[tuple[Seconds, ...], Field(max_length=MAX_STEPS)] | None = None


class PhaseMemory(Block):
    """Peaks inside one phase, in bytes: torch's allocator, the process on the card (NVML), the whole card (NVML)."""

    name: Slug
    allocated: Bytes | None = None
    reserved: Bytes | None = None
    process: Bytes | None = None
    device: Bytes | None = None


class Memory(Block):
    """Peaks over the whole measurement, in bytes.

    On the card: ``allocated`` <= ``reserved`` (torch), ``process`` (NVML, this process), ``device`` (NVML, everything
    on the card), ``device_before`` (the card before the process started), ``context`` (CUDA context and libraries).
    On the host: ``rss`` of the process, ``pinned_requested`` and ``pinned_rounded`` (what was asked for and what the
    pinning allocator really took), ``available_drop`` (largest fall of available RAM), ``swap`` used.
    """

    allocated: Bytes | None = None
    reserved: Bytes | None = None
    process: Bytes | None = None
    device: Bytes | None = None
    device_before: Bytes | None = None
    context: Bytes | None = None
    rss: Bytes | None = None
    pinned_requested: Bytes | None = None
    pinned_rounded: Bytes | None = None
    available_drop: Bytes | None = None
    swap: Bytes | None = None
    phases: Annotated[tuple[PhaseMemory, ...], Field(max_length=MAX_PHASES)] | None = None


class Transfer(Block):
    """Weight streaming of one run: bytes copied to the card, the rate while copying, the time that compute waited for
    copies, the streamed layers that stayed on the card, and the link as seen under load."""

    bytes_streamed: Bytes | None = None
    copies: Count | None = None
    resident_layers: Small | None = None
    bytes_per_second: BytesPerSecond | None = None
    wait_seconds: Seconds | None = None
    pcie_generation: Annotated[int, Field(ge=1, le=8)] | None = None
    pcie_width: Annotated[int, Field(ge=1, le=32)] | None = None


class Power(Block):
    """Energy of ``seconds`` of measured runs, clocks in MHz, degrees Celsius."""

    joules: Annotated[float, Field(ge=0, le=1e10)] | None = None
    seconds: Seconds | None = None
    watts_mean: Watts | None = None
    watts_max: Watts | None = None
    sm_clock_mean: Positive | None = None
    sm_clock_max: Positive | None = None
    memory_clock_max: Positive | None = None
    temperature_max: Annotated[float, Field(ge=-50, le=200)] | None = None
    throttle_reasons: Annotated[tuple[Slug, ...], Field(max_length=16)] | None = None


class Outcome(Block):
    """How it ended. After an out-of-memory: the ``phase``, what was ``allocated`` and what was ``requested``."""

    result: OutcomeKind
    message: Text | None = None
    phase: Slug | None = None
    allocated: Bytes | None = None
    requested: Bytes | None = None


class Limit(Block):
    """Result of a search for the smallest cap, in bytes: ``works`` is the smallest that ran, ``fails`` the largest
    that did not; absent when the search never saw one."""

    works: Bytes | None = None
    fails: Bytes | None = None
    attempts: Small


class Source(Block):
    """What produced the record: ``fitcheck-bench`` or the imported tool; ``missing`` names fields it did not state."""

    tool: Slug
    version: Version | None = None
    missing: Annotated[tuple[Slug, ...], Field(max_length=MAX_ITEMS)] | None = None


class RecordBase(Block):
    """What every record has. ``id`` is sha256 over the canonical JSON without ``id``; ``created`` UTC seconds."""

    schema_version: Literal[1] = 1
    id: Sha256 | None = None
    created: UtcSeconds
    source: Source
    machine: MachineInfo
    software: Software
    submitter: Handle | None = None
    tags: Annotated[tuple[Slug, ...], Field(max_length=16)] | None = None
    notes: Text | None = None


class Output(Block):
    """What came out, so that two runs can be told equal: sha256 of the output tensor's bytes or of the token ids."""

    digest: Sha256
    finite: bool
