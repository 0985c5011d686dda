"""Others' published measurements of pipelines: ``data/published.csv``, every row with its source.

The column ``use`` says what becomes of a row: ``scored``, ``fitted`` (a constant rests on it) or ``width`` (an interval
is as wide as it asked for) where the metric is stated and model, tier and mode are known here; ``shown`` with the
reason otherwise.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace

from fitcheck.data_files import read_text
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.families.pipeline.tiers import PipelineTable, table_of
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.base import Ask, Measured
from fitcheck.runtimes.diffusers.estimate import estimate
from fitcheck.runtimes.diffusers.laid_out import Layout
from fitcheck.runtimes.diffusers.offloading import offload_of, placement_of
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.seconds import seconds
from fitcheck.runtimes.diffusers.stages import DENOISE
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.workloads import workload_for
from fitcheck.runtimes.figures import Figure
from fitcheck.speed.generations import left_out
from fitcheck.units import GIB

USES = ("scored", "fitted", "width")
_CARDS = {
    "H100 80GB": "h100-sxm5-80gb",
    "L40S 48GB (CI runner group aws-g6e-4xlarge)": "l40s",
    "A100 80GB": "a100-sxm4-80gb",
}
_PIPELINE, _BITSANDBYTES = "pipeline", ("bitsandbytes", "bnb")


def rows() -> Iterator[dict[str, str]]:
    """Every row of the file."""
    yield from csv.DictReader(read_text(ROOM, "published.csv").splitlines())


def measured() -> Iterator[Measured]:
    """Whole pipelines whose parts have been traced, as asks."""
    for row in rows():
        ask = _ask(row) if row["use"] in USES and row["component_scope"] == _PIPELINE else None
        if ask is None:
            continue
        size = f"{row['width']}x{row['height']} batch {row['batch']}"
        peak = round(float(row["peak_gib"]) * GIB)
        reserved = row["peak_metric"].startswith("reserved")
        quantity = "reserved" if reserved else "allocated"
        yield Measured(
            source=row["source"],
            name=f"{row['model']} {row['precision_quant']} {size} {row['offload_mode']}",
            ask=ask,
            allocated=None if reserved else peak,
            reserved=peak if reserved else None,
            fitted=frozenset({quantity} if row["use"] == "fitted" else ()),
            widens=frozenset({quantity} if row["use"] == "width" else ()),
        )


def figures() -> Iterator[Figure]:
    """Denoisers alone, and seconds without any calibration."""
    for row in rows():
        if row["use"] not in USES:
            continue
        ask = _ask(row)
        if ask is None:
            continue
        if row["component_scope"] != _PIPELINE:
            yield from _denoiser(row, ask)
        elif row["compile"] != "True":
            yield from _seconds(row, ask)


def _denoiser(row: Mapping[str, str], ask: Ask) -> Iterator[Figure]:
    footprint = _estimate(ask)
    assert isinstance(footprint.layout, Layout)
    alone = max((one for one in footprint.layout.stages if one.stage.phase == DENOISE), key=lambda one: one.alone)
    yield Figure(
        row["source"],
        f"{row['model']} {row['precision_quant']} {row['offload_mode']}",
        "denoiser alone, allocated",
        "GiB",
        alone.alone / GIB,
        float(row["peak_gib"]),
    )
    yield from _one_forward(row, ask, footprint.layout)


def _one_forward(row: Mapping[str, str], ask: Ask, layout: Layout) -> Iterator[Figure]:
    """Seconds of one forward with everything on the card, as if nothing of the card's generation had been measured."""
    offload, gpu = offload_of(ask.placement), ask.card
    if not offload.resident or not row["seconds"]:
        return
    alone = replace(layout, stages=tuple(one for one in layout.stages if one.stage.phase == DENOISE)[:1])
    blind = replace(gpu.card, architecture=left_out(gpu.card.architecture))
    found = seconds(alone, ask.tier, offload, blind, gpu.link)
    if found is None or found.seconds is None:
        return
    span = found.seconds
    name = f"{row['model']} {row['precision_quant']}"
    taken = float(row["seconds"])
    yield Figure(
        row["source"],
        name,
        "denoiser alone, seconds",
        "s",
        span.best,
        taken,
        span.low,
        span.high,
        computes=gpu.card,
    )


