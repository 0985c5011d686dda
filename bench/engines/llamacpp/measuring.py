"""A real llama.cpp measured: its buffers as it prints them, tokens per second, and memory seen from outside.

``llama-bench`` on PATH is driven where there is one, else the package llama-cpp-python (bench/llamacpp_child.py prints
the same rows). One fresh process a run; its arguments are a list, its output is bounded, and it ends with this one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from bench.assemble import SOURCE, as_int, available_drop, card_info, file_sha256, power_of
from bench.engines.base import PrintedNumber
from bench.engines.llamacpp.log import PrintedBuffer, PrintedContext, compare, parse_log
from bench.machine_info import machine_info
from bench.meters import HostProbe, NvmlCard, NvmlMemoryProbe, NvmlStateProbe, NvmlXidProbe, Sampler
from bench.process import describe_exit, end_tree, ending_signals, ends_with_parent
from bench.runner import MEMORY_HZ, STATE_HZ, card_fault
from bench.unfinished import kept_raw
from bench.wall_clock import WallClock
from fitcheck import __version__
from fitcheck.errors import InputError, MeasurementError, OptionError
from fitcheck.models.gguf import GgufHeader, read_gguf
from fitcheck.models.tier_names import tier_in
from fitcheck.records import schema, store
from fitcheck.records.fields import MAX_BYTES, MAX_COUNT, MAX_ITEMS, clean_text
from fitcheck.records.importers.common import Given, model_slug
from fitcheck.runtimes.llamacpp import llama_bench
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.units import MIB

MAX_OUTPUT = 32 * MIB
# ggml's words where a backend gives no memory, with the backend's buffer that it was for
_FULL = re.compile(r"out of memory|failed to allocate (?P<place>\w{1,16}) buffer")


@dataclass(frozen=True)
class LlamaRun:
    """What a run gave: a record a configuration, every context's buffers, and the estimate beside the largest one;
    ``remark`` says why there is none."""

    records: tuple[schema.LlmRecord, ...]
    contexts: tuple[PrintedContext, ...]
    comparisons: tuple[PrintedNumber, ...] = field(default=())
    remark: str | None = None


def find_program(program: str | None = None) -> list[str]:
    """The command that measures: the llama-bench given or on PATH, else this Python with llama-cpp-python.

    Raises InputError when there is neither.
    """
    found = shutil.which(program or "llama-bench")
    if found:
        return [found]
    if program:
        raise OptionError(f"--llama-bench: {program!r} is not an executable file; give the path of llama-bench.")
    if find_spec("llama_cpp") is not None:
        return [sys.executable, "-m", "bench.engines.llamacpp.python_package"]
    raise MeasurementError(
        "no llama.cpp was found: put llama-bench on PATH (from llama.cpp's releases) or install llama-cpp-python."
    )


def arguments(file: Path, options: LlamaOptions, prompt: Sequence[int], new: Sequence[int], repeats: int) -> list[str]:
    """llama-bench's arguments for ``options``; what it chooses itself stays unsaid."""
    given = ["-m", str(file), "-o", "json", "-v", "-r", str(repeats)]
    given += ["-p", ",".join(map(str, prompt)), "-n", ",".join(map(str, new))]
    given += ["-b", str(options.batch), "-ub", str(options.micro_batch)]
    given += ["-ctk", options.cache_type_k, "-ctv", options.cache_type_v]
    if options.gpu_layers is not None:
        given += ["-ngl", str(options.gpu_layers)]
    if options.cpu_moe_layers:
        given += ["-ncmoe", str(options.cpu_moe_layers)]
    if options.flash_attention is not None:
        given += ["-fa", "1" if options.flash_attention else "0"]
    if options.cache_on_host:
        given += ["-nkvo", "1"]
    return given


