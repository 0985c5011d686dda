"""What only this runtime can say of a cell: its stages, and what a reader should know."""

from __future__ import annotations

from typing import Any

from fitcheck.models.model import Tier
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers.laid_out import Laid, Layout
from fitcheck.runtimes.diffusers.offloading import NEAREST
from fitcheck.runtimes.diffusers.weights import weights_of
from fitcheck.speed.duration import Duration

# what data/seconds.json and fitcheck/speed/data/rates.json were fitted on
_SECONDS_REST_ON = (
    "Seconds of pipelines are traced operations at rates fitted on one H100, mostly from FLUX.1 [dev] and Stable "
    "Diffusion XL; other pipelines measured there test them. On other cards their range is wide."
)


def details_of(tier: Tier, layout: Layout) -> dict[str, Any]:
    """Every stage with its component, calls, and bytes of weights and activations; ``None`` where not traced."""
    return {"stages": [_stage(tier, one) for one in layout.stages]}


def _stage(tier: Tier, one: Laid) -> dict[str, Any]:
    made, stage = one.made, one.stage
    return {
        "phase": stage.phase,
        "component": stage.component.name,
        "class": stage.component.cls,
        "calls": stage.count,
        "weights": weights_of(tier, stage.component).on_card,
        "on_card": one.held.resident + one.held.window,
        "activations": None if made is None else made.peak,
        "workspaces": None if made is None else [made.scratch.low, made.scratch.best, made.scratch.high],
        "flops": None if made is None else made.flops,
    }


def notes_of(ask: Ask, wanted: Wanted, duration: Duration | None) -> tuple[str, ...]:
    """Names of other programs that were taken for diffusers' own, cards that no mode uses, and what seconds rest on."""
    typed = dict(wanted.options).get("mode") or ()
    notes = [f"--mode {name} is diffusers' {NEAREST[name]} here." for name in typed if name in NEAREST]
    if len(ask.machine.gpus) > 1:
        notes.append("Every mode here runs on one card; the others stay idle (device_map is not modelled).")
    if duration is not None:
        notes.append(_SECONDS_REST_ON)
    return tuple(notes)
