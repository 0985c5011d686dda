"""A fresh process for one job: started, listened to, watched for hangs, ended together with all it started."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, TracebackType
from typing import IO, Any

import psutil

from bench.channel import MAX_LINE, Event, parse_event

_OUTPUT_LINES = 200
_OUTPUT_WIDTH = 2000
# memory that grows by this much, on the host or the card, is a sign of life: a file of tens of gigabytes loads for
# minutes in one phase
_GROWTH = 16 << 20
_ROOT = Path(__file__).resolve().parent.parent
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Hang(Exception):
    """The child made no progress for longer than allowed."""


class Child:
    """Context manager around one child process; leaving the block ends the child however it was left, and its temporary
    files go, those of a killed one too."""

    def __init__(self, job: dict[str, Any], hang_seconds: float, argv: list[str] | None = None) -> None:
        self._job = job
        self._hang_seconds = hang_seconds
        self._argv = argv or [sys.executable, "-m", "bench.child"]
        self._events: queue.Queue[Event | None] = queue.Queue()
        self.output: deque[str] = deque(maxlen=_OUTPUT_LINES)
        self.last_alive: Event = {}
        self.started = 0.0

    def __enter__(self) -> Child:
        self.started = time.monotonic()
        self._files = TemporaryDirectory(prefix="fitcheck-bench-", ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment() | {"TMPDIR": self._files.name},
            # its own group: Ctrl-C on the terminal reaches the parent alone, which then ends the child in order
            **new_group(),
        )
        try:
            stdin = _pipe(self.process.stdin)
            stdin.write(json.dumps(self._job).encode() + b"\n")
            stdin.flush()
        except OSError:
            pass  # it died at once; its exit code and its output say why
        self._readers = [
            threading.Thread(target=self._read_events, args=(_pipe(self.process.stdout),), daemon=True),
            threading.Thread(target=self._read_output, args=(_pipe(self.process.stderr),), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        end_tree(self.process)
        for reader in self._readers:
            reader.join(timeout=5)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(OSError):
                _pipe(pipe).close()
        self._files.cleanup()

    @property
    def pid(self) -> int:
        """The process id, as meters and the process tree know it."""
        return self.process.pid

    def events(self, deadline: float | None = None) -> Iterator[Event]:
        """Events until the child closes its pipe. Raises Hang without progress, TimeoutError past ``deadline``."""
        progress = time.monotonic()
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise TimeoutError("the time that was given is used up")
            if now - progress > self._hang_seconds:
                raise Hang(f"no progress for {self._hang_seconds:.0f} s")
            try:
                event = self._events.get(timeout=0.25)
            except queue.Empty:
                continue
            if event is None:
                self.process.wait()
                return
            if event["event"] == "alive":
                if self._grew(event):
                    progress = time.monotonic()
                self.last_alive = event
            else:
                progress = time.monotonic()
            yield event

    def _grew(self, event: Event) -> bool:
        return any(
            abs(int(event.get(name, 0)) - int(self.last_alive.get(name, 0))) > _GROWTH for name in ("rss", "allocated")
        )

    def _read_events(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError):
            while line := pipe.readline(MAX_LINE):
                event = parse_event(line)
                if event is None:
                    self.output.append(line.decode("utf-8", "replace").rstrip()[:_OUTPUT_WIDTH])
                else:
                    self._events.put(event)
        self._events.put(None)

    def _read_output(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError):
            while line := pipe.readline(1 << 16):
                self.output.append(line.decode("utf-8", "replace").rstrip()[:_OUTPUT_WIDTH])


def new_group() -> dict[str, Any]:
    """Popen arguments that put a child into its own process group."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what this process has started has not got it, unlike the terminal's Ctrl-C."""


@contextmanager
def ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does; only a process's first thread can be told so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise Ended

    ending = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # what a caller has set to be ignored, as nohup does, stays ignored
    before = {one: signal.signal(one, end) for one in ending if signal.getsignal(one) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def ends_with_parent() -> dict[str, Any]:
    """Popen arguments that have a program of someone else end with this process, where the system can do that."""
    return {"preexec_fn": _die_with_parent} if os.name == "posix" else new_group()


def _die_with_parent() -> None:
    """Linux sends the program SIGTERM when this process is killed (prctl(2), PR_SET_PDEATHSIG); others have no such
    thing. Runs between fork and exec."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def end_tree(process: subprocess.Popen[bytes], grace: float = 2.0) -> None:
    """Ends a child and its children: asks first, then kills. Returns once the child is gone."""
    children = descendants(process.pid)
    try:
        if process.poll() is None:
            with suppress(OSError):
                process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
    finally:  # a second Ctrl-C cuts the grace short, never the end
        with suppress(OSError):
            process.kill()
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        process.wait()


def descendants(pid: int) -> list[psutil.Process]:
    """What a process has started that still runs. psutil never takes a later process of the same number for one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def environment() -> dict[str, str]:
    """The child's environment: cards numbered as NVML numbers them, this checkout importable, output unbuffered."""
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(_ROOT) if not path else f"{path}{os.pathsep}{_ROOT}",
    }


def describe_exit(code: int | None) -> str:
    """An exit code in words: ``killed by SIGKILL``, ``exit code 3``."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the child was started without its pipes")
    return pipe
