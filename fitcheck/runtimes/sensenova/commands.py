"""The commands that download and run a cell, as upstream's scripts take them."""

from __future__ import annotations

import shlex
from functools import lru_cache

from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.streaming import Placement

_FOLDER = "models"


@lru_cache(maxsize=1024)
def download(model: Model, tier: Tier) -> tuple[str, ...]:
    """How to get a tier's files; empty when nobody publishes them."""
    if tier.local_path is not None or tier.repository is None:
        return ()
    if tier.file is None:
        return (f"hf download {shlex.quote(tier.repository)}",)
    return (f"hf download {shlex.quote(tier.repository)} {shlex.quote(tier.file)} --local-dir {_FOLDER}",)


@lru_cache(maxsize=1024)
def run(model: Model, tier: Tier, placement: Placement, workload: Workload) -> tuple[str, ...]:
    """Upstream's script for the task with this cell's sizes; empty for runtimes without a command line."""
    if placement.runtime != "sensenova" or placement.policy != "upstream" or model.repository is None:
        return ()
    words = ["python", f"examples/{workload.task}/inference.py", "--model_path", model.repository]
    path = tier.local_path or (f"{_FOLDER}/{tier.file}" if tier.file else None)
    if tier.format == "gguf":
        if path is None:
            return ()
        words += ["--gguf_checkpoint", path]
    words += ["--vram_mode", placement.mode]
    match workload.task:
        case Task.VQA:
            words += ["--image", "photo.png", "--question", "What is in this picture?"]
        case Task.EDITING:
            # the script enlarges every image to four megapixels otherwise
            words += ["--image", "photo.png", "--no-do_resize", "--prompt", "Make the sky red"]
        case _:
            words += ["--prompt", "A poster of a lighthouse"]
    if workload.task is not Task.VQA:
        words += ["--width", str(workload.width), "--height", str(workload.height), "--num_steps", str(workload.steps)]
        words += ["--cfg_scale", f"{workload.cfg:g}"]
        if tier.distilled_steps is not None:
            words += ["--cfg_norm", "none", "--timestep_shift", "3.0"]
        words += ["--output", "output.png"]
    return (shlex.join(words),)


def convert(model: Model, tier: Tier) -> tuple[str, ...]:
    """How a checkpoint becomes a GGUF tier with llama.cpp's own tools; empty when it is not known where it lies."""
    source = model.repository or model.slug
    folder = source if model.repository is None else f"{_FOLDER}/{source.rpartition('/')[2]}"
    fetch = () if model.repository is None else (shlex.join(["hf", "download", source, "--local-dir", folder]),)
    whole, made = f"{source.rpartition('/')[2]}-BF16.gguf", tier.file or f"{tier.name}.gguf"
    to_gguf = ["python", "convert_hf_to_gguf.py", folder, "--outtype", "bf16", "--outfile"]
    if tier.name == "BF16":
        return (*fetch, shlex.join([*to_gguf, made]))
    return (*fetch, shlex.join([*to_gguf, whole]), shlex.join(["llama-quantize", whole, made, tier.name]))
