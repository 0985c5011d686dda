"""The parts of llama.cpp's seconds, so that a record of some layers on the host corrects the host and not the card."""

from __future__ import annotations

from dataclasses import replace

from fitcheck.runtimes.llamacpp.seconds import best_units
from fitcheck.runtimes.llamacpp.token_passes import TokenRun, batch_seconds, token_seconds
from fitcheck.runtimes.llamacpp.token_rates import fitted
from fitcheck.runtimes.llamacpp.weight_placement import HOST
from fitcheck.speed.timing import Strand, Timing

PROMPT, GENERATION = "prompt", "generation"
_PROMPT_PARTS = ("prompts on the card", "prompts with the host")
_GENERATION_PARTS = ("reading on the card", "reading on the host")


def generation_timing(run: TokenRun) -> Timing | None:
    """Seconds of a generated token; ``None`` without the card's bandwidth."""
    seconds = token_seconds(run, fitted())
    alone = token_seconds(_without_host(run), fitted()) if run.gpus else 0.0
    return None if seconds is None or alone is None else _timing(_GENERATION_PARTS, 1.0, alone, seconds)


def prompt_timing(run: TokenRun) -> Timing | None:
    """Seconds of a prompt's token, read in micro-batches; ``None`` without a rate for them."""
    batch = max(run.options.micro, 1)
    seconds = batch_seconds(run, batch, fitted())
    alone = batch_seconds(_without_host(run), batch, fitted()) if run.gpus else 0.0
    if seconds is None or alone is None:
        return None
    return _timing(_PROMPT_PARTS, 1 / (batch * best_units(run)), alone, seconds)


def _without_host(run: TokenRun) -> TokenRun:
    return replace(run, works={index: work for index, work in run.works.items() if index != HOST})


def _timing(parts: tuple[str, str], count: float, alone: float, seconds: float) -> Timing:
    return Timing(parts, (Strand(count, (min(alone, seconds), max(seconds - alone, 0.0))),))
