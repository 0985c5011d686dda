"""A live trace of every pipeline's denoiser at a size that nobody packed: seconds of the processor and memory.

    python benchmarks/live_trace.py [MODEL ...]

Each is a fresh process, imports counted, as `python -m bench.engines.diffusers.live` is. Bar: 8 s and 1.5 GB.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bench.engines.diffusers.recipes import recipe
from fitcheck.errors import FitcheckError
from fitcheck.models import catalog

BAR_SECONDS, BAR_BYTES = 8.0, 1.5e9


def odd_size(slug: str) -> str:
    """Thirteen sixteenths of the usual width, as near as the model can make."""
    shape = recipe(slug).architecture
    step = max(16, shape.size_multiple)
    return f"{max(step, shape.defaults.width * 13 // 16 // step * step)}x{shape.defaults.height}"


def traced(slug: str) -> tuple[float, int, str]:
    """Seconds of the processor, bytes of the process at its largest, and what it printed last."""
    words = [sys.executable, "-m", "bench.engines.diffusers.live", slug, "--size", odd_size(slug)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, said.strip().splitlines()[-1]


def buildable() -> list[str]:
    """Models of the catalog that the bench builds."""
    found = []
    for slug in catalog.slugs():
        try:
            recipe(slug)
        except FitcheckError:
            continue
        found.append(slug)
    return found


def main() -> None:
    """One line a model, and how many hold the bar."""
    slugs, held = sys.argv[1:] or buildable(), 0
    for slug in slugs:
        seconds, size, said = traced(slug)
        held += seconds <= BAR_SECONDS and size <= BAR_BYTES
        print(f"{seconds:5.2f} s {size / 1e9:5.2f} GB  {said}", flush=True)
    print(f"{held} of {len(slugs)} within {BAR_SECONDS:.0f} s and {BAR_BYTES / 1e9} GB")


if __name__ == "__main__":
    main()
