"""A new runtime through the whole house without a line of shipped code changed: from check to evidence."""

from __future__ import annotations

import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import fitcheck
from bench.assemble import record_of
from bench.engines import registry as drivers
from bench.job import Job, Request
from bench.runner import MeasuringProtocol, run_cell
from fitcheck.cli.main import application
from fitcheck.cli.options import runtime_options
from fitcheck.records import store
from fitcheck.records.run_index import build
from fitcheck.runtimes import registry
from fitcheck.units import GIB
from fitcheck.verdict.check import check
from fitcheck.verdict.evidence import ask_of
from tests.contract import toy

CHILD = "from tests.contract import toy; toy.install(); from bench.child import main; raise SystemExit(main())"


def run(*words: str) -> tuple[int, str]:
    """Exit code and stdout of a command line, in this process."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = application()(list(words), standalone_mode=False)
    return int(code or 0), out.getvalue()


def test_check_and_explain_speak_of_it_like_of_any_other() -> None:
    code, out = run("check", toy.SLUG, "--gpu", "RTX 4090", "--ram", "32GB", "--toy-ahead", "2", "--json")
    document = json.loads(out)
    assert code == 0
    assert {cell["mode"] for cell in document["cells"]} == {toy.WHOLE, toy.STREAMED}
    streamed = next(cell for cell in document["cells"] if cell["mode"] == toy.STREAMED)
    assert streamed["settings"] == {"toy_ahead": 2}
    code, out = run("explain", toy.SLUG, "--gpu", "RTX 4090", "--ram", "32GB", "--mode", "streamed")
    assert code == 0
    assert "denoise ← peak" in out
    code, out = run("models")
    assert toy.SLUG in out


def test_a_runtime_that_registers_after_the_options_were_asked_for_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.delitem(registry.MODULES, toy.RUNTIME.name)
        assert "toy_ahead" not in runtime_options()
    assert "toy_ahead" in runtime_options()


def test_the_library_takes_its_options_and_refuses_others() -> None:
    report = fitcheck.check(toy.SLUG, "RTX 4090", ram=32 * GIB, mode="streamed", toy_ahead=3)
    assert report.best.placement.get("toy_ahead") == 3
    with pytest.raises(fitcheck.errors.OptionError, match=r"--ngl is an option of llama\.cpp"):
        fitcheck.check(toy.SLUG, "RTX 4090", ram=32 * GIB, ngl=4)


def test_it_gets_a_page() -> None:
    from fitcheck.pages.single import page_of

    page = page_of(fitcheck.check(toy.SLUG, "RTX 4090", ram=32 * GIB), "fitcheck check toy-2b")
    assert "Toy 2B" in page
    assert toy.STREAMED in page


def test_a_bench_record_of_it_becomes_evidence(tmp_path: Path) -> None:
    driver = drivers.get(toy.NAME)
    (job,) = [
        job
        for job in driver.jobs(Request.of(toy.SLUG, tiers=("BF16",), device="cpu", mode=toy.STREAMED))
        if job.placement.mode == toy.STREAMED
    ]
    assert Job.from_json(job.to_json()) == job
    done = run_cell(job, MeasuringProtocol(repeats=2, warmup=0), argv=[sys.executable, "-c", CHILD])
    assert (done.outcome, len(done.passes)) == ("ok", 2)
    record = store.seal(record_of(done, None))
    path = store.write(tmp_path, record)
    document = json.loads(path.read_bytes())
    assert document["runtime"]["name"] == toy.NAME
    # the card that it would have run on, and weights that were real
    document["card"] = {"slug": "rtx-4090", "name": "RTX 4090", "vendor": "nvidia", "memory": 24 << 30, "count": 1}
    document["model"]["weights"] = "real"
    (measured,) = build([document]).rows
    ask = ask_of(measured)
    assert ask is not None
    assert (ask.model.slug, ask.placement.mode, ask.workload.steps) == (toy.SLUG, toy.STREAMED, job.workload.steps)
    report = check(ask.model, ask.machine, index=build([document]), advise=False)
    level = {(cell.tier.name, cell.placement.mode): cell.evidence.seconds.level for cell in report.cells}
    assert level["BF16", toy.STREAMED] == "measured"
    shutil.rmtree(tmp_path)


def test_what_is_registered_is_gone_afterwards() -> None:
    with toy.installed():
        assert toy.NAME in registry.names()
    assert toy.NAME in registry.names()  # this folder's own fixture still holds it
