"""Traces the components of the bench's pipelines and packs them: ``python scripts/pack_traces.py [SLUG …]``.

Writes ``fitcheck/runtimes/diffusers/data/traces/<key>.json.gz``; a component that several pipelines share is traced
with the first that is named, and one that is there already is left. Needs the extra ``bench``; minutes of one core
for each pipeline.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from bench.engines.diffusers import surveys
from bench.engines.diffusers.recipes import ComponentRecipe, recipe
from bench.tracing.packing import Unpackable, pack, pack_whole

SLUGS = (
    "flux.1-dev", "sdxl", "wan2.2-ti2v-5b", "z-image-turbo", "flux.2-klein-9b", "qwen-image", "wan2.2-t2v-a14b",
    "flux.2-klein-4b", "sd3.5-medium", "wan2.1-t2v-1.3b", "chroma1-hd", "flux.1-schnell", "sd3.5-large", "krea-2-turbo",
    "lumina-2", "pixart-sigma", "sd1.5", "cogvideox-5b", "cogvideox-2b",
)  # fmt: skip
FOLDER = Path(__file__).parents[1] / "fitcheck/runtimes/diffusers/data/traces"


def pack_pipeline(slug: str, done: set[str]) -> None:
    """Traces a pipeline and writes what can be packed."""
    found = recipe(slug)
    wanted = tuple(name for name, part in found.parts.items() if key_of(part) not in done)
    if not wanted:
        return
    survey = surveys.PipelineSurvey(found)
    survey.run(surveys.requests_of(found), wanted)
    calls: dict[str, dict[str, Any]] = {}
    for (name, method), recordings in survey.found.items():
        part = found.parts[name]
        if name in wanted and key_of(part) not in done:
            whole = survey.whole.get((name, method))
            packed = packed_of(f"{slug} {name} {method}", name, part, method, recordings, whole)
            calls.setdefault(key_of(part), {}).update(packed)
    for key, methods in calls.items():
        if methods:
            write(key, next(part for part in found.parts.values() if key_of(part) == key), methods)
            done.add(key)


def key_of(part: ComponentRecipe) -> str:
    """The key of a trace: fp32 has other sizes than the two 16-bit types, which share theirs."""
    return part.trace + (".fp32" if part.computes == "float32" else "")


def packed_of(
    label: str, name: str, part: ComponentRecipe, method: str, recordings: list[Any], whole: list[Any] | None
) -> dict[str, Any]:
    """The method for one picture, and for several at once where enough was traced."""
    variables, terms = variables_of(name, part)
    loop = surveys.LOOPS.get(part.cls) if method == "decode" else None
    found = {}
    single = [row for row in recordings if row[0]["batch"] == 1]
    for variant, rows in ((method, single), (f"{method}@batched", [row for row in recordings if row not in single])):
        if not rows:
            continue
        try:
            packed = pack(rows, variables, terms, loop) if whole is None else pack_whole(rows, whole, variables, terms)
        except Unpackable as error:
            print(f"{label} {variant}: {error}", flush=True)
            continue
        # a tokenizer of one length makes one size: nothing to fit, and nothing to check
        if packed["checks"] > 0 or (name.startswith("text_encoder") and len(rows) == 1):
            found[variant] = packed
        else:
            print(f"{label} {variant}: {len(rows)} sizes are too few to check it", flush=True)
    return found


def variables_of(name: str, part: ComponentRecipe) -> tuple[tuple[str, ...], list[surveys.Term]]:
    """The size variables of a component, and the terms that its bytes may have."""
    if name.startswith("text_encoder"):
        return surveys.TEXT, surveys.TEXT_TERMS
    if name == "vae" or part.cls.startswith("UNet"):
        return surveys.PIXELS, surveys.PIXEL_TERMS
    return surveys.TOKENS, surveys.TOKEN_TERMS


def write(key: str, part: ComponentRecipe, calls: dict[str, Any]) -> None:
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
        print(f"{key} {method}: {len(one['events'])} events, {len(one['polynomials'])} polynomials, "
              f"{one['checks']} checks, {target.stat().st_size} bytes", flush=True)  # fmt: skip


def main() -> None:
    """Packs the pipelines named, or all."""
    done = {path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.gz")}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for slug in sys.argv[1:] or SLUGS:
        started = time.time()
        try:
            pack_pipeline(slug, done)
        except Exception:  # a pipeline that cannot be traced must not cost the others
            traceback.print_exc()
        print(f"{slug}: {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
