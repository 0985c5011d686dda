"""Seconds of one generated token and of one micro-batch over all devices of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from fitcheck.hardware.machine import Gpu
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.schedule import OFFLOAD_MIN_ROWS
from fitcheck.runtimes.llamacpp.token_rates import (
    Constants,
    Host,
    generation_seconds,
    host_generation_seconds,
    host_prompt_seconds,
    prompt_seconds,
)
from fitcheck.runtimes.llamacpp.token_work import TokenWork
from fitcheck.runtimes.llamacpp.weight_placement import HOST
from fitcheck.speed.rates import link_rate

# builds are as fast as the newest ones of the rows from here on; before, prompts cost a factor a year
SETTLED = date(2026, 1, 1)
_OLDEST = 2.5  # years that the factor is believed for
_INTEGER_TILES = date(2024, 6, 1)  # ggml-cuda's products on integer matrix units (mma) came in June 2024


@dataclass(frozen=True, slots=True)
class TokenRun:
    """What decides a run's seconds. ``works`` by device index, the host under ``HOST``; ``width`` in elements."""

    works: Mapping[int, TokenWork]
    gpus: Sequence[Gpu]
    backend: str
    host: Host
    options: LlamaOptions
    width: int


def token_seconds(run: TokenRun, constants: Constants) -> float | None:
    """Seconds of one generated token: devices work one after the other, so theirs add up."""
    seconds = constants["token"]
    cards = 0
    for index, work in run.works.items():
        if index == HOST:
            if work.bytes_per_token:
                seconds += host_generation_seconds(work, run.host, constants, alone=not run.gpus)
            continue
        spent = generation_seconds(work, run.gpus[index].card, run.backend, constants, _years(run))
        if spent is None:
            return None
        seconds += spent
        cards += 1
    return seconds + constants["card boundary"] * max(cards - 1, 0)


def batch_seconds(run: TokenRun, batch: int, constants: Constants) -> float | None:
    """Seconds of one micro-batch of a prompt; several of a batch overlap on several cards."""
    cards, count = 0.0, 0
    for index, work in run.works.items():
        if index == HOST:
            continue
        spent = prompt_seconds(
            work, run.gpus[index].card, run.backend, batch, run.width, constants, flash=run.options.flash
        )
        if spent is None:
            return None
        cards += spent
        count += 1
    cards *= _aged(run, constants) / _overlap(run, batch, count, constants)
    host = run.works.get(HOST)
    if host is None or not host.held:
        return constants["token"] + cards
    carried = _host_seconds(run, host, batch, constants)
    return None if carried is None else constants["token"] + cards + carried


def _aged(run: TokenRun, constants: Constants) -> float:
    """What a build's age costs a prompt: kernels of 2024 are slower than today's."""
    factor = float(constants.get(f"age/{run.backend}", constants["age/new"]) ** _years(run))
    old = run.backend == "CUDA" and run.options.build.day < _INTEGER_TILES
    return factor * constants["before integer tiles"] if old else factor


def _years(run: TokenRun) -> float:
    """The build's age in years before kernels stopped changing much."""
    return min(max((SETTLED - run.options.build.day).days / 365.25, 0.0), _OLDEST)


def _overlap(run: TokenRun, batch: int, cards: int, constants: Constants) -> float:
    """Speed-up of several micro-batches that cards work on at once, each on its own layers."""
    flying = max(min(run.options.batch, run.options.context) // batch, 1)
    ideal = flying * cards / (flying + cards - 1) if cards else 1.0
    return 1.0 + constants["overlap of cards"] * (ideal - 1.0)


def _host_seconds(run: TokenRun, host: TokenWork, batch: int, constants: Constants) -> float | None:
    """Seconds for the host's part of one batch: carried over the link to a card that computes it, else on its cores."""
    if not run.gpus or not run.options.op_offload or batch < OFFLOAD_MIN_ROWS:
        return host_prompt_seconds(host, run.host, batch, constants)
    gpu = run.gpus[0]
    computing = prompt_seconds(host, gpu.card, run.backend, batch, run.width, constants, flash=run.options.flash)
    link = link_rate(gpu.link, pinned=not run.options.mmap)
    if computing is None or link is None:
        return None
    unused = host.experts_held * (1 - host.expert_share) ** batch if host.experts_held else 0.0
    return computing + constants["carried"] * (host.held - unused) / link.best
