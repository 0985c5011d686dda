"""Any program, measured from outside while it runs: its process tree's memory, the card's, power, time, exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.assemble import SOURCE, as_int, available_drop, card_info, power_of
from bench.machine_info import machine_info
from bench.meters import HostProbe, NvmlCard, NvmlMemoryProbe, NvmlStateProbe, Sampler
from bench.process import descendants, describe_exit, end_tree, new_group
from bench.runner import MEMORY_HZ, PROTOCOL_VERSION, STATE_HZ
from fitcheck import __version__
from fitcheck.errors import InputError
from fitcheck.records import schema
from fitcheck.records.fields import slugify

PROTOCOL_NAME = "fitcheck-exec"
# the terminal sends Ctrl-C to the program as well: it may save its work, ask back, or take it for something else
GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ExternalRun:
    """``code`` is the program's exit code, negative for a signal; ``interrupted`` says that Ctrl-C ended it."""

    record: schema.ExternalRecord
    code: int
    interrupted: bool = False


def resolve(command: Sequence[str]) -> list[str]:
    """The command with its program looked up on PATH; no shell is involved. Raises InputError when there is none."""
    if not command:
        raise InputError("bench exec needs a command after --, like: fitcheck bench exec -- python inference.py.")
    found = shutil.which(command[0])
    if found is None:
        raise InputError(f"bench exec: {command[0]!r} is not a program on PATH; give the path of an executable file.")
    return [found, *command[1:]]


def run_external(
    command: Sequence[str], name: str | None = None, card: NvmlCard | None = None, notes: str | None = None
) -> ExternalRun:
    """Runs ``command`` with this terminal's input and output and measures it until it ends.

    The record names the program's file, never its arguments: they may hold paths, prompts or tokens. Raises InputError
    when the program cannot be started.
    """
    argv = resolve(command)
    before = card.memory() if card else None
    created, started = int(time.time()), time.monotonic()
    try:
        process = subprocess.Popen(argv, **({} if os.name == "posix" else new_group()))
    except OSError as error:
        raise InputError(f"bench exec: {argv[0]} cannot be started ({error.strerror or error}).") from error
    interrupted = False
    host = HostProbe(process.pid, period=1 / MEMORY_HZ)
    probes: list[object] = [host]
    if card is not None:
        probes += [NvmlMemoryProbe(card, lambda: host.pids, 1 / MEMORY_HZ), NvmlStateProbe(card, 1 / STATE_HZ)]
    try:
        with Sampler(probes) as sampler:  # type: ignore[arg-type]
            try:
                code = process.wait()
            except KeyboardInterrupt:
                interrupted = True
                _let_end(process)
                code = process.returncode
    finally:
        if process.poll() is None:
            end_tree(process)
    seconds = time.monotonic() - started
    trace = sampler.trace
    failed = code != 0 or interrupted
    record = schema.ExternalRecord(
        created=created,
        source=SOURCE,
        machine=machine_info(),
        software=schema.Software(fitcheck=__version__),
        runtime=schema.Runtime(name=slugify(name or Path(argv[0]).stem)),
        card=card_info(card, {}) if card else None,
        protocol=schema.Protocol(
            name=PROTOCOL_NAME, version=PROTOCOL_VERSION, warmup=0, repeats=1, fresh_process=True, metering_hz=MEMORY_HZ
        ),
        samples=(schema.Sample(total=seconds),),
        memory=schema.Memory(
            process=as_int(trace.peak("card_process")),
            device=as_int(trace.peak("card_used")),
            device_before=before[1] if before else None,
            rss=as_int(trace.peak("host_rss")),
            available_drop=available_drop(trace),
        ),
        outcome=schema.Outcome(
            result="killed" if interrupted or code < 0 else "error" if failed else "ok",
            message=("interrupted" if interrupted else describe_exit(code)) if failed else None,
        ),
        power=power_of(trace, started, started + seconds),
        notes=notes,
    )
    return ExternalRun(record, code, interrupted)


def _let_end(process: subprocess.Popen[bytes]) -> None:
    """Leaves the program time to end by itself; then, or at a second Ctrl-C, ends it and what it started."""
    started = descendants(process.pid)
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(GRACE_SECONDS)
    end_tree(process)
    for left in started:
        with suppress(psutil.Error):
            left.kill()
