"""SenseNova-U1 through its community ComfyUI node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from fitcheck.runtimes.sensenova.options import NodeOptions, PictureOptions
from fitcheck.runtimes.sensenova.runtime import PictureRuntime
from fitcheck.runtimes.sensenova.streaming import NODE, Streaming, comfyui

USUAL_COUNTS = (0, 1, 2, 8)


class ComfyuiNode(PictureRuntime):
    """See ``fitcheck.runtimes.base.Runtime``. Asked about by name alone: upstream's programs need less."""

    name = NODE
    options = NodeOptions
    offered = False
    modes: ClassVar[Mapping[str, str]] = {
        f"prefetch-{count}": "all weights on the card" if not count else f"streams layers, {count} ahead"
        for count in USUAL_COUNTS
    }

    def streamings(self, options: PictureOptions) -> Iterator[Streaming]:
        """One placement for each count of prefetched layers, the usual ones when none was asked for."""
        assert isinstance(options, NodeOptions)
        counts = USUAL_COUNTS if options.prefetch_count is None else (options.prefetch_count,)
        return (comfyui(count) for count in counts)


RUNTIME = ComfyuiNode()
