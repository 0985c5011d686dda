"""Group offload by block, as an H100 ran it: what is in no list of blocks comes without a stream and goes back."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.diffusers.estimate import estimate
from fitcheck.runtimes.diffusers.laid_out import Layout
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.runtime import RUNTIME
from fitcheck.runtimes.diffusers.seconds import PLAIN, passes, stage_work
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.runtimes.diffusers.traces import ENTER, LEAVE, WORKSPACE, trace_of
from fitcheck.speed.passes import Pass
from fitcheck.units import GIB, Interval
from fitcheck.verdict.accuracy import AccuracyRow, Leave, index_of, recorded_rows
from tests.runtimes.diffusers.test_pipeline_memory import ask

ROOT = Path(__file__).parents[3]
PICTURE = Workload(Task.T2I, 1024, 1024, 2, 3.5)


@cache
def known_of_nothing() -> list[AccuracyRow]:
    """Every record of a pipeline beside the estimate that knows nothing of the machine."""
    return [row for row in recorded_rows(ROOT / "results", Leave.MACHINE) if row.runtime == "diffusers"]


@pytest.mark.parametrize(("quantity", "middle", "worst"), [("reserved", 0.02, 0.08), ("seconds", 0.3, 1.0)])
def test_records_of_whole_blocks_are_met(quantity: str, middle: float, worst: float) -> None:
    """Predicted as if all blocks came on a stream and nothing stayed in pieces, they reserved up to twice as much."""
    rows = [row for row in known_of_nothing() if row.mode.startswith("group-block") and row.quantity == quantity]
    assert len(rows) >= 12
    assert median(abs(row.error) for row in rows) <= middle
    assert max(abs(row.error) for row in rows) <= worst
    assert all(row.covered for row in rows)


def whole_blocks(slug: str, tier: str, *, stream: bool = True, blocks: int = 1) -> tuple[list[Pass], Interval[int]]:
    """The passes of a picture of 1024x1024, and its system memory."""
    model = catalog.get(slug)
    stored, architecture = model.tier(tier), model.architecture
    assert stored is not None
    assert isinstance(architecture, PipelineArchitecture)
    offload = Offload("group-block-stream" if stream else "group-block", "block", stream=stream, blocks=blocks)
    found = estimate(architecture, stored, PICTURE, offload, (9, 0))
    layout = found.layout
    assert isinstance(layout, Layout)
    works = [stage_work(one, stored, offload) for one in layout.stages]
    return list(passes(layout, works, stored, offload, PLAIN)), found.host.total


def test_what_no_list_of_blocks_holds_comes_pageable_and_goes_back() -> None:
    """T5's blocks lie one module deeper: all of it comes and goes back, 9.5 GB each way, and no stream hides it."""
    found, _ = whole_blocks("flux.1-dev", "Q4_K_S")
    encoder = next(one for one in found if one.branch == "text_encoder_2")
    assert encoder.paged.nbytes == pytest.approx(2 * 8.871 * GIB, rel=1e-3)
    assert encoder.ahead.nbytes == encoder.waited.nbytes == 0
    first, later = [one for one in found if one.branch == "transformer"]
    assert first.waited.nbytes == later.ahead.nbytes > 6 * GIB
    assert 0 < first.paged.nbytes < 0.3 * GIB


def test_blocks_are_pinned_before_the_first_original_goes() -> None:
    """Z-Image Turbo: an H100's host held 40.9 GiB, all blocks pinned and the whole transformer beside them."""
    _, host = whole_blocks("z-image-turbo", "bf16")
    assert host.best == pytest.approx(40.93 * GIB, rel=0.03)
    assert host.low < 40.93 * GIB < host.high


@pytest.mark.parametrize("mode", ["group-leaf-stream", "group-block-stream"])
def test_a_stream_brings_an_upcast_autoencoder_in_its_old_type(mode: str) -> None:
    """SDXL's records of both modes ended in an error of types; without a stream it runs."""
    assert platform(ask("sdxl", mode, "fp16")) is Verdict.NO
    assert platform(ask("sdxl", mode.removesuffix("-stream"), "fp16")) is not Verdict.NO
    assert platform(ask("flux.1-dev", mode, "bf16")) is not Verdict.NO