def run_llamacpp(
    file: str | Path,
    options: LlamaOptions | None = None,
    *,
    prompt: Sequence[int] = (512,),
    new: Sequence[int] = (128,),
    repeats: int = 3,
    program: str | None = None,
    card: NvmlCard | None = None,
    timeout: float = 3600.0,
    hash_file: bool = True,
    root: Path | None = None,
) -> LlamaRun:
    """Measure ``file`` with a real llama.cpp and compare its buffers with the estimate. What llama.cpp printed lies
    below ``root`` until a record has been made of it.

    Raises InputError when the file is no language model, no llama.cpp is there, or the run fails.
    """
    if not prompt or not new or min(*prompt, *new) < 0 or max(*prompt, *new) > 1 << 20 or not 1 <= repeats <= 100:
        raise OptionError("llama.cpp bench: give prompt and new token counts from 0 to 1048576 and 1 to 100 repeats.")
    path = Path(file)
    header = read_gguf(path)
    wanted = options or LlamaOptions()
    argv = [*find_program(program), *arguments(path, wanted, prompt, new, repeats)]
    measured = _measure(argv, card, timeout)
    slug, tier = model_slug(path.name), _tier(header, path)
    if measured.failed is not None:
        _keep_failure(measured, measured.failed, root, schema.ModelRef(slug=slug, tier=tier, weights="real"), wanted,
                      card, repeats)  # fmt: skip
    with kept_raw(measured.output, root, "llama-bench"):
        contexts = parse_log(measured.log)
        given = Given(file_time=int(time.time()), created=measured.clock.created, model=slug, tier=tier)
        imported = llama_bench.read(measured.output, Path(argv[0]).name, given)
        records = tuple(
            _completed(item.record, path, header, contexts, measured, card, hash_file)
            for item in imported
            if isinstance(item.record, schema.LlmRecord)
        )
    return LlamaRun(records, contexts, *_compared(header, wanted, contexts))


@dataclass(frozen=True)
class _Measured:
    output: bytes
    log: str
    clock: WallClock
    memory: schema.Memory
    power: schema.Power | None
    failed: schema.Outcome | None = None


def _measure(argv: list[str], card: NvmlCard | None, timeout: float) -> _Measured:
    before = card.memory() if card else None
    clock, started = WallClock(), time.monotonic()
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **ends_with_parent()
        )
    except OSError as problem:
        raise MeasurementError(f"llama.cpp: {argv[0]} cannot be started ({problem.strerror or problem}).") from problem
    host = HostProbe(process.pid, period=1 / MEMORY_HZ)
    probes: list[Any] = [host]
    if card is not None:
        probes += [NvmlMemoryProbe(card, lambda: host.pids, 1 / MEMORY_HZ), NvmlStateProbe(card, 1 / STATE_HZ)]
        probes.append(NvmlXidProbe(card))
    out, err = _Reader(process.stdout), _Reader(process.stderr)
    ended: tuple[Literal["hang", "killed"], str] | None = None
    try:
        with ending_signals(), Sampler(probes) as sampler:
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                ended = "hang", f"the run took longer than {timeout:.0f} s and was ended"
            except KeyboardInterrupt:
                ended = "killed", "interrupted"
    finally:
        if process.poll() is None:
            end_tree(process)
    output, log = out.text(), err.text().decode("utf-8", "replace")
    trace = sampler.trace
    failed = None
    if ended is not None:
        failed = schema.Outcome(result=ended[0], message=ended[1])
    elif process.returncode:
        failed = _failure(process.returncode, log, card_fault(card, trace) if card else None)
    memory = schema.Memory(
        process=as_int(trace.peak("card_process")),
        device=as_int(trace.peak("card_used")),
        device_before=before[1] if before else None,
        rss=as_int(trace.peak("host_rss")),
        available_drop=available_drop(trace),
    )
    return _Measured(output, log, clock, memory, power_of(trace, started, time.monotonic()), failed)


def _failure(code: int, log: str, fault: str | None) -> schema.Outcome:
    """How a run that failed ended. llama.cpp's own words stay out: they hold paths, and whatever else it was given."""
    message = f"the run failed ({describe_exit(code)})" + (f"; {fault}" if fault else "")
    full = _FULL.search(log)
    if full:
        return schema.Outcome(
            result="oom-host" if (full["place"] or "").startswith("CPU") else "oom-gpu",
            message=f"{message}: out of memory",
        )
    return schema.Outcome(result="killed" if code < 0 else "error", message=message)


def _told(log: str) -> str:
    """The last line of a log that speaks of an error, for whoever looks on."""
    lines = [line.strip() for line in log.splitlines() if "error" in line.lower() or "failed" in line.lower()]
    return f" ({lines[-1][:300]})" if lines else ""


def _compared(
    header: GgufHeader, asked: LlamaOptions, contexts: tuple[PrintedContext, ...]
) -> tuple[tuple[PrintedNumber, ...], str | None]:
    """The estimate beside what was printed; what it cannot be made for costs no measurement, and is said."""
    try:
        return compare(header, asked, contexts), None
    except InputError as error:
        return (), f"no estimate stands beside what was printed: {error}"


