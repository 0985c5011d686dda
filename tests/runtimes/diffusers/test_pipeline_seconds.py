"""Seconds of pipelines: what comes back into fresh or known pages, and what happens once in a process."""

from __future__ import annotations

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Link
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Process
from fitcheck.runtimes.diffusers.estimate import estimate
from fitcheck.runtimes.diffusers.laid_out import Layout
from fitcheck.runtimes.diffusers.offloading import offload_of, placement_of
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.seconds import PLAIN, WayBack, seconds
from fitcheck.runtimes.diffusers.weights import HEAP_LIMIT, Leaf, ModuleWeights
from fitcheck.units import Interval

COLD, WARM, OWN = Process(bench=True), Process(bench=True, warm=True), Process()


def seconds_of(slug: str, tier: str, mode: str, process: Process, size: int = 1024) -> Interval[float]:
    """Seconds of four steps on an H100."""
    model = catalog.get(slug)
    found = model.tier(tier)
    assert found is not None
    arch = found.architecture or model.architecture
    assert isinstance(arch, PipelineArchitecture)
    offload = offload_of(placement_of(mode, PipelineOptions()))
    workload = Workload(task=Task.T2I, width=size, height=size, steps=4, cfg=7.0 if slug == "sdxl" else 1.0)
    layout = estimate(arch, found, workload, offload, (9, 0), process=process).layout
    assert isinstance(layout, Layout)
    card = find_card("h100-sxm5-80gb")
    took = seconds(layout, found, offload, card, Link(card.pcie_generation, card.pcie_lanes), process=process)
    assert took is not None
    assert took.seconds is not None
    return took.seconds


def test_a_byte_comes_back_slower_into_pages_that_are_mapped_anew() -> None:
    half = ModuleWeights((Leaf("a", (HEAP_LIMIT, HEAP_LIMIT // 2, HEAP_LIMIT // 2), 0),))
    assert WayBack(4.0, 2.0).of(half) == pytest.approx(3.0)
    assert PLAIN.of(half) == 1.0
    assert WayBack(4.0, 2.0).of(ModuleWeights(())) == 4.0


def test_a_model_of_small_tensors_comes_back_faster_from_the_second_picture_on() -> None:
    once, later = (seconds_of("sdxl", "fp16", "model", one) for one in (COLD, WARM))
    # measured on an H100: 6.9 s the first time, 3.4 s the second
    assert later.low < 3.4 < later.high
    assert once.low < 6.9 < once.high
    assert seconds_of("sdxl", "fp16", "model", OWN) == later


def test_what_happens_once_is_counted_once_and_by_the_bench_without_warmup_alone() -> None:
    cold, warm = (seconds_of("flux.1-dev", "bf16", "none", one) for one in (COLD, WARM))
    # measured: 2.38 s the first time, 0.88 s the second
    assert cold.best - warm.best == pytest.approx(0.9, abs=0.01)
    assert cold.low < 2.38 < cold.high
    assert warm.low < 0.88 < warm.high
    assert seconds_of("flux.1-dev", "bf16", "none", OWN) == warm


def test_what_happens_once_leaves_no_picture_without_time() -> None:
    """Of PixArt's cold second four fifths are the start of the process, whose own low end is a third of it."""
    cold, own = (seconds_of("pixart-sigma", "fp16", "none", process) for process in (COLD, OWN))
    assert own.low < cold.low < cold.best
