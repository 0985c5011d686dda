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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from bench.engines.diffusers import surveys
from bench.engines.diffusers.put_beside import with_controlnet
from bench.engines.diffusers.recipes import ComponentRecipe, Recipe, recipe
from bench.tracing.packing import Unpackable, pack, pack_whole
from bench.tracing.recorder import ALLOCATE, WORKSPACE, Recording
from fitcheck.models.families.pipeline.architecture import (
    AUDIO,
    CONNECTOR,
    CONTROLNET,
    DENOISER,
    IMAGE_ENCODER,
    TEXT_ENCODER,
    VAE,
)
from fitcheck.runtimes.diffusers.stages import CONTROLLED

SLUGS = (
    "flux.1-dev", "sdxl", "wan2.2-ti2v-5b", "z-image-turbo", "flux.2-klein-9b", "qwen-image", "wan2.2-t2v-a14b",
    "flux.2-klein-4b", "sd3.5-medium", "wan2.1-t2v-1.3b", "chroma1-hd", "flux.1-schnell", "sd3.5-large", "krea-2-turbo",
    "lumina-2", "pixart-sigma", "sd1.5", "cogvideox-5b", "cogvideox-2b",
)  # fmt: skip
FOLDER = Path(__file__).parents[1] / "fitcheck/runtimes/diffusers/data/traces"


def pack_pipeline(slug: str) -> None:
    """Traces a pipeline, and the class that takes its pictures, and writes what can be packed."""
    pack_recipe(slug, recipe(slug))
    if recipe(slug, pictured=True).apart:
        pack_recipe(slug, recipe(slug, pictured=True))
    if recipe(slug).architecture.controlnet is not None:
        pack_recipe(slug, with_controlnet(recipe(slug)))


def pack_recipe(slug: str, found: Recipe) -> None:
    """Traces one class of a pipeline and writes what can be packed."""
    wanted = tuple(name for name, part in found.parts.items() if missing(found, name, part))
    if not wanted:
        return
    survey = surveys.PipelineSurvey(found)
    survey.run(surveys.requests_of(found), wanted)
    calls: dict[str, dict[str, Any]] = {}
    for (name, method), recordings in survey.found.items():
        part = found.parts[name]
        whole = survey.whole.get((name, method))
        packed = packed_of(f"{slug} {name} {method}", found, name, method, recordings, whole)
        known = {*there(key_of(part)), *calls.get(key_of(part), ())}
        calls.setdefault(key_of(part), {}).update({call: one for call, one in packed.items() if call not in known})
    for key, methods in calls.items():
        if methods:
            write(key, next(part for part in found.parts.values() if key_of(part) == key), methods)


def missing(found: Recipe, name: str, part: ComponentRecipe) -> bool:
    """Whether calls of a component that the pipeline makes are in no trace."""
    calls = {call.partition("@")[0] for call in there(key_of(part))}
    role = found.architecture.component(name).role
    if role == DENOISER and found.guide:
        return CONTROLLED not in calls
    if role == DENOISER and (found.apart or found.architecture.keeps_prefix):
        return not pictured(key_of(part))
    made = {"decode", *(("encode",) if found.style.pictures else ())} if role == VAE else {"decode"}
    return not (calls & {"forward"} or calls >= made) or (seen(found, role) and not pictured(key_of(part)))


def seen(found: Recipe, role: str) -> bool:
    """Whether a component is shown pictures beside the prompt."""
    return role == TEXT_ENCODER and found.style.vision is not None


def pictured(key: str) -> bool:
    """Whether a trace has calls with pictures."""
    return any(call.endswith("@pictured") for call in there(key))


def there(key: str) -> Mapping[str, Any]:
    """The calls that a trace has."""
    file = FOLDER / f"{key}.json.gz"
    if not file.is_file():
        return {}
    calls: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))["calls"]
    return calls


def key_of(part: ComponentRecipe) -> str:
    """The key of a trace: fp32 has other sizes than the two 16-bit types, which share theirs."""
    return part.trace + (".fp32" if part.computes == "float32" else "")


Rows = list[tuple[dict[str, int], Recording]]


