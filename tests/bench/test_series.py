"""A planned series inside a time budget, and the files it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from test_suite import fake_runner

from bench import series
from bench.job import Job
from bench.suite import Finished, Setting, Summary, run_suite
from bench.unpack import unpack
from fitcheck.errors import InputError
from fitcheck.records import store
from fitcheck.records.schema import PassRecord


def test_a_series_leaves_records_a_summary_and_says_what_did_not_run(
    tmp_path: Path, nvml: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick_suite(cells: Sequence[Job], setting: Setting, console: Console, finished: Finished) -> Summary:
        return run_suite(cells, setting, console, finished, fake_runner)

    monkeypatch.setattr(series, "run_suite", quick_suite)
    model = "sensenova-u1-8b-mot"
    plan = [
        {
            "do": "run",
            "model": model,
            "tier": "Q4_K_S",
            "mode": "full",
            "steps": 2,
            "repeats": 1,
            "warmup": 0,
            "vram": "12GB",
        },
        {"do": "run", "model": model, "tier": "Q4_K_S", "mode": "sideways"},
        {"do": "run", "model": model, "colour": "green"},
        {"do": "limit", "model": model, "tier": "BF16", "mode": "low"},
        {"do": "run", "model": model, "tier": "Q4_K_S", "mode": "low", "seconds": 1000},
    ]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    out = tmp_path / "out"
    code = series.main([str(tmp_path / "plan.json"), "--out", str(out), "--budget", "100", "--ram", "20GiB"])
    assert code == 1
    assert sorted(path.name for path in out.iterdir()) == ["records.jsonl", "summary.json"]
    entries = json.loads((out / "summary.json").read_text())["entries"]
    assert [entry["outcome"] for entry in entries] == ["ok", "not run", "not run", "not run", "not run"]
    assert "colour" in entries[2]["message"]
    assert "20.0 GiB of system memory are available and this needs" in entries[3]["message"]
    assert entries[4]["message"] == "no time left"
    (path,) = unpack(out / "records.jsonl", tmp_path / "filed")
    record = store.read(path)
    assert isinstance(record, PassRecord)
    assert record.protocol.cap is not None
    assert unpack(out / "records.jsonl", tmp_path / "filed") == [path]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"do": "fly"}, "do: 'fly' is not a measurement; choose from run, limit, link"),
        ({"do": ["run"]}, "is not a measurement"),
        ({"steps": "many"}, 'steps: "many" is no number'),
        ({"steps": None}, "steps: null is no number"),
        ({"seconds": "soon"}, 'seconds: "soon" is no number'),
        ({"seconds": float("nan")}, "seconds: NaN is no number"),
        ({"cfg": [4]}, "cfg: [4] is no number"),
        ({"repeats": 0}, "repeats: 0 is no number"),
        ({"warmup": -1}, "warmup: -1 is no number"),
        ({"do": "limit", "mode": "low", "resolution_mib": "fine"}, 'resolution_mib: "fine" is no number'),
        ({"size": 5}, "size"),
        ({"vram": "much"}, "vram"),
        ({"model": 7}, "'7' is not in the catalog"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_left_out_with_one_sentence(
    entry: dict[str, object], words: str, nvml: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([{"model": "sensenova-u1-8b-mot", "tier": "Q4_K_S"} | entry]))
    assert series.main([str(plan), "--out", str(tmp_path / "out"), "--budget", "50"]) == 1
    (left,) = json.loads((tmp_path / "out" / "summary.json").read_text())["entries"]
    assert left["outcome"] == "not run"
    assert words in left["message"]
    assert "Traceback" not in capsys.readouterr().err


def test_unpack_refuses_what_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"kind": "pass"}\n')
    with pytest.raises(InputError, match=r"x.jsonl:1"):
        unpack(tmp_path / "x.jsonl", tmp_path / "filed")
    with pytest.raises(InputError, match="cannot be read"):
        unpack(tmp_path / "missing.jsonl", tmp_path / "filed")
