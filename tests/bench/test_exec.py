from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from bench_fakes import FakeNvml

from bench import external
from bench.external import ExternalRun, resolve, run_external
from bench.meters import NvmlCard
from bench.results_table import external_line
from fitcheck.errors import InputError
from fitcheck.records import store
from fitcheck.records.reading import parse
from fitcheck.units import GIB, MIB

GROW = "import time; block = bytearray(80 << 20); block[::4096] = b'1' * len(block[::4096]); time.sleep(0.7)"
NEST = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GROW!r}])"


def test_host_memory_time_and_exit_code_without_a_gpu() -> None:
    result = run_external([sys.executable, "-c", GROW])
    record = result.record
    assert result.code == 0
    assert record.outcome.result == "ok"
    assert record.memory.rss is not None
    assert record.memory.rss > 80 * MIB
    assert 0.7 <= record.samples[0].total < 10
    assert record.card is None
    assert record.memory.process is None
    assert record.power is None
    assert parse(store.encode(record), "exec").record == store.seal(record)
    assert "ok" in external_line(record)


def test_children_of_the_program_count() -> None:
    record = run_external([sys.executable, "-c", NEST]).record
    assert record.memory.rss is not None
    assert record.memory.rss > 85 * MIB


def test_the_card_is_read_when_there_is_one() -> None:
    card = NvmlCard(FakeNvml(others=((1, 3 * GIB),)), "card")
    record = run_external([sys.executable, "-c", "import time; time.sleep(1.3)"], card=card).record
    assert record.card is not None
    assert record.memory.device == 3 * GIB
    assert record.memory.device_before == 3 * GIB
    assert record.memory.process is None
    assert record.power is not None
    assert record.power.watts_max == 123
    assert record.power.joules == pytest.approx(123 * record.samples[0].total, rel=0.4)


def test_a_failing_program_keeps_its_exit_code() -> None:
    result = run_external([sys.executable, "-c", "raise SystemExit(5)"])
    assert result.code == 5
    assert result.record.outcome.result == "error"
    assert result.record.outcome.message == "exit code 5"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_program_says_by_what() -> None:
    result = run_external([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    assert result.code == -9
    assert result.record.outcome.result == "killed"
    assert result.record.outcome.message == "killed by SIGKILL"


def interrupted_by(press: Callable[[], None], program: str) -> ExternalRun:
    """What came of a Python program during which ``press`` sends this process a SIGINT."""
    # a process started in the background, as CI starts one, inherits an ignored SIGINT
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=press, daemon=True).start()
        return run_external([sys.executable, "-c", program])
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_the_program_and_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pid"
    deaf = "import os, signal, subprocess, sys, time; signal.signal(2, 1); "
    stubborn = f"{deaf}open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"{deaf}subprocess.run([sys.executable, '-c', {stubborn!r}])"

    def press() -> None:
        while not (note.exists() and note.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(external, "GRACE_SECONDS", 0.3)
    result = interrupted_by(press, parent)
    assert result.interrupted
    assert result.record.outcome.message == "interrupted"
    deadline = time.monotonic() + 5
    while psutil.pid_exists(int(note.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(note.read_text()))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_leaves_the_program_time_to_end_in_its_own_way(tmp_path: Path) -> None:
    note, saved = tmp_path / "pid", tmp_path / "saved"
    program = (
        "import os, signal, sys, time\n"
        "def save(*_):\n"
        f"    time.sleep(0.5); open({str(saved)!r}, 'w').write('x'); sys.exit(7)\n"
        "signal.signal(signal.SIGINT, save)\n"
        f"open({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )

    def press() -> None:
        while not (note.exists() and note.read_text()):
            time.sleep(0.02)
        time.sleep(1)  # until the program is not only started but waited for, on a busy machine too
        os.kill(int(note.read_text()), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    result = interrupted_by(press, program)
    assert result.interrupted
    assert result.code == 7
    assert saved.exists()


def test_arguments_never_enter_the_record() -> None:
    record = run_external([sys.executable, "-c", "pass", "--token", "hf_secret"], name="My Program").record
    assert b"hf_secret" not in store.encode(record)
    assert record.runtime.name == "my-program"


@pytest.mark.parametrize(
    ("command", "words"), [([], "after --"), (["no-such-program-here"], "is not a program on PATH")]
)
def test_bad_commands_are_one_sentence(command: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve(command)


def test_no_shell_is_involved(tmp_path: Path) -> None:
    run_external([sys.executable, "-c", "pass", f"; touch {tmp_path / 'made'}", "$(id)"])
    assert not (tmp_path / "made").exists()
