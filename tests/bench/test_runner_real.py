"""The protocol with the real engine: the scaled-down model on the CPU, through the command's own path."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from bench.job import Request
from bench.jobs import jobs_of
from bench.runner import MeasuringProtocol
from bench.suite import CPU_NOTICE, Setting, run_suite
from fitcheck.records import store
from fitcheck.records.schema import PassRecord


def test_modes_agree_and_the_accounting_adds_up(tmp_path: Path) -> None:
    request = Request.of(
        "sensenova-u1-8b-mot",
        tiers=("Q4_K_S",),
        mode=("full", "balanced"),
        policy=("ring",),
        steps=2,
        tiny=True,
        device="cpu",
    )
    text = io.StringIO()
    setting = Setting(tmp_path, MeasuringProtocol(repeats=1, warmup=0), "cpu")
    summary = run_suite(jobs_of(request), setting, Console(file=text, width=200))
    assert summary.exit_code == 0, text.getvalue()
    assert CPU_NOTICE in text.getvalue()
    full, balanced = (record for record in (row.record for row in summary.rows))
    assert full.output is not None
    assert full.output == balanced.output
    assert full.output.finite
    assert (full.transfer and full.transfer.bytes_streamed) == 0
    assert balanced.transfer is not None
    assert (balanced.transfer.bytes_streamed or 0) > 0
    for record in (full, balanced):
        (sample,) = record.samples
        assert sample.phases is not None
        assert sum(sample.phases.values()) <= sample.total
        assert len(sample.steps or ()) == 2
        assert sum(sample.steps or ()) <= sample.phases["denoise"]
        assert record.card is None
        assert record.tags == ("tiny",)
        assert record.memory.allocated is None
    assert {type(record) for record in map(store.read, store.record_files(tmp_path))} == {PassRecord}
