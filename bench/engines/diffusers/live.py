"""A denoiser traced at one size, now: ``python -m bench.engines.diffusers.live MODEL [--size WxH] [--frames N]``.

For a size or a class that no packed trace knows. Two blocks of each kind run on fake tensors, with the inputs that the
pipeline itself hands over; what one block frees is there for the next, so that the peak is that of all.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench.engines.diffusers.recipes import recipe
from fitcheck.errors import InputError, MeasurementError
from fitcheck.units import MIB


@dataclass(frozen=True, slots=True)
class LiveTrace:
    """Most bytes alive at once beside weights, and bytes handed in, of one call of the first denoiser."""

    peak: int
    inputs: int


def live_trace(slug: str, width: int, height: int, frames: int = 1) -> LiveTrace:
    """One call of the denoiser for a picture or video of that size. Raises MeasurementError for a model that the bench
    does not build, or a class that the installed diffusers lacks."""
    from bench.engines.diffusers.surveys import PipelineRequest, PipelineSurvey, shallow
    from bench.engines.diffusers.traced import Traced

    found = recipe(slug)
    survey = PipelineSurvey(found)
    parts = {name: shallow(part) for name, part in found.parts.items()}
    reference = (width, height) if found.needs_pictures else None
    request = PipelineRequest(width, height, frames if found.video else 1, 1, found.text, reference)
    name = found.denoisers[0]
    calls = Traced(replace(found, parts=parts)).calls(request.text, name, (name,), **survey.arguments(request))
    recording = next(one.recording for one in calls if one.component == name)
    return LiveTrace(recording.peak(), recording.inputs)


@contextmanager
def quick_imports() -> Iterator[None]:
    """For a process of its own: modules that are imported in it stay, so that nobody need look for garbage among them,
    and scipy, which diffusers and transformers load where they find it, serves their schedulers and losses alone.
    Together a quarter of the seconds of a trace."""
    sys.modules.setdefault("scipy", None)  # type: ignore[arg-type]  # import's own way to say that there is none
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def main(arguments: Sequence[str] | None = None) -> None:
    """Traces and prints."""
    parser = argparse.ArgumentParser(description="Trace a pipeline's denoiser at one size.")
    parser.add_argument("model")
    parser.add_argument("--size", help="width x height in pixels")
    parser.add_argument("--frames", type=int)
    asked = parser.parse_args(arguments)
    try:
        usual = recipe(asked.model).architecture.defaults
        width, height = map(int, asked.size.split("x")) if asked.size else (usual.width, usual.height)
        with quick_imports():
            traced = live_trace(asked.model, width, height, asked.frames or usual.frames)
    except (InputError, MeasurementError) as error:
        raise SystemExit(f"Error: {error}") from error
    print(f"{asked.model} {width}x{height}: {traced.peak / MIB:.1f} MiB beside weights, "
          f"{traced.inputs / MIB:.1f} MiB handed in")  # fmt: skip


if __name__ == "__main__":
    main()