def _keep_failure(
    measured: _Measured, outcome: schema.Outcome, root: Path | None, model: schema.ModelRef, asked: LlamaOptions,
    card: NvmlCard | None, repeats: int,
) -> NoReturn:  # fmt: skip
    """A failure is an answer as well: keeps a record of it. Raises MeasurementError, KeyboardInterrupt for Ctrl-C."""
    record = schema.LlmRecord(
        created=measured.clock.created,
        source=SOURCE,
        machine=machine_info(),
        software=schema.Software(fitcheck=__version__),
        model=model,
        runtime=schema.RuntimeUsed(name="llama.cpp"),
        card=card_info(card, {}) if card else None,
        protocol=schema.Protocol(name="llama-bench", version=0, warmup=1, repeats=repeats, fresh_process=True),
        settings=schema.LlmSettings(
            gpu_layers=asked.gpu_layers,
            cpu_moe_layers=asked.cpu_moe_layers or None,
            batch=asked.batch,
            ubatch=asked.micro_batch,
            type_k=asked.cache_type_k,
            type_v=asked.cache_type_v,
        ),
        memory=measured.memory,
        power=measured.power,
        outcome=outcome,
        notes="\n".join(measured.clock.notes()) or None,
    )
    told = f"llama.cpp: {outcome.message}{_told(measured.log)}"
    where = "" if root is None else f"; the record of it is {store.write(root, record)}"
    if outcome.message == "interrupted":
        raise KeyboardInterrupt
    raise MeasurementError(f"{told}{where}.")


class _Reader:
    """Reads one pipe to its end in a thread, keeping the last ``MAX_OUTPUT`` bytes at most."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._kept = bytearray()
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._pipe is not None
        while piece := self._pipe.read1(1 << 16):  # type: ignore[attr-defined]
            self._kept += piece
            if len(self._kept) > MAX_OUTPUT:
                del self._kept[: len(self._kept) - MAX_OUTPUT]

    def text(self) -> bytes:
        self._thread.join(10)
        return bytes(self._kept)


def _completed(
    record: schema.LlmRecord,
    path: Path,
    header: GgufHeader,
    contexts: Sequence[PrintedContext],
    measured: _Measured,
    card: NvmlCard | None,
    hash_file: bool,
) -> schema.LlmRecord:
    """The imported record with what only this machine knows: buffers, memory, the file's digests, the card."""
    largest = max(contexts, key=lambda context: context.tokens, default=None)
    buffers = _buffers(largest.buffers if largest else ())
    model = record.model.model_copy(
        update={
            "sha256": file_sha256(str(path)) if hash_file else None,
            "tensor_digest": header.tensors.digest,
            "quant_bytes": header.tensors.bytes_by_type,
        }
    )
    tokens = largest.tokens if largest and largest.tokens <= MAX_COUNT else None
    settings = record.settings.model_copy(update={"context": tokens})
    source = schema.Source.model_validate({**SOURCE.model_dump(), "missing": None})
    return schema.LlmRecord.model_validate(
        record.model_copy(
            update={
                "source": source,
                "machine": machine_info(),
                "software": record.software.model_copy(update={"fitcheck": __version__}),
                "model": model,
                "settings": settings,
                "buffers": buffers or None,
                "memory": measured.memory,
                "power": measured.power,
                "notes": "\n".join(filter(None, [record.notes, *measured.clock.notes()])) or None,
                "card": card_info(card, {}) if card and record.card else record.card,
            }
        ).model_dump()
    )


def _buffers(printed: Sequence[PrintedBuffer]) -> tuple[schema.Buffer, ...]:
    """Printed buffers as a record holds them. Whatever a build prints, the run's other figures are kept: sizes that no
    machine has are left out, device names are spelled as a record spells them, and where there are more lines than a
    record has places, those of one kind are summed over the devices."""
    sizes: dict[tuple[str, str], int] = {}
    summed = len({(one.kind, _device_label(one.device)) for one in printed}) > MAX_ITEMS
    for one in printed:
        size = round(one.size * MIB)
        place = (one.kind, "all" if summed else _device_label(one.device))
        if sizes.get(place, 0) + size <= MAX_BYTES:
            sizes[place] = sizes.get(place, 0) + size
    return tuple(
        schema.Buffer(kind=kind, device=device, bytes=size)  # type: ignore[arg-type]
        for (kind, device), size in sizes.items()
    )


def _device_label(name: str) -> str:
    """A device as llama.cpp prints it (``CUDA0``, ``CUDA_Host``), without what is no name."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "", clean_text(name)).lstrip("_.+-")[:64] or "unknown"


def _tier(header: GgufHeader, path: Path) -> str:
    return tier_in(path.name) or next(iter(header.tensors.bytes_by_type), "unknown")
