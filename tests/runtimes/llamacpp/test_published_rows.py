"""The published rows: the bars of issue 4, and no error may grow beyond what it was."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from fitcheck.errors import InputError
from fitcheck.runtimes.llamacpp.published import PrintedFigure, file_size_accuracy, llamacpp_accuracy, summarize


def rows_of(engine: str, quantity: str) -> list[PrintedFigure]:
    return [row for row in llamacpp_accuracy()[0] if row.engine == engine and row.quantity.startswith(quantity)]


def test_mainline_caches_are_exact_in_every_row() -> None:
    rows = rows_of("mainline", "KV cache")
    assert len(rows) >= 33
    assert max(abs(row.error) for row in rows) < 0.002


def test_fork_caches_are_exact_in_every_row() -> None:
    rows = rows_of("fork", "KV cache")
    assert len(rows) >= 29
    assert max(abs(row.error) for row in rows) < 0.001


def test_weights_of_named_tiers() -> None:
    for engine in ("mainline", "fork"):
        errors = sorted(abs(row.error) for row in rows_of(engine, "weights"))
        assert len(errors) >= 6
        assert errors[len(errors) // 2] < 0.0005
        assert errors[-1] < 0.015


def test_compute_buffers() -> None:
    errors = sorted(abs(row.error) for row in rows_of("mainline", "compute"))
    assert len(errors) >= 11
    assert errors[len(errors) // 2] < 0.02
    assert errors[-1] < 0.085


def test_file_sizes_from_shape_and_tier() -> None:
    rows = [row for row in file_size_accuracy()[0] if row.engine == "file"]
    errors = sorted(abs(row.error) for row in rows)
    assert len(errors) >= 17
    assert errors[len(errors) // 2] < 0.0005
    assert errors[-1] < 0.004


def test_what_is_left_out_says_why() -> None:
    _, skipped = llamacpp_accuracy()
    assert all(": " in reason for reason in skipped)
    assert not any("no reading" in reason for reason in skipped)


def test_numbers_that_chose_a_build_are_marked() -> None:
    fitted = [row for row in llamacpp_accuracy()[0] if row.fitted]
    assert fitted
    assert all(row.quantity == "compute" for row in fitted)


def test_summary_groups_by_engine_and_quantity() -> None:
    rows = [
        PrintedFigure("0", "mainline", "m", "KV cache", 110, 100),
        PrintedFigure("1", "mainline", "m", "KV cache", 100, 100),
    ]
    (summary,) = summarize(rows)
    assert (summary.count, summary.worst) == (2, 0.10000000000000009)


def test_a_file_of_rows_is_read_from_its_columns_alone(tmp_path: Path) -> None:
    """The same rows without their readings: caches stay exact, nothing is known but the columns and notes."""
    text = resources.files("fitcheck.runtimes.llamacpp").joinpath("data/published/llamacpp.csv").read_text()
    file = tmp_path / "rows.csv"
    file.write_text(text)
    rows, _ = llamacpp_accuracy(file)
    caches = [row for row in rows if row.quantity == "KV cache"]
    assert len(caches) >= 62
    assert max(abs(row.error) for row in caches) < 0.005
    compute = sorted(abs(row.error) for row in rows if row.quantity == "compute")
    assert compute[len(compute) // 2] < 0.03


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        llamacpp_accuracy(tmp_path / "absent.csv")
    broken = tmp_path / "broken.csv"
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError):
        llamacpp_accuracy(broken)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    rows, skipped = llamacpp_accuracy(other)
    assert not rows
    assert len(skipped) == 1