def platform(one: Any) -> Verdict | None:
    found = RUNTIME.platform(one)
    if found is not None and found.verdict is Verdict.NO:
        assert "copies that it pinned" in found.reason
    return None if found is None else found.verdict


def test_what_failed_on_a_card_is_said_not_to_run() -> None:
    """Every record of ours that ended in an error, whatever the amounts: two of SDXL stood beside a yes."""
    failed = [run for run in index_of(ROOT / "results").rows if run.outcome == "error"]
    asks = [one for run in failed if (one := RUNTIME.ask_of(run)) is not None]
    assert len(asks) >= 11
    for one in asks:
        found = RUNTIME.platform(one)
        assert found is not None, one.model.slug
        assert found.verdict is Verdict.NO


def measured() -> Iterator[dict[str, Any]]:
    """Convolutions one by one (benchmarks/pipelines_h100/convolution_workspaces.py)."""
    text = gzip.decompress((ROOT / "benchmarks/pipelines_h100/workspaces.jsonl.gz").read_bytes()).decode()
    rows = [json.loads(line) for line in text.splitlines()]
    return (row for row in rows if "path" in row)


@pytest.mark.parametrize("slug", ["flux.1-dev", "sdxl", "sd1.5", "flux.2-klein-4b"])
@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_convolutions_copy_what_a_card_copied(slug: str, batch: int) -> None:
    """Of several pictures those behind an upsampling find their input in the order that they want."""
    rows = [row for row in measured() if (row["model"], row["batch"]) == (slug, batch)]
    if not rows:
        pytest.skip("not measured")
    width = max(row["width"] for row in rows)
    # the trace counts a weight for each picture, the card once
    large = [row for row in rows if row["width"] == width and row["bytes"][1] * batch < 0.02 * row["bytes"][2]]
    taken = {row["path"]: row["beside"] for row in large if row["beside"] > 0.1 * row["bytes"][2]}
    said = copied(slug, width, batch)
    assert len(taken) >= 6
    assert taken.keys() <= said.keys()
    assert all(said[path] == pytest.approx(nbytes, rel=0.05) for path, nbytes in taken.items())
    assert any(".upsamplers." in path for path in said) is (batch == 1)
    assert not any("conv_shortcut" in path for path in said)


def copied(slug: str, width: int, batch: int) -> dict[str, int]:
    """Bytes that the trace says of each convolution of the decode."""
    one = ask(slug, "none", size=(width, width), batch=batch, vae=("whole",))
    arch = one.tier.architecture or one.model.architecture
    assert isinstance(arch, PipelineArchitecture)
    stage = stages_of(arch, one.workload, Offload("none"))[-1]
    trace = trace_of(stage.component.trace, stage.component.dtype)
    assert trace is not None
    stack: list[str] = []
    found: dict[str, int] = {}
    for event in trace.call(stage.call, stage.sizes).events(stage.sizes):
        if event.kind == ENTER:
            stack.append(event.path)
        elif event.kind == LEAVE:
            stack.pop()
        elif event.kind == WORKSPACE:
            found[stack[-1]] = event.value
    return found


@pytest.mark.parametrize(("slug", "mode", "batch", "measured"), [
    ("lumina-2", "group-block-stream", 2, 4.065), ("sd1.5", "group-block", 4, 2.059), ("z-image", "none", 3, 22.697),
    ("flux.2-klein-4b", "model", 3, 8.966),
])  # fmt: skip
def test_what_an_h100_allocated_for_several_pictures(slug: str, mode: str, batch: int, measured: float) -> None:
    size = {"sd1.5": (512, 512), "z-image": (768, 768)}.get(slug, (1024, 1024))
    one = ask(slug, mode, card="H100 SXM", size=size, batch=batch, vae=("whole",))
    span = RUNTIME.footprint(one).cards[0].allocated
    assert span.best == pytest.approx(measured * GIB, rel=0.02)
    assert span.low < measured * GIB < span.high
