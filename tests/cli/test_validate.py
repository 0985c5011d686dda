"""``fitcheck validate``: one line a problem, exit code 1 when anything is rejected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fitcheck.records import schema, store
from fitcheck.units import GIB
from fitcheck.verdict.expectation import doubt

Run = Callable[..., Any]
RESULTS = Path(__file__).parents[2] / "results"


def expected(record: Path) -> schema.PassRecord:
    """The sample as it may be: its tier is in no catalog and its numbers are made up."""
    found = store.read(record)
    assert isinstance(found, schema.PassRecord)
    return found.model_copy(
        update={
            "model": found.model.model_copy(update={"tier": "Q4_K_S"}),
            "samples": tuple(schema.Sample(total=seconds) for seconds in (180.0, 181.0, 182.0)),
            "memory": schema.Memory(allocated=round(2.45 * GIB), device=6 * GIB),
            "transfer": None,
            "power": None,
        }
    )


def placed(record: Path, root: Path) -> Path:
    return store.write(root, expected(record))


def test_a_clean_tree_prints_nothing(run: Run, record: Path) -> None:
    placed(record, Path("results"))
    ran = run("validate")
    assert (ran.code, ran.out) == (0, b"")
    assert "1 files, 1 valid, 0 flagged." in ran.err


def test_one_line_for_each_problem_and_exit_code_1(run: Run, record: Path, tmp_path: Path) -> None:
    placed(record, Path("results"))
    (tmp_path / "results" / "a.json").write_text("{")
    (tmp_path / "results" / "b\n\x1b[2J.txt").write_text("x")
    ran = run("validate", "results")
    lines = ran.out.decode().splitlines()
    assert ran.code == 1
    assert [line.split()[0] for line in lines] == ["reject", "reject"]
    assert all("\x1b" not in line for line in lines)
    assert "[unreadable]" in lines[0]
    assert "[not-a-record]" in lines[1]
    assert "3 files, 1 valid" in ran.err


def test_json_and_quiet(run: Run, record: Path) -> None:
    record.write_bytes(store.encode(expected(record)))
    ran = run("validate", record, "--json")
    answer = json.loads(ran.out)
    assert ran.code == 0
    assert answer["valid"] == 1
    assert [(problem["rank"], problem["code"]) for problem in answer["problems"]] == [("note", "file-name")]
    assert run("validate", record, "--quiet").out == b""


def test_what_does_not_exist_is_exit_code_2(run: Run) -> None:
    ran = run("validate", "nowhere")
    assert (ran.code, ran.out) == (2, b"")
    assert "no such file or folder" in ran.err
    assert run("validate").code == 2


def test_what_the_estimator_did_not_expect_is_flagged(run: Run, record: Path, tmp_path: Path) -> None:
    """The sample's memory and time are made up: with a tier that the catalog knows, both are doubted, not refused."""
    from fitcheck.records.run_index import build
    from fitcheck.runtimes.sensenova.runtime import RUNTIME

    made_up = store.read(record)
    assert isinstance(made_up, schema.PassRecord)
    assert made_up.card is not None
    known = made_up.model_copy(update={"model": made_up.model.model_copy(update={"tier": "Q4_K_S"})})
    store.write(tmp_path / "doubted", known)
    ran = run("validate", "doubted")
    assert ran.code == 0
    assert [line.split("[")[-1] for line in ran.out.decode().splitlines()] == ["memory-estimate]", "time-estimate]"]
    ask = RUNTIME.ask_of(build([known.model_dump(mode="json", exclude_none=True)]).rows[0])
    assert ask is not None
    footprint = RUNTIME.footprint(ask)
    duration = RUNTIME.duration(ask, footprint)
    assert duration is not None
    assert duration.seconds is not None
    memory, seconds = footprint.cards[0].allocated, duration.seconds
    likely = known.model_copy(
        update={
            "memory": schema.Memory(allocated=memory.best, reserved=memory.high),
            "samples": (schema.Sample(total=seconds.best),) * 3,
        }
    )
    store.write(tmp_path / "likely", likely)
    assert run("validate", "likely").out == b""


@pytest.fixture(scope="module")
def measured() -> list[schema.PassRecord]:
    """Our own records of pipelines that ran under a limit, or with something beside that is not modelled."""
    read = (store.read(path) for path in sorted(RESULTS.glob("*/*/*.json")))
    passes = [one for one in read if isinstance(one, schema.PassRecord) and one.runtime.name == "diffusers"]
    return [one for one in passes if one.protocol.cap is not None or one.runtime.policy == "disk"]


def test_what_a_limit_or_something_beside_explains_is_no_surprise(measured: list[schema.PassRecord]) -> None:
    assert {one.protocol.cap is not None for one in measured} == {True, False}
    assert [one.id for one in measured for found in doubt(one) if found.code == "memory-estimate"] == []


def test_less_than_a_bound_is_a_surprise(measured: list[schema.PassRecord]) -> None:
    beside = next(one for one in measured if one.runtime.policy == "disk" and one.memory is not None)
    assert beside.memory is not None
    little = beside.model_copy(update={"memory": beside.memory.model_copy(update={"allocated": 1 << 30})})
    assert "at least" in next(found.message for found in doubt(little) if found.code == "memory-estimate")