def _seconds(row: Mapping[str, str], ask: Ask) -> Iterator[Figure]:
    footprint, gpu = _estimate(ask), ask.card
    assert isinstance(footprint.layout, Layout)
    found = seconds(footprint.layout, ask.tier, offload_of(ask.placement), gpu.card, gpu.link)
    if found is None or found.seconds is None or not row["seconds"]:
        return
    span = found.seconds
    name = f"{row['model']} {row['precision_quant']} batch {row['batch']} {row['offload_mode']}"
    yield Figure(
        row["source"], name, "seconds, uncalibrated", "s", span.best, float(row["seconds"]), span.low, span.high
    )


def _estimate(ask: Ask) -> Footprint:
    return estimate(
        _architecture(ask), ask.tier, ask.workload, offload_of(ask.placement), ask.card.card.compute_capability
    )


def _architecture(ask: Ask) -> PipelineArchitecture:
    found = ask.architecture
    assert isinstance(found, PipelineArchitecture)
    return found


def _ask(row: Mapping[str, str]) -> Ask | None:
    """The row's cell; ``None`` where its card, model or tier is not known or a component of it was not traced."""
    card = _CARDS.get(row["gpu"])
    if card is None or not catalog.is_slug(row["model_key"]):
        return None
    model = catalog.get(row["model_key"])
    tier = _tier(model, row["tier_key"])
    if tier is None:
        return None
    if row["precision_quant"].startswith(_BITSANDBYTES):
        tier = _as_loaded_then(tier, model.architecture)
    placement = placement_of(row["mode_key"], PipelineOptions())
    ask = Ask(model, tier, placement, _workload(model.architecture, tier, row), _machine(find_card(card)))
    layout = _estimate(ask).layout
    assert isinstance(layout, Layout)
    wanted = {one.stage.component.name for one in layout.stages if one.stage.phase == DENOISE}
    missing = set(layout.untraced) if row["component_scope"] == _PIPELINE else wanted & set(layout.untraced)
    return None if missing else ask


def _tier(model: Model, key: str) -> Tier | None:
    """A tier of the catalog, or one with denoiser and text encoder in the two schemes that the key names."""
    found, (denoiser, _, encoder) = model.tier(key), key.partition("+")
    if found is not None or not encoder:
        return found
    beside = model.tier(denoiser)
    assert isinstance(model.architecture, PipelineArchitecture)
    return (
        None if beside is None else replace(beside, name=key, tensors=table_of(model.architecture, denoiser, encoder))
    )


def _as_loaded_then(tier: Tier, architecture: object) -> Tier:
    """The tier as transformers 4 loaded it: its bitsandbytes quantizers kept a T5's ``wo`` in single precision
    (``use_keep_in_fp32_modules`` in quantizers/quantizer_bnb_4bit.py), later ones leave it in 16 bit."""
    assert isinstance(architecture, PipelineArchitecture)
    assert isinstance(tier.tensors, PipelineTable)
    older = {
        one.name: replace(one, single_precision=(*one.single_precision, "wo"))
        for one in architecture.components
        if one.cls == "T5EncoderModel"
    }
    parts = tuple((older.get(one.name, one), how) for one, how in tier.tensors.parts)
    components = tuple(older.get(one.name, one) for one in architecture.components)
    return replace(tier, tensors=PipelineTable(parts), architecture=replace(architecture, components=components))


def _workload(architecture: object, tier: Tier, row: Mapping[str, str]) -> Workload:
    assert isinstance(architecture, PipelineArchitecture)
    usual = PipelineOptions(
        size=(int(row["width"]), int(row["height"])),
        frames=int(row["frames"]) if row["frames"] else None,
        steps=int(row["steps"]) if row["steps"] else None,
        batch=int(row["batch"] or 1),
        # one forward of a denoiser alone was measured with one sample, without guidance's second
        cfg=None if row["component_scope"] == _PIPELINE else 1.0,
    )
    return workload_for(architecture.tasks[0], architecture, tier, usual)


def _machine(card: Card) -> Machine:
    return Machine((Gpu(card, Link(card.pcie_generation, card.pcie_lanes), card.memory, vram_override=card.memory),))