def packed_of(
    label: str, found: Recipe, name: str, method: str, recordings: Rows, whole: Rows | None
) -> dict[str, Any]:
    """The method for one picture, for several at once, and with pictures handed in, where enough was traced."""
    role, part = found.architecture.component(name).role, found.parts[name]
    variables, terms = variables_of(found, role, part)
    several = any(sizes.get("frames", 1) > 1 for sizes, _ in recordings)
    loop = surveys.LOOPS.get((part.cls, method)) if several else None
    packed: dict[str, Any] = {}
    for variant, rows in variants(found, role, method, recordings, loop is not None):
        asked = [sizes for sizes, _ in rows]
        full = None if whole is None else [row for row in whole if row[0] in asked]
        try:
            one = pack(rows, variables, terms, loop) if full is None else pack_whole(rows, full, variables, terms)
        except Unpackable as error:
            print(f"{label} {variant}: {error}", flush=True)
            continue
        # a tokenizer of one length, a pipeline of one size: nothing to fit, and nothing to check
        alone = role in (TEXT_ENCODER, IMAGE_ENCODER, CONNECTOR) or found.style.one_size
        if one["checks"] > 0 or (alone and len(distinct(rows)) == 1):
            packed[variant] = one
        else:
            print(f"{label} {variant}: {len(rows)} sizes are too few to check it", flush=True)
    return packed


def distinct(rows: Rows) -> set[tuple[tuple[str, int], ...]]:
    """The sizes of the rows."""
    return {tuple(sorted(sizes.items())) for sizes, _ in rows}


def variants(found: Recipe, role: str, method: str, recordings: Rows, repeats: bool) -> Iterator[tuple[str, Rows]]:
    """Name and recordings of each variant of a call: for several pictures at once, and with pictures handed in where
    that is another sequence of events."""
    for batched in (False, True):
        rows = [row for row in recordings if (row[0]["batch"] > 1) == batched]
        given = [row for row in rows if row[0].get("pictures")]
        plain = [row for row in rows if not row[0].get("pictures")]
        suffix = "@batched" if batched else ""
        if repeats:
            yield from ((method + suffix, rows),) if rows else ()
        elif role == TEXT_ENCODER:
            # a tower of vision cuts a picture into windows, whose number another shape changes
            yield from ((method + suffix, commonest(plain)),) if plain else ()
            square = max(by(given, "seen").values(), key=len, default=[])
            yield from ((method + "@pictured" + suffix, commonest(square)),) if square else ()
        elif given and role == DENOISER and (plain or found.apart):
            yield from ((method + suffix, commonest(plain)),) if plain else ()
            yield method + "@pictured" + suffix, commonest(given)
        elif rows:
            yield method + suffix, commonest(rows) if role in (DENOISER, CONTROLNET) else rows


def by(rows: Rows, variable: str) -> dict[int, Rows]:
    """The rows by the value of a variable."""
    groups: dict[int, Rows] = {}
    for row in rows:
        groups.setdefault(row[0][variable], []).append(row)
    return groups


def commonest(rows: Rows) -> Rows:
    """Those that share the commonest sequence: a first step may find latents of another type than later ones."""
    return max(sequences(rows).values(), key=len)


def sequences(rows: Rows) -> dict[tuple[str, ...], Rows]:
    """The rows by their sequence of events."""
    groups: dict[tuple[str, ...], Rows] = {}
    for sizes, recording in rows:
        shape = tuple(kind if kind in (ALLOCATE, WORKSPACE) else f"{kind}{value}" for kind, value in recording.events)
        groups.setdefault(shape, []).append((sizes, recording))
    return groups


def variables_of(found: Recipe, role: str, part: ComponentRecipe) -> tuple[tuple[str, ...], list[surveys.Term]]:
    """The size variables of a component, and the terms that its bytes may have."""
    if role in (TEXT_ENCODER, IMAGE_ENCODER, CONNECTOR):
        return surveys.TEXT, surveys.TEXT_TERMS
    if role == DENOISER and found.architecture.keeps_prefix:
        return surveys.PREFIXED, surveys.PREFIXED_TERMS
    if role == AUDIO:
        return surveys.SOUND, surveys.SOUND_TERMS
    if role == VAE or part.cls.startswith(("UNet", "ControlNet")):
        return surveys.PIXELS, surveys.PIXEL_TERMS
    return surveys.TOKENS, surveys.TOKEN_TERMS


def write(key: str, part: ComponentRecipe, calls: dict[str, Any]) -> None:
    """One packed trace, with the calls that it had before."""
    document = {
        "version": 1,
        "made_by": "scripts/pack_traces.py",
        "class": part.cls,
        "software": {
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
        },
        "calls": {**there(key), **calls},
    }
    target = FOLDER / f"{key}.json.gz"
    target.write_bytes(gzip.compress(json.dumps(document, separators=(",", ":")).encode(), 9, mtime=0))
    for method, one in calls.items():
        print(f"{key} {method}: {len(one['events'])} events, {len(one['polynomials'])} polynomials, "
              f"{one['checks']} checks, {target.stat().st_size} bytes", flush=True)  # fmt: skip


def main() -> None:
    """Packs the pipelines named, or all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for slug in sys.argv[1:] or SLUGS:
        started = time.time()
        try:
            pack_pipeline(slug)
        except Exception:  # a pipeline that cannot be traced must not cost the others
            traceback.print_exc()
        print(f"{slug}: {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
