"""SenseNova-U1's jobs: every tier × task × mode × policy, each once, with the defaults of the bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.engines.base import Driver, Engine
from bench.engines.sensenova.weights_file import table_of, tier_of_file
from bench.job import Job, Request
from fitcheck.errors import OptionError
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task
from fitcheck.runtimes.sensenova.streaming import NEWEST_REVISION, UPSTREAM, Stream, streaming_of
from fitcheck.runtimes.sensenova.token_counts import tokens

# what an answer takes when nobody says: a few sentences; an interleaved answer writes about as much around each image
NEW_TOKENS = 128
STEPS, CFG = 8, 1.0
TINY_SIZE = (128, 128)
LARGEST_SIDE = 8192
# two denoising steps: the peak of the first has no cached velocity of an earlier one, the second is like every other
PROBE_STEPS = 2


class PictureDriver(Driver):
    """See ``bench.engines.base.Driver``. What attends is torch's choice, so ``--attention`` is not heard; nor is
    ``--think``: the bench does not think."""

    name = UPSTREAM
    unheard = frozenset({"attention", "think"})
    several = ("mode", "policy")
    dtype = "BF16"

    def tiers(self, request: Request, model: Model) -> Sequence[Tier]:
        """With ``--gguf`` alone the tier that the file is. Raises OptionError for one file and several tiers."""
        if request.gguf is not None and len(request.tiers) > 1:
            raise OptionError("--gguf is one file, so --tier takes one name: the tier to count it as.")
        if request.gguf is not None and not request.tiers and not request.tiny:
            request = replace(request, tiers=(tier_of_file(request.gguf, model),))
        return super().tiers(request, model)

    def defaults(self, request: Request, task: str | None = None) -> dict[str, Any]:
        """``STEPS`` steps without guidance in mode ``full``, or ``low`` for a search; answers of ``NEW_TOKENS``
        tokens."""
        found: dict[str, Any] = {"mode": "low" if request.search else "full", "steps": STEPS, "cfg": CFG, "images": 1}
        if request.tiny:
            found["size"] = TINY_SIZE
            if task in (Task.EDITING, Task.VQA):
                found["reference"] = (TINY_SIZE,)
        if task == Task.VQA:
            found["new_tokens"] = NEW_TOKENS
        if task == Task.INTERLEAVE:
            found["new_tokens"] = NEW_TOKENS * request.get("images", 1)
            found["prompt_tokens"] = tokens("interleave_prompt")
        return found

    def check(self, job: Job) -> None:
        """Raises InputError for a batch, for sides that are no multiples of 32, and for another model's file."""
        work = job.workload
        if work.batch != 1:
            raise OptionError(f"--batch: {work.batch} images at once are not measured yet; use a batch of 1.")
        for option, size in (("--size", (work.width, work.height)), *(("--reference", one) for one in work.references)):
            if any(side <= 0 or side % 32 or side > LARGEST_SIDE for side in size):
                raise OptionError(
                    f"{option}: {size[0]}x{size[1]} does not work; both sides are multiples of 32 from 32 to "
                    f"{LARGEST_SIDE}."
                )
        if job.gguf is not None:
            table_of(job)  # another model's file is refused here, before a process is started for it

    def label(self, job: Job) -> str:
        """``Q4_K_S low/ring t2i 2048×2048 8 steps cfg 1``."""
        work, streaming = job.workload, streaming_of(job.placement)
        mode = streaming.mode if streaming.stream is Stream.NOTHING else f"{streaming.mode}/{streaming.policy}"
        if streaming.revision != NEWEST_REVISION:
            mode += f" ({streaming.revision})"
        parts = [job.tier, mode, work.task.value]
        if work.task is not Task.VQA:
            parts += [f"{work.width}×{work.height}", f"{work.steps} steps", f"cfg {work.cfg:g}"]
        if work.references:
            parts.append("ref " + "+".join(f"{width}×{height}" for width, height in work.references))
        if work.task is Task.INTERLEAVE:
            parts.append(f"{work.images} image(s)")
        if work.task in (Task.VQA, Task.INTERLEAVE):
            parts.append(f"{work.new_tokens} tokens")
        if work.batch > 1:
            parts.append(f"batch {work.batch}")
        return ("tiny " if job.tiny else "") + " ".join(parts)

    def probe_steps(self, job: Job) -> int | None:
        """``PROBE_STEPS`` where the job has more; ``None`` for answers, which have no steps to leave out."""
        shortened = job.workload.task is not Task.VQA and job.workload.steps > PROBE_STEPS
        return PROBE_STEPS if shortened else None

    def tier(self, job: Job) -> Tier | None:
        """With the tensors of the given GGUF file in place of the catalog's."""
        found = super().tier(job)
        return found if found is None or job.gguf is None else replace(found, tensors=table_of(job))

    def table(self, job: Job) -> TensorTable:
        """The table of the job's file, of its tier, or of the tiny model."""
        return table_of(job)

    def environment(self, job: Job) -> dict[str, str]:
        """``ring`` runs on expandable segments, so that freed activations and caches of any size share one segment."""
        if streaming_of(job.placement).policy == "ring":
            return {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
        return {}

    def build(self, job: Job) -> Engine:
        """The engine on the job's device; torch is imported here and not before."""
        from bench.engines.sensenova.engine import PictureEngine

        return PictureEngine(job)


DRIVER = PictureDriver()
