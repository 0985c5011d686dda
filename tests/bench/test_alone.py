"""Components alone: a line for each size, what went wrong said in it, and nothing begun without time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from bench.engines.diffusers import alone


@pytest.fixture(autouse=True)
def one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """One timed call of each size."""
    monkeypatch.setattr(alone, "_REPEATS", 1)


def test_a_decode_is_measured_tiled_and_a_component_that_fails_costs_no_other(tmp_path: Path) -> None:
    plan = [
        {
            "model": "qwen-image",
            "component": "vae",
            "vae": ["tiling"],
            "profile": False,
            "sizes": [[64, 64]],
        },
        {"model": "qwen-image", "component": "no such", "sizes": [[64, 64]]},
    ]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    arguments = [str(tmp_path / "plan.json"), "--out", str(tmp_path), "--budget", "600", "--device", "cpu", "--tiny"]
    assert alone.main(arguments) == 0
    software, *rows = [json.loads(line) for line in (tmp_path / alone.OUT).read_text().splitlines()]
    assert software["card"] == "none"
    assert [row["outcome"] for row in rows] == ["ok", "error"]
    assert rows[0]["vae"] == ["tiling"]
    assert rows[0]["trace"] == "autoencoder-kl-qwenimage"
    assert len(rows[0]["seconds"]) == len(rows[0]["host"]) == 1
    assert "busy" not in rows[0]


def test_without_time_a_size_is_not_begun() -> None:
    entry = {"model": "qwen-image", "component": "vae", "sizes": [[64, 64], [128, 64]]}
    assert [row["outcome"] for row in alone.rows_of(entry, "cpu", True, 0.0)] == ["no time"]
