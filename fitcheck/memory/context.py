"""What a CUDA process takes from the card beside torch's allocator."""

from __future__ import annotations

from functools import cache

from fitcheck.data_files import load
from fitcheck.units import Interval


@cache
def context(compute_capability: tuple[int, int] | None, *, second_stream: bool, nvidia: bool = True) -> Interval[int]:
    """CUDA context, modules and libraries after the first matrix product; a second stream adds its own. What other
    vendors' runtimes take is not known and as wide as that."""
    table = load("memory", "allocator")["context"]
    row = table["measured"].get("default" if compute_capability is None else "{}.{}".format(*compute_capability))
    low, best, high = (row or table["elsewhere" if nvidia else "unmeasured"])["bytes"]
    if second_stream:
        best += table["second_stream"]["bytes"]
    return Interval(low, min(best, high), high)
