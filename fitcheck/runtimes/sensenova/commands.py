"""The command that runs a cell, as upstream's scripts take it."""

from __future__ import annotations

import shlex

from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.downloads import FOLDER

_PROMPTS = {
    Task.VQA: ("--image", "photo.png", "--question", "What is in this picture?"),
    # the script enlarges every image to four megapixels otherwise
    Task.EDITING: ("--image", "photo.png", "--no-do_resize", "--prompt", "Make the sky red"),
}
_PROMPT = ("--prompt", "A poster of a lighthouse")


def run(ask: Ask) -> tuple[str, ...]:
    """Upstream's script for the task with this cell's sizes; empty where upstream's scripts cannot do it."""
    model, tier, workload = ask.model, ask.tier, ask.workload
    if ask.placement.get("policy") != "upstream" or model.repository is None:
        return ()
    words = ["python", f"examples/{workload.task}/inference.py", "--model_path", model.repository]
    if tier.format == "gguf":
        path = tier.local_path or (f"{FOLDER}/{tier.file}" if tier.file else None)
        if path is None:
            return ()
        words += ["--gguf_checkpoint", path]
    words += ["--vram_mode", ask.placement.mode, *_PROMPTS.get(workload.task, _PROMPT)]
    if workload.task is not Task.VQA:
        words += _picture(workload, distilled=tier.distilled_steps is not None)
    return (shlex.join(words),)


def _picture(workload: Workload, *, distilled: bool) -> list[str]:
    words = ["--width", str(workload.width), "--height", str(workload.height), "--num_steps", str(workload.steps)]
    words += ["--cfg_scale", f"{workload.cfg:g}"]
    if distilled:
        words += ["--cfg_norm", "none", "--timestep_shift", "3.0"]
    if workload.task is Task.INTERLEAVE:  # which thinks unless it is told not to
        return [*words, *([] if workload.think else ["--no-think_mode"]), "--output_dir", "outputs"]
    return [*words, *(["--think"] if workload.think else []), "--output", "output.png"]
