"""llama.cpp for the bench: a GGUF file of a language model is run by the program that is installed here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.engines.base import Driver, Engine, FromOutside
from bench.job import Job, Request
from fitcheck.errors import MeasurementError
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.options import NEW_TOKENS, PROMPT_TOKENS, TextOptions
from fitcheck.runtimes.llamacpp.placement import NAME
from fitcheck.runtimes.options import between, read

if TYPE_CHECKING:
    from bench.meters import NvmlCard

MOST_TOKENS = 1 << 20


class TextDriver(Driver):
    """See ``bench.engines.base.Driver``. llama-bench takes its context from prompt and answer and runs one sequence;
    the build is the one that is installed."""

    name = NAME
    unheard = frozenset({"ctx", "sequences", "build", "host_bandwidth"})
    several = ()
    alone = "a GGUF file of a language model is run as llama.cpp chooses"

    def takes(self, target: str) -> bool:
        """A file name that ends in ".gguf", whatever its case."""
        return target.lower().endswith(".gguf")

    def measure(
        self, target: Path, request: Request, repeats: int, card: NvmlCard | None, root: Path | None = None
    ) -> FromOutside:
        """By llama-bench: one prompt length and one answer length, ``repeats`` times each. Raises InputError."""
        from bench.engines.llamacpp.measuring import run_llamacpp

        asked = read(TextOptions, Wanted(options=request.options))
        between("prompt_tokens", asked.prompt_tokens, 1, MOST_TOKENS)
        between("new_tokens", asked.new_tokens, 1, MOST_TOKENS)
        prompt, new = asked.prompt_tokens or PROMPT_TOKENS, asked.new_tokens or NEW_TOKENS
        done = run_llamacpp(
            target, _arguments(asked), prompt=(prompt,), new=(new,), repeats=repeats, card=card, root=root
        )
        return FromOutside(done.records, done.comparisons)

    def jobs(self, request: Request) -> tuple[Job, ...]:
        """Always raises MeasurementError: a model of the catalog is run from its file."""
        raise MeasurementError(f"model: {request.target} is run from its file; give the path of a GGUF file of it.")

    def build(self, job: Job) -> Engine:
        """Always raises MeasurementError: llama.cpp runs in a process of its own."""
        raise MeasurementError(f"{self.name} is measured from outside, never inside the bench's own process.")


def _arguments(asked: TextOptions) -> LlamaOptions:
    """What llama-bench is told of the placement; what nobody asked for stays its own choice."""
    keys, values = asked.cache_type or ("f16", "f16")
    return LlamaOptions(
        gpu_layers=asked.ngl,
        cpu_moe_layers=asked.n_cpu_moe or 0,
        cache_type_k=keys,
        cache_type_v=values,
        micro_batch=512 if asked.ubatch is None else asked.ubatch,
    )


DRIVER = TextDriver()
