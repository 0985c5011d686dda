"""Jobs of diffusers pipelines."""

from __future__ import annotations

from bench.engines.base import Driver, Engine
from bench.job import Job


class PipelineDriver(Driver):
    """See ``bench.engines.base.Driver``."""

    name = "diffusers"
    dtype = "BF16"

    def label(self, job: Job) -> str:
        """``flux.1-dev Q4_K model 1024×1024 4 steps``."""
        work = job.workload
        frames = getattr(work, "frames", 1)
        size = f"{work.width}×{work.height}" + (f"×{frames}" if frames > 1 else "")
        return ("tiny " if job.tiny else "") + f"{job.model} {job.tier} {job.placement.mode} {size} {work.steps} steps"

    def build(self, job: Job) -> Engine:
        from bench.engines.diffusers.engine import PipelineEngine

        return PipelineEngine(job)


DRIVER = PipelineDriver()
