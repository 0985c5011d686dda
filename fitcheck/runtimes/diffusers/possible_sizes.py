"""Sizes that a denoiser cannot make, multiples or not: its tables of positions end, or are of one size."""

from __future__ import annotations

from math import sqrt

from fitcheck.errors import OptionError
from fitcheck.models.families.pipeline.architecture import DENOISER, Component, PipelineArchitecture


def check_positions(size: tuple[int, int], arch: PipelineArchitecture) -> None:
    """Raises OptionError for a size without positions, naming one that has them."""
    for component in arch.components:
        if component.role == DENOISER:
            _check_learned(size, arch, component)
            _check_area(size, arch, component)
            _check_longest(size, arch, component)


def _check_learned(size: tuple[int, int], arch: PipelineArchitecture, component: Component) -> None:
    """CogVideoX learned a position for each cell of one size (embeddings.py, CogVideoXPatchEmbed of diffusers)."""
    sides = _number(component, "sample_width"), _number(component, "sample_height")
    only = (sides[0] * arch.vae_scale_spatial, sides[1] * arch.vae_scale_spatial)
    if component.config.get("use_learned_positional_embeddings") is True and all(only) and size != only:
        raise OptionError(
            f"--size: {size[0]}x{size[1]} is no size of this pipeline; it has positions for {only[0]}x{only[1]} alone."
        )


def _check_area(size: tuple[int, int], arch: PipelineArchitecture, component: Component) -> None:
    """HiDream brings every size to one area, of the same shape (pipeline_hidream_image.py of diffusers)."""
    longest = component.config.get("max_resolution")
    side = longest[0] if isinstance(longest, list | tuple) and longest else 0
    if not isinstance(side, int) or side < 1:
        return
    scale, step = sqrt((side * arch.vae_scale_spatial) ** 2 / (size[0] * size[1])), 2 * arch.vae_scale_spatial
    made = tuple(int(one * scale // step * step) for one in size)
    if made != size:
        raise OptionError(
            f"--size: this pipeline brings {size[0]}x{size[1]} to {made[0]}x{made[1]}, its own number of pixels; ask "
            "for that."
        )


def _check_longest(size: tuple[int, int], arch: PipelineArchitecture, component: Component) -> None:
    """Stable Diffusion 3 cuts positions from a square, Lumina 2 from a line for each side."""
    lengths = component.config.get("axes_lens")
    line = lengths[-1] if isinstance(lengths, list | tuple) and lengths and isinstance(lengths[-1], int) else 0
    cells = _number(component, "pos_embed_max_size") or line
    longest = cells * arch.patch * arch.vae_scale_spatial
    if longest > 0 and max(size) > longest:
        raise OptionError(
            f"--size: {size[0]}x{size[1]} is out of range; this pipeline has positions for sides of {longest} pixels."
        )


def _number(component: Component, name: str) -> int:
    value = component.config.get(name)
    return value if isinstance(value, int) and value > 0 else 0
