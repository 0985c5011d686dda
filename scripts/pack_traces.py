"""Traces the components of the bench's pipelines and packs them: ``python scripts/pack_traces.py [SLUG …]``.

Writes ``fitcheck/runtimes/diffusers/data/traces/<key>.json.gz``; a component that several pipelines share is traced
with the first that is named. Needs the extra ``bench``; minutes of one core for each pipeline.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import diffusers
import torch
import transformers

from bench.engines.diffusers.recipes import RECIPES, Part
from bench.tracing import surveys
from bench.tracing.packing import Unpackable, pack

FOLDER = Path(__file__).parents[1] / "fitcheck/runtimes/diffusers/data/traces"


def pack_pipeline(slug: str, done: set[str]) -> None:
    """Traces a pipeline and writes what can be packed."""
    recipe, scales = RECIPES[slug], surveys.SCALES[slug]
    wanted = tuple(name for name, part in recipe.parts.items() if part.trace not in done)
    if not wanted:
        return
    texts = (256, 384, 512) if scales.hidden == 0 else (290, 162, 418)
    unit = 128 if recipe.video and scales.latent == 16 else 64
    survey = surveys.Survey(recipe, scales)
    survey.run(surveys.requests_of(recipe.video, texts, unit), wanted)
    calls: dict[str, dict[str, object]] = {}
    for (name, method), recordings in survey.found.items():
        part = recipe.parts[name]
        if part.trace in done:
            continue
        variables, terms = variables_of(name, part)
        loop = surveys.LOOPS.get(part.cls) if method == "decode" else None
        try:
            calls.setdefault(part.trace, {})[method] = pack(recordings, variables, terms, loop)
        except Unpackable as error:
            print(f"{slug} {name} {method}: {error}", flush=True)
    for key, packed in calls.items():
        part = next(part for part in recipe.parts.values() if part.trace == key)
        write(key, part, packed)
        done.add(key)


def variables_of(name: str, part: Part) -> tuple[tuple[str, ...], list[surveys.Term]]:
    """The size variables of a component, and the terms that its bytes may have."""
    if name.startswith("text_encoder"):
        return surveys.TEXT, surveys.TEXT_TERMS
    if name == "vae" or part.cls.startswith("UNet"):
        return surveys.PIXELS, surveys.PIXEL_TERMS
    return surveys.TOKENS, surveys.TOKEN_TERMS


def write(key: str, part: Part, calls: dict[str, dict[str, object]]) -> None:
    """One packed trace."""
    document = {
        "version": 1,
        "made_by": "scripts/pack_traces.py",
        "class": part.cls,
        "software": {
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
        },
        "calls": calls,
    }
    target = FOLDER / f"{key}.json.gz"
    target.write_bytes(gzip.compress(json.dumps(document, separators=(",", ":")).encode(), 9, mtime=0))
    for method, one in calls.items():
        print(f"{key} {method}: {len(one['events'])} events, {len(one['polynomials'])} polynomials, "  # type: ignore[arg-type]
              f"{one['checks']} checks, {target.stat().st_size} bytes", flush=True)  # fmt: skip


def main() -> None:
    """Packs the pipelines named, or all."""
    done: set[str] = set()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for slug in sys.argv[1:] or RECIPES:
        started = time.time()
        pack_pipeline(slug, done)
        print(f"{slug}: {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
