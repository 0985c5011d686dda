"""What layers that come without a stream reserve: whole replays beside the sums that the estimate is made of.

``python benchmarks/pipelines_h100/replayed_leaves.py`` prints, for each cell, GiB of the replay, of the widest moment
of its calls and the quotient, of which ``unstreamed_leaves`` of ``allocator.json`` keeps the least, the median and the
largest. Weights and activations share one pool there, and a replay with both falls into other pieces than one of the
activations alone. No extra; a minute of one core.
"""

from __future__ import annotations

from statistics import median

from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.diffusers.estimate import Layout, widest_moment
from fitcheck.runtimes.diffusers.offloading import offload_of
from fitcheck.runtimes.diffusers.replay import replay
from fitcheck.runtimes.diffusers.runtime import RUNTIME, architecture_of
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.units import GIB

CELLS = (
    ("flux.1-dev", "bf16"), ("flux.1-dev", "Q4_K_S"), ("sdxl", "fp16"), ("z-image", "bf16"),
    ("z-image-turbo", "Q4_K_S"), ("qwen-image", "Q4_K_S"), ("chroma1-hd", "Q8_0"), ("wan2.1-t2v-1.3b", "bf16"),
    ("lumina-2", "bf16"), ("sd3.5-medium", "bf16"), ("ltx-video-0.9.7-13b", "Q8_0"),
)  # fmt: skip


def main() -> None:
    """Every cell at its pipeline's own size, on a card that decodes whole."""
    machine, wanted, shares = asked_machine("H100 SXM", ram=128 * GIB), Wanted().with_(mode=("group-leaf",)), []
    for slug, tier in CELLS:
        model = catalog.get(slug)
        ask = next(iter(RUNTIME.asks(model, (model.tier_named(tier),), wanted, machine)))
        arch, offload = architecture_of(ask), offload_of(ask.placement)
        stages, layout = stages_of(arch, ask.workload, offload), RUNTIME.footprint(ask).layout
        assert isinstance(layout, Layout)
        found, summed = replay(arch, ask.tier, offload, stages), widest_moment(layout.stages, stages)
        assert found is not None
        shares.append(found.reserved / summed)
        print(f"{slug} {tier}: {found.reserved / GIB:.2f} of {summed / GIB:.2f} GiB, {shares[-1]:.2f}")
    print(f"least {min(shares):.2f}, median {median(shares):.2f}, largest {max(shares):.2f}")


if __name__ == "__main__":
    main()
