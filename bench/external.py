"""Any program, measured from outside while it runs: its process tree's memory, the card's, power, time, exit code."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from bench.assemble import SOURCE, as_int, available_drop, card_info, power_of
from bench.machine_info import machine_info
from bench.meters import HostProbe, NvmlCard, NvmlMemoryProbe, NvmlStateProbe, Sampler
from bench.meters.sampler import MeterTrace
from bench.process import descendants, describe_exit, end_tree, new_group
from bench.runner import MEMORY_HZ, PROTOCOL_VERSION, STATE_HZ
from bench.unfinished import Draft
from fitcheck import __version__
from fitcheck.errors import MeasurementError, OptionError
from fitcheck.records import schema
from fitcheck.records.fields import slugify

PROTOCOL_NAME = "fitcheck-exec"
# the terminal sends Ctrl-C to the program as well: it may save its work, ask back, or take it for something else
GRACE_SECONDS = 10.0
# records begin in July 2017; a clock before that was never set
_FIRST_DAY = 1_500_000_000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class ExternalRun:
    """``code`` is the program's exit code, negative for a signal; ``interrupted`` says that Ctrl-C ended it. ``draft``
    is what was kept of it on disk while it ran."""

    record: schema.ExternalRecord
    code: int
    interrupted: bool = False
    draft: Draft = field(default_factory=lambda: Draft(None), compare=False)


def resolve(command: Sequence[str]) -> list[str]:
    """The command with its program looked up on PATH; no shell is involved. Raises InputError when there is none."""
    if not command:
        raise OptionError("bench exec needs a command after --, like: fitcheck bench exec -- python inference.py.")
    found = shutil.which(command[0])
    if found is None:
        raise OptionError(f"bench exec: {command[0]!r} is not a program on PATH; give the path of an executable file.")
    return [found, *command[1:]]


def run_external(
    command: Sequence[str],
    name: str | None = None,
    card: NvmlCard | None = None,
    notes: str | None = None,
    root: Path | None = None,
) -> ExternalRun:
    """Runs ``command`` with this terminal's input and output and measures it until it ends.

    The record names the program's file, never its arguments: they may hold paths, prompts or tokens. What is measured
    is kept below ``root`` while it runs (``unfinished.recover``); ``ExternalRun.draft`` goes once the record is
    written. SIGTERM and SIGHUP end the program and are recorded, as Ctrl-C is. Raises InputError when the program
    cannot be started.
    """
    argv = resolve(command)
    run = _Run(slugify(name or Path(argv[0]).stem), card, notes)
    draft = Draft(root)
    with _ending_signals():
        try:
            process = subprocess.Popen(
                argv, **({"preexec_fn": _die_with_parent} if os.name == "posix" else new_group())
            )
        except OSError as error:
            raise MeasurementError(f"bench exec: {argv[0]} cannot be started ({error.strerror or error}).") from error
        except subprocess.SubprocessError as error:
            raise MeasurementError(f"bench exec: {argv[0]} cannot be started (no process could be set up).") from error
        interrupted = False
        host = HostProbe(process.pid, period=1 / MEMORY_HZ)
        probes: list[object] = [host]
        if card is not None:
            probes += [NvmlMemoryProbe(card, lambda: host.pids, 1 / MEMORY_HZ), NvmlStateProbe(card, 1 / STATE_HZ)]
        try:
            with Sampler(probes) as sampler:  # type: ignore[arg-type]
                try:
                    while (code := _ended(process)) is None:
                        if draft.due():
                            draft.keep(run.record(sampler.trace, _CUT_SHORT))
                except KeyboardInterrupt as stop:
                    interrupted = True
                    _let_end(process, ask=isinstance(stop, _Ended))
                    code = process.returncode
        finally:
            if process.poll() is None:
                end_tree(process)
        failed = code != 0 or interrupted
        outcome = schema.Outcome(
            result="killed" if interrupted or code < 0 else "error" if failed else "ok",
            message=("interrupted" if interrupted else describe_exit(code)) if failed else None,
        )
        record = run.record(sampler.trace, outcome)
        draft.keep(record)
        return ExternalRun(record, code, interrupted, draft)


_CUT_SHORT = schema.Outcome(result="killed", message="fitcheck was ended before the program was")


class _Run:
    """One run from its start: the record that it makes at any moment."""

    def __init__(self, name: str, card: NvmlCard | None, notes: str | None) -> None:
        self._name, self._card, self._notes = name, card, notes
        self._before = card.memory() if card else None
        self._info = card_info(card, {}) if card else None
        self._machine = machine_info()
        self._created, self._started = int(time.time()), time.monotonic()
        if self._created < _FIRST_DAY:
            self._notes = f"the machine's clock was not set: it said {self._created} s since 1970"
            self._created = _FIRST_DAY

    def record(self, trace: MeterTrace, outcome: schema.Outcome) -> schema.ExternalRecord:
        now = time.monotonic()
        return schema.ExternalRecord(
            created=self._created,
            source=SOURCE,
            machine=self._machine,
            software=schema.Software(fitcheck=__version__),
            runtime=schema.RuntimeUsed(name=self._name),
            card=self._info,
            protocol=schema.Protocol(
                name=PROTOCOL_NAME,
                version=PROTOCOL_VERSION,
                warmup=0,
                repeats=1,
                fresh_process=True,
                metering_hz=MEMORY_HZ,
            ),
            samples=(schema.Sample(total=now - self._started),),
            memory=schema.Memory(
                process=as_int(trace.peak("card_process")),
                device=as_int(trace.peak("card_used")),
                device_before=self._before[1] if self._before else None,
                rss=as_int(trace.peak("host_rss")),
                available_drop=available_drop(trace),
            ),
            outcome=outcome,
            power=power_of(trace, self._started, now),
            notes=self._notes,
        )


class _Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP: the program has not got it, unlike the terminal's Ctrl-C."""


@contextmanager
def _ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does; only a process's first thread can be told so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise _Ended

    ending = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # what a caller has set to be ignored, as nohup does, stays ignored
    before = {one: signal.signal(one, end) for one in ending if signal.getsignal(one) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _die_with_parent() -> None:
    """Linux sends the program SIGTERM when this process is killed (prctl(2), PR_SET_PDEATHSIG); others have no such
    thing. Runs between fork and exec."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, None when the program still runs after a while."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(0.5)
    return None


def _let_end(process: subprocess.Popen[bytes], *, ask: bool) -> None:
    """Leaves the program time to end by itself, asking it to where it was not told; then, or at a second Ctrl-C, ends
    it and what it started."""
    started = descendants(process.pid)
    if ask:
        with suppress(OSError):
            process.terminate()
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(GRACE_SECONDS)
    end_tree(process)
    for left in started:
        with suppress(psutil.Error):
            left.kill()
