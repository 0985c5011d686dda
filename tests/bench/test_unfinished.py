"""A measurement once made is never lost: whatever ends the run, a record of it is there, and nothing runs on."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from bench.engines.llamacpp.log import PrintedBuffer, parse_log
from bench.engines.llamacpp.measuring import _buffers
from bench.external import run_external
from bench.unfinished import FOLDER, Draft, kept_raw, recover
from fitcheck.errors import InputError
from fitcheck.records.fields import MAX_ITEMS, Slug, slugify
from fitcheck.records.schema import ExternalRecord
from fitcheck.records.validate import publishable

# a shell that starts a job in the background has it ignore interrupts, which a program's children inherit
COMMAND = (
    "from signal import SIG_DFL, SIGHUP, SIGINT, default_int_handler, signal;"
    "signal(SIGINT, default_int_handler); signal(SIGHUP, SIG_DFL);"
    "import sys; from pathlib import Path; from bench.external import run_external; from fitcheck.records import store;"
    "root = Path(sys.argv[1]); done = run_external([sys.executable, '-c', sys.argv[2]], root=root);"
    "store.write(root, store.seal(done.record)); done.draft.drop()"
)


def started(root: Path, note: Path) -> subprocess.Popen[bytes]:
    program = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    bench = subprocess.Popen([sys.executable, "-c", COMMAND, str(root), program], start_new_session=True)
    wait_for(lambda: note.exists() and note.read_text() != "")
    wait_for(lambda: bool(list((root / FOLDER).glob("*.json"))))
    return bench


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="signals, and PR_SET_PDEATHSIG")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_bench_its_record_is_kept_and_the_program_ends(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "pid"
    bench = started(tmp_path / "own", note)
    bench.send_signal(number)
    if number == signal.SIGINT:  # the terminal sends it to both
        os.kill(int(note.read_text()), number)
    bench.wait(20)
    wait_for(lambda: not psutil.pid_exists(int(note.read_text())))
    recovered = recover(tmp_path / "own")
    assert len(recovered) == (number == signal.SIGKILL)
    (record,) = publishable(tmp_path / "own")
    assert isinstance(record, ExternalRecord)
    assert record.outcome.result == "killed"
    assert record.memory is not None
    assert record.memory.rss is not None
    assert record.memory.rss > 1 << 20
    assert not (tmp_path / "own" / FOLDER).exists()


def test_a_running_benchs_draft_is_left_to_it(tmp_path: Path) -> None:
    record = run_external([sys.executable, "-c", "pass"]).record
    draft = Draft(tmp_path)
    draft.keep(record)
    assert recover(tmp_path) == []
    draft.drop()
    assert list(tmp_path.iterdir()) == []
    gone = tmp_path / FOLDER / "999999999-1-ab.json"
    gone.parent.mkdir()
    gone.write_text("{")
    assert recover(tmp_path) == []
    assert gone.exists(), "what is no record is left for whoever looks"


def test_a_clock_that_was_never_set_loses_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 12.0)
    record = run_external([sys.executable, "-c", "pass"]).record
    assert record.notes is not None
    assert "clock was not set" in record.notes


@given(st.text(max_size=80) | st.sampled_from(["con", "NUL", "aux", "com1", "lpt9", " prn ", "-", "..", "", "ＣＯＮ"]))
def test_any_name_makes_a_slug(text: str) -> None:
    slug = slugify(text)
    assert TypeAdapter(Slug).validate_python(slug) == slug


@given(
    st.lists(
        st.builds(
            PrintedBuffer,
            device=st.text(min_size=1, max_size=90),
            kind=st.sampled_from(["model", "kv", "recurrent", "compute", "output"]),
            size=st.floats(0, 1e12, allow_nan=False),
        ),
        max_size=150,
    )
)
def test_any_printed_buffers_fit_a_record(printed: list[PrintedBuffer]) -> None:
    kept = _buffers(printed)
    assert len(kept) <= MAX_ITEMS
    small = [one for one in printed if one.size < 1e6]
    if len(small) == len(printed):
        assert sum(one.bytes for one in kept) == sum(round(one.size * (1 << 20)) for one in printed)


@given(st.text(max_size=200) | st.from_regex(r"x: \S{1,9} (model|KV|compute) buffer size = +[0-9.]{1,30} MiB\n"))
def test_any_log_is_read(text: str) -> None:
    found = parse_log(f"llama_context: n_ctx = 512\n{text}\nllama_context: n_ctx = {'9' * 40}\n")
    assert [one.tokens for one in found] in ([], [512]), "a length of forty digits is none"
    assert all(0 < buffer.size < math.inf for one in found for buffer in one.buffers)


def test_raw_output_stays_where_no_record_can_be_made_of_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is kept in"), kept_raw(b"[1]", tmp_path, "llama-bench"):
        raise ValueError("odd")
    (kept,) = (tmp_path / FOLDER).iterdir()
    assert kept.read_bytes() == b"[1]"
    kept.unlink()
    with kept_raw(b"[1]", tmp_path, "llama-bench"):
        pass
    assert not (tmp_path / FOLDER).exists()
