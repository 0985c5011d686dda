"""What convolutions and the kernels between them cost an autoencoder: by the numbers that it computes in, by the widths
of its layers, and by how many pictures it decodes at once."""

from __future__ import annotations

from typing import Any

from fitcheck.data_files import load
from fitcheck.models.families.pipeline.architecture import VAE, Component
from fitcheck.runtimes.diffusers.activations import Made
from fitcheck.runtimes.diffusers.card_work import groups_of
from fitcheck.runtimes.diffusers.stages import Stage
from fitcheck.runtimes.diffusers.tiling import ROOM

_SINGLE = "fp32"


def convolving(component: Component) -> float:
    """Seconds of an operation of the component's products over one at the card's 16-bit rate."""
    table = load(ROOM, "seconds")
    factor = float(table["single_precision"]["products"]) if component.dtype == _SINGLE else 1.0
    return factor * (table["odd_widths"]["factor"][component.dtype] if _has_odd_widths(component, table) else 1.0)


def _has_odd_widths(component: Component, table: dict[str, Any]) -> bool:
    """Whether the decoder's layers are as wide as no wide tile of cuDNN's kernels."""
    width = component.config.get("decoder_base_dim") or component.config.get("base_dim")
    return component.role == VAE and isinstance(width, int) and width % table["odd_widths"]["tile"] != 0


def moved_bytes(made: Made, stage: Stage) -> tuple[float, float]:
    """Bytes of elementwise kernels that wait for instructions, as many as a card moves in 16 bit in that time, and of
    those that bandwidth limits: an autoencoder's strided ones, and a transformer's over whole rows."""
    table = load(ROOM, "seconds")
    elementwise, copied = table["elementwise"], table["layouts"]["share"] * made.copied
    if stage.component.role != VAE:
        return copied + elementwise["waiting"] * made.traffic, elementwise["share"] * made.traffic
    moved = elementwise["decoding"] * made.traffic + copied
    if stage.component.dtype == _SINGLE:
        moved *= table["single_precision"]["bytes"]
    return moved + _turned_bytes(made, stage, table["turned"]), 0.0


def _turned_bytes(made: Made, stage: Stage, table: dict[str, Any]) -> float:
    """Of several pictures at once, what lies with channels last behind the middle's attention: each GroupNorm copies
    it back, one value a sector."""
    pictures = stage.sizes.get("batch", 1)
    if stage.component.role != VAE or pictures == 1 or not made.attention:
        return 0.0
    elements = made.grouped * groups_of(stage.component) * pictures
    cells = stage.sizes["height"] * stage.sizes["width"]
    return float(table["bytes"] * elements * min(1.0, (cells / table["cells"]) ** 0.5))
