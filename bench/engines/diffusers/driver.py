"""Jobs of diffusers pipelines: the runtime's own questions, for what the bench can build."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from bench.engines.base import Driver, Engine
from bench.engines.diffusers.put_beside import controlnet_of, require_peft
from bench.engines.diffusers.recipes import known, recipe
from bench.job import Job, Request
from bench.preflight import require_disk
from fitcheck.errors import OptionError
from fitcheck.models import catalog
from fitcheck.models.workload import Product, Task
from fitcheck.runtimes.diffusers.offloading import policy_of

STEPS = 4
TINY_SIZE = (128, 128)
# two denoising steps: the second finds every cache that the first filled, and is like all that follow
PROBE_STEPS = 2
MAXIMUM_POLICY = 64  # letters (fitcheck/records/fields.py, Label)
# how weights may be stored for the bench to make them: as they compute, cast layer by layer, in ggml's blocks or
# bitsandbytes'
FORMATS = ("safetensors", "layerwise", "gguf", "bitsandbytes")


class PipelineDriver(Driver):
    """See ``bench.engines.base.Driver``. Pipelines compute in the types of their components, so no one type is said."""

    name = "diffusers"

    def defaults(self, request: Request, task: str | None = None) -> dict[str, Any]:
        """No offload, and few steps: what a step takes is what is asked."""
        steps = PROBE_STEPS if request.tiny else STEPS
        found: dict[str, Any] = {"mode": "group-leaf-stream" if request.search else "none", "steps": steps}
        if request.tiny and known(request.target):
            small = recipe(request.target)
            usual = small.architecture.defaults
            found["size"] = (usual.width, usual.height) if small.style.one_size else TINY_SIZE
            if task is not None and Task(task).produces is Product.VIDEO:
                found["frames"] = small.architecture.frames_from(small.architecture.vae_scale_temporal + 1)
        return found

    def check(self, job: Job) -> None:
        """Refuses what the bench cannot build or fill."""
        recipe(job.model)
        tier = catalog.get(job.model).tier(job.tier)
        if tier is None or tier.format not in FORMATS or "+" in job.tier:
            raise OptionError(
                f"--tier: the bench makes no weights for {job.tier}; it makes 16-bit, fp8, bitsandbytes and GGUF "
                "tiers of a denoiser."
            )
        if tier.format == "bitsandbytes" and find_spec(tier.format) is None:
            raise OptionError(f"--tier: {job.tier} is made by bitsandbytes; get it with: pip install bitsandbytes")
        if job.placement.get("controlnet"):
            controlnet_of(recipe(job.model, bool(job.workload.references)))
        if job.placement.get("load_lora_weights"):
            require_peft()
            if len(policy_of(job.placement) or "") > MAXIMUM_POLICY:
                raise OptionError("--load-lora-weights: a record has no room for so many layers; name fewer, or none.")
        if job.placement.get("offload_to_disk") and not job.tiny:
            require_disk(tier.disk_bytes)
        if job.gguf is not None:
            raise OptionError("--gguf: pipelines run with synthetic weights only; leave it out.")

    def label(self, job: Job) -> str:
        """``flux.1-dev Q4_K_S model 1024×1024 4 steps``."""
        work = job.workload
        size = f"{work.width}×{work.height}" + (f"×{work.frames}" if work.frames > 1 else "")
        words = [job.model, job.tier, job.placement.mode, size, f"{work.steps} steps"]
        words += [f"batch {work.batch}"] if work.batch > 1 else []
        return ("tiny " if job.tiny else "") + " ".join(words)

    def probe_steps(self, job: Job) -> int | None:
        """Two steps show the peak."""
        return PROBE_STEPS if job.workload.steps > PROBE_STEPS else None

    def build(self, job: Job) -> Engine:
        """The engine, which imports torch."""
        from bench.engines.diffusers.engine import PipelineEngine

        return PipelineEngine(job)


DRIVER = PipelineDriver()
