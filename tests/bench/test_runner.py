"""The protocol against a real child process whose engine, torch and NVML are stand-ins."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench_fakes import CONTEXT, LIBRARIES, FakeNvml

from bench.assemble import record_of
from bench.child import classify
from bench.job import Job, Request
from bench.jobs import jobs_of, label
from bench.meters import NvmlCard
from bench.process import Child, Hang, end_tree
from bench.runner import CellRun, MeasuringProtocol, Stopped, median, run_cell
from fitcheck.errors import InputError
from fitcheck.records import store
from fitcheck.records.reading import parse
from fitcheck.units import GIB, MIB

ARGV = [sys.executable, str(Path(__file__).with_name("fake_child.py"))]
QUICK = MeasuringProtocol(repeats=1, warmup=0)
STEPS = 2


def cell(mode: str = "full", **options: object) -> Job:
    given: dict[str, Any] = {"tiers": ("Q4_K_S",), "mode": mode, "steps": STEPS} | options
    return jobs_of(Request.of(given.pop("model", "sensenova-u1-8b-mot"), **given))[0]


def card(**options: Any) -> NvmlCard:
    found = NvmlCard.open(0, FakeNvml(**options))
    assert found is not None
    return found


def run(protocol: MeasuringProtocol = QUICK, what: Job | None = None, **options: Any) -> CellRun:
    return run_cell(what or cell(), protocol, card(), argv=ARGV, **options)


def test_a_cell_that_runs_leaves_every_sample_and_every_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "slow@denoise")
    result = run(MeasuringProtocol(repeats=3, warmup=1))
    assert result.outcome == "ok"
    record = record_of(result, card())
    assert [sample.warmup for sample in record.samples] == [True, False, False, False]
    assert all(sample.steps is not None and len(sample.steps) == STEPS for sample in record.samples)
    assert record.memory.allocated == 4000 * MIB
    assert record.memory.context == CONTEXT + LIBRARIES
    phases = {phase.name: phase.allocated for phase in record.memory.phases or ()}
    assert phases == {"load": 3000 * MIB, "prefix": 3000 * MIB, "denoise": 4000 * MIB}
    assert record.memory.pinned_rounded == 256 * MIB
    assert record.card is not None
    assert record.card.slug.startswith("h100")
    assert record.card.pci_id == "10de:2330"
    assert record.power is not None
    assert record.power.watts_max == 123
    assert record.power.seconds is not None
    assert record.power.joules == pytest.approx(123 * record.power.seconds, rel=0.35)
    assert record.transfer is not None
    assert record.transfer.bytes_streamed == 1000
    assert record.transfer.bytes_per_second == 2000
    assert record.transfer.wait_seconds == 0.25
    assert record.transfer.pcie_generation == 5
    assert record.protocol.fresh_process is True
    assert parse(store.encode(record), "record").record == store.seal(record)


def test_meters_off_leaves_their_fields_out() -> None:
    record = record_of(run(replace(QUICK, meters=False)), None)
    assert record.memory.process is None
    assert record.memory.device is None
    assert record.power is None
    assert record.protocol.metering_hz is None
    assert record.memory.phases is None


@pytest.mark.parametrize("action", ["bug@denoise", "sigkill@denoise", "exit@denoise"])
def test_a_card_that_falls_off_the_bus_is_recorded(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", action)
    lost = card(falls=True)
    done = run_cell(cell(), QUICK, lost, argv=ARGV)
    record = record_of(done, lost)
    assert record.outcome.result in ("error", "killed", "oom-host")
    assert record.outcome.message is not None
    assert "the driver reported Xid 79, and the card no longer answers its driver" in record.outcome.message
    assert record.card is not None
    assert parse(store.encode(record), "x").record == store.seal(record)


def test_a_driver_without_events_reports_none() -> None:
    assert card(missing=frozenset({"nvmlEventSetCreate"})).xid_events() is None
    following = card().xid_events()
    assert following is not None
    assert following() is None
    assert not card().lost


def test_a_cap_takes_the_context_off_first_and_says_so() -> None:
    result = run(replace(QUICK, cap=12 * GIB))
    assert result.capped["allocator_limit"] == 12 * GIB - CONTEXT - LIBRARIES
    record = record_of(result, card())
    assert record.protocol.cap is not None
    assert record.protocol.cap.bytes == 12 * GIB
    assert record.protocol.cap.enforced_by == "allocator-fraction"
    assert f"{12 * GIB} bytes = {CONTEXT + LIBRARIES} context" in (record.notes or "")


def test_out_of_memory_under_a_cap_is_a_record() -> None:
    result = run(replace(QUICK, cap=4 * GIB))
    record = record_of(result, card())
    assert record.outcome.result == "oom-gpu"
    assert record.outcome.phase == "denoise"
    assert record.outcome.requested == 1000 * MIB
    assert record.outcome.allocated == 3000 * MIB
    assert record.samples == ()


def test_a_cap_below_the_context_is_refused() -> None:
    with pytest.raises(InputError, match="does not even hold the CUDA context"):
        run(replace(QUICK, cap=CONTEXT))


@pytest.mark.parametrize(
    ("action", "outcome", "phase", "words"),
    [
        ("gpu-oom@denoise", "oom-gpu", "denoise", "96.00 MiB"),
        ("host-oom@load", "oom-host", "load", "out of memory"),
        ("bug@prefix-never", "ok", None, ""),
        ("bug@denoise", "error", "denoise", "a plain bug"),
        ("sigkill@denoise", "killed", "denoise", "SIGKILL"),
        ("exit@load", "error", "load", "exit code 7"),
        ("hang@denoise", "hang", "denoise", "no progress for 1 s"),
    ],
)
def test_every_way_to_end(
    monkeypatch: pytest.MonkeyPatch, action: str, outcome: str, phase: str | None, words: str
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", action)
    result = run(replace(QUICK, hang_seconds=1))
    record = record_of(result, card())
    assert record.outcome.result == outcome
    assert record.outcome.phase == phase
    assert words in (record.outcome.message or "")
    if outcome != "ok":
        assert record.outcome.message
        assert record.samples == ()


def test_a_kill_while_memory_is_short_is_the_hosts_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "sigkill@denoise")
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=100 * MIB))
    result = run()
    assert result.outcome == "oom-host"
    assert "out-of-memory killer" in (result.message or "")


def test_a_kill_that_the_kernel_counts_is_the_hosts_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "sigkill@denoise")
    counted = iter([4, 5])
    monkeypatch.setattr("bench.runner.out_of_memory_kills", lambda: next(counted))
    result = run()
    assert result.outcome == "oom-host"
    assert result.message == "killed by SIGKILL in phase denoise, and the kernel counts an out-of-memory kill meanwhile"
    monkeypatch.setattr("bench.runner.out_of_memory_kills", lambda: 4)
    assert run().outcome == "killed"


@pytest.mark.parametrize(
    ("error", "free", "outcome", "requested"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 1.50 GiB."), None, "oom-host", 3 << 29),
        (type("OutOfMemoryError", (RuntimeError,), {})("Tried to allocate 20.00 KiB."), None, "oom-gpu", 20480),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), None, "oom-gpu", None),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), 9 * GIB, "oom-gpu", None),
        (RuntimeError("CUDA error: out of memory"), 9 * GIB, "oom-host", None),
        (RuntimeError("CUDA error: out of memory"), 2 * MIB, "oom-gpu", None),
        (RuntimeError("can't allocate memory: you tried to allocate 524288 bytes. Error"), None, "oom-host", 524288),
        (OSError(12, "Cannot allocate memory"), None, "oom-host", None),
        (MemoryError(), None, "oom-host", None),
        (OSError(5, "Input/output error"), None, "error", None),
        (ValueError("out of range"), 0, "error", None),
    ],
)
def test_what_an_exception_is(error: Exception, free: int | None, outcome: str, requested: int | None) -> None:
    assert classify(error, free) == (outcome, requested)


def test_a_card_that_fills_is_a_sign_of_life_and_a_second_of_nothing_is_not() -> None:
    script = (
        "import json, sys, time\n"
        "for at in range(9):\n"
        "    print(json.dumps({'event': 'alive', 'at': 1.0, 'rss': 5, 'allocated': at * STEP}), flush=True)\n"
        "    time.sleep(0.25)\n"
    )

    def heard(step: int) -> int:
        with Child({}, 1, [sys.executable, "-c", script.replace("STEP", str(step))]) as child:
            return len(list(child.events()))

    assert heard(32 << 20) == 9
    with pytest.raises(Hang, match="no progress for 1 s"):
        heard(1 << 20)


@pytest.mark.parametrize("ends", ["pass", "os.kill(os.getpid(), 9)"])
def test_files_of_a_child_go_however_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import json, os, tempfile\nkept = tempfile.mkdtemp()\nopen(kept + '/weights', 'w').write('many')\n"
        f"print(json.dumps({{'event': 'made', 'at': 1.0, 'where': kept}}), flush=True)\n{ends}"
    )
    with Child({}, 10, [sys.executable, "-c", script]) as child:
        (event,) = child.events()
        assert Path(event["where"]).is_relative_to(tmp_path)
        assert Path(event["where"], "weights").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_pass_of_the_longest_answer_is_one_event() -> None:
    script = (
        "import json\nsteps = [1 / 3] * 100_000\n"
        "print(json.dumps({'event': 'pass', 'at': 1.0, 'report': {'step_seconds': steps}}))"
    )
    with Child({}, 10, [sys.executable, "-c", script]) as child:
        (event,) = child.events()
    assert len(event["report"]["step_seconds"]) == 100_000


def test_prints_of_a_library_do_not_break_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "print@load")
    result = run()
    assert result.outcome == "ok"
    assert "a library that prints to standard output" in result.output


def test_no_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NO_GPU", "1")
    with pytest.raises(InputError, match=r"sees no GPU.*--tiny --device cpu"):
        run()


def test_a_missing_library_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "no-gguf@load")
    with pytest.raises(InputError, match=r"the bench needs gguf for this; .*extra 'bench': .*pip install '"):
        run()


def test_the_deadline_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "hang@denoise")
    seen: list[int] = []
    with pytest.raises(Stopped):
        run(deadline=time.monotonic() + 1.5, listener=lambda event: seen.append(event.get("pid", 0)))
    pid = max(seen)
    assert pid > 0
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_second_ctrl_c_cuts_the_grace_short_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"deaf\n"
    real = process.wait

    def wait(timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return real()

    monkeypatch.setattr(process, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        end_tree(process)
    assert process.returncode == -9
    process.stdout.close()


def test_a_child_whose_parent_is_killed_ends_too() -> None:
    protocol = {"repeats": 1, "warmup": 0, "cap": None, "meters": True}
    job = {"job": "cell", "cell": cell().to_json(), "protocol": protocol}
    script = (
        f"import sys, time\nfrom bench.process import Child\nwith Child({job!r}, 60, {ARGV!r}) as child:\n"
        "    print(child.pid, flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "FAKE_ENGINE": "hang@load", "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert child.wait(timeout=10) is None or not child.is_running()


def test_garbage_on_the_pipe_is_output_not_an_event() -> None:
    noise = [
        sys.executable,
        "-c",
        "print('not json'); print('[1]'); print('{\"event\": 5, \"at\": 1}'); print('x' * 5000)",
    ]
    with Child({"job": "cell"}, 10, noise) as child:
        assert list(child.events()) == []
    assert list(child.output)[:3] == ["not json", "[1]", '{"event": 5, "at": 1}']
    assert max(map(len, child.output)) <= 2000


def test_spread_past_15_percent_is_flagged() -> None:
    result = run(MeasuringProtocol(repeats=3, warmup=0))
    for event, seconds in zip(result.passes, (1.0, 1.02, 1.2), strict=True):
        event["seconds"] = seconds
    assert result.flags
    assert record_of(result, None).tags == ("spread",)
    result.passes[2]["seconds"] = 1.1
    assert not result.flags
    assert record_of(result, None).tags is None


def test_fewer_steps_are_run_and_said_but_the_workload_stays() -> None:
    result = run(replace(QUICK, steps_run=1), cell(steps=50))
    record = record_of(result, None)
    assert record.samples[0].steps == pytest.approx((0.01,))
    assert record.workload.steps == 50
    assert record.protocol.steps_run == 1


def test_median_of_odd_even_and_none() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert median([]) is None


def test_cells_of_a_request_are_each_once() -> None:
    request = Request.of(
        "sensenova-u1-8b-mot", tiers=("q4_k_s", "BF16"), mode=("full", "low", "low"), policy=("upstream", "ring")
    )
    names = [label(one) for one in jobs_of(request)]
    assert len(names) == len(set(names)) == 6
    assert names[0] == "Q4_K_S full t2i 2048×2048 8 steps cfg 1"
    assert "Q4_K_S low/ring t2i 2048×2048 8 steps cfg 1" in names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tiers": ("Q9",)}, "has no tier 'Q9'; choose from"),
        ({"mode": ("lowest",)}, "--mode: 'lowest'"),
        ({"policy": ("spiral",)}, "--policy: 'spiral'"),
        ({"tasks": ("chat",)}, "--task: 'chat'"),
        ({"tasks": ("poem",)}, "--task: 'poem'"),
        ({"size": (2000, 2000)}, "--size: 2000 is not a multiple of 32"),
        ({"size": (0, 64)}, "--size: 0x64 is out of range"),
        ({"size": (8224, 64)}, "--size: 8224x64 does not work"),
        ({"reference": ((100, 64),), "tasks": ("vqa",)}, "--reference: 100x64 does not work"),
        ({"attention": "flash"}, "--attention: the bench cannot choose this"),
        ({"batch": 2}, "--batch: 2 images at once are not measured"),
        ({"batch": 0}, "--batch: 0 is out of range"),
        ({"ngl": 3}, "--ngl is an option of llama.cpp"),
        ({"colour": "green"}, "--colour is not an option"),
        ({"steps": 0}, "--steps: 0"),
        ({"cfg": float("nan")}, "--cfg"),
        ({"images": -1, "tasks": ("interleave",)}, "--images: -1"),
        ({"device": "tpu"}, "--device: 'tpu'"),
        ({"device": "cpu"}, "add --tiny"),
        ({"gguf": "/nonexistent/x.gguf"}, "is not a file"),
        ({"gguf": __file__, "tiers": ()}, "GGUF"),
        ({"model": "sensenova-u9"}, "not in the catalog"),
        ({"revision": "pr9"}, "--revision: 'pr9'"),
    ],
)
def test_bad_requests_are_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        cell(**options)
    assert "\n" not in str(caught.value)
