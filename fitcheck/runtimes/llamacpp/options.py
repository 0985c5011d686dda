"""llama.cpp's options as people type them, declared once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fitcheck.errors import OptionError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.builds import Build, newest_build, parse_build
from fitcheck.runtimes.options import names, option

# llama-bench's own defaults of -p and -n, so that seconds can be compared with what people post
PROMPT_TOKENS, NEW_TOKENS = 512, 128
USUAL_CONTEXT, LEAST_CONTEXT = 8192, 2048
MOST_CONTEXT = 1 << 27
BANDWIDTH = (0.1, 100_000)  # GB/s that a host's memory can have
GIGA = 1e9


def _cache_types(text: str) -> tuple[str, str]:
    """ "q8_0" for both, or "q8_0,f16" for K and V."""
    types = names(text)
    if not 1 <= len(types) <= 2:
        raise OptionError(f"--cache-type: {text!r} are too many types; give one, or one each for K,V.")
    return types[0], types[-1]


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What is asked of a language model; ``None`` leaves the choice to fitcheck or to llama.cpp. ``host_bandwidth`` is
    in GB/s."""

    ctx: int | None = option(None, "Tokens of context; default: 8192 or the model's own.", type=int)
    prompt_tokens: int | None = option(None, "Tokens of the prompt; default 512.", type=int)
    new_tokens: int | None = option(None, "Tokens of the answer; default 128.", type=int)
    ngl: int | None = option(None, "Layers on the card; default: what is best.", type=int)
    n_cpu_moe: int | None = option(None, "Layers whose experts stay on the host.", type=int)
    cache_type: tuple[str, str] | None = option(
        None, "Type of the KV cache, like q8_0 or q8_0,f16 (K,V).", parse=_cache_types
    )
    ubatch: int | None = option(None, "Tokens of a micro-batch; default 512.", type=int)
    sequences: int | None = option(None, "Parallel sequences; default: the server's own.", type=int)
    build: Build | None = option(None, "Build: b9272, 2026-03 or ik_llama.cpp; default: newest.", parse=parse_build)
    host_bandwidth: float | None = option(None, "Bandwidth of system memory in GB/s.", type=float)

    def arguments(self, architecture: LanguageArchitecture) -> LlamaOptions:
        """llama.cpp's own options as far as they were asked. Raises OptionError for what cannot be."""
        keys, values = self.cache_type or ("f16", "f16")
        return LlamaOptions(
            context=self.context_of(architecture),
            gpu_layers=self.ngl,
            cpu_moe_layers=self.n_cpu_moe or 0,
            cache_type_k=keys,
            cache_type_v=values,
            micro_batch=512 if self.ubatch is None else self.ubatch,
            sequences=self.sequences,
            build=self.build or newest_build(),
        )

    def context_of(self, architecture: LanguageArchitecture) -> int:
        """Tokens of context: as asked, else the usual ones as far as the model was trained on them."""
        if self.ctx is not None:
            if not 1 <= self.ctx <= MOST_CONTEXT:
                raise OptionError(f"--ctx: {self.ctx} is out of range; give 1 to {MOST_CONTEXT}.")
            return self.ctx
        return min(architecture.context_length or USUAL_CONTEXT, USUAL_CONTEXT)

    def workload(self, context: int) -> Workload:
        """The answer that seconds are given for. Raises OptionError when the context cannot hold it."""
        prompt = self.prompt_tokens if self.prompt_tokens is not None else min(PROMPT_TOKENS, max(context // 2, 1))
        new = self.new_tokens if self.new_tokens is not None else min(NEW_TOKENS, max(context - prompt, 1))
        for flag, count in (("--prompt-tokens", prompt), ("--new-tokens", new)):
            if count < 1:
                raise OptionError(f"{flag}: {count} is out of range; give at least 1.")
        if prompt + new > max(context, 2):
            raise OptionError(
                f"--ctx: {context} tokens cannot hold a prompt of {prompt} and an answer of {new}; give at least "
                f"{prompt + new}."
            )
        return Workload(task=Task.CHAT, prompt_tokens=prompt, new_tokens=new, context=context)

    @property
    def bandwidth(self) -> float | None:
        """The host's bandwidth in B/s. Raises OptionError for what is none."""
        given = self.host_bandwidth
        if given is None:
            return None
        if not (math.isfinite(given) and BANDWIDTH[0] <= given <= BANDWIDTH[1]):
            raise OptionError(f"--host-bandwidth: {given:g} is out of range; give GB/s, like 51.2.")
        return given * GIGA
