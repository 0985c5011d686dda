"""Seconds of one generated token and of one micro-batch over all devices of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.machine import Gpu
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.builds import Build
from fitcheck.runtimes.llamacpp.schedule import OFFLOAD_MIN_ROWS
from fitcheck.runtimes.llamacpp.token_host import Host, carried_bytes, host_generation_seconds, host_prompt_seconds
from fitcheck.runtimes.llamacpp.token_rates import Constants, KernelAge, generation_seconds, prompt_seconds
from fitcheck.runtimes.llamacpp.token_work import TokenWork
from fitcheck.runtimes.llamacpp.weight_placement import HOST
from fitcheck.speed.rates import link_rate

_ISO_DAY = len("2025-01-06")
_OLDEST = 2.5  # years that the factor for a build's age is believed for
_COPIES = 4  # micro-batches in flight (ggml-backend.cpp, GGML_SCHED_MAX_COPIES)


@dataclass(frozen=True, slots=True)
class TokenRun:
    """What decides a run's seconds. ``works`` by device index, the host under ``HOST``; ``width`` in elements;
    ``reads``: tokens of the prompt, whose micro-batches follow each other without a wait; ``matrix_attention``: a ROCm
    build whose flash attention uses matrix units (rocWMMA)."""

    works: Mapping[int, TokenWork]
    gpus: Sequence[Gpu]
    backend: str
    host: Host
    options: LlamaOptions
    width: int
    reads: int
    matrix_attention: bool = False


def token_seconds(run: TokenRun, constants: Constants) -> float | None:
    """Seconds of one generated token: devices work one after the other, so theirs add up."""
    seconds, age = constants["token"], age_of(run)
    cards = 0
    for index, work in run.works.items():
        if index == HOST:
            if work.bytes_per_token:
                seconds += host_generation_seconds(work, run.host, constants, alone=not run.gpus)
            continue
        spent = generation_seconds(work, run.gpus[index].card, run.backend, constants, age, flash=run.options.flash)
        if spent is None:
            return None
        seconds += spent
        cards += 1
    return seconds + constants["card boundary"] * max(cards - 1, 0)


def least_token_seconds(run: TokenRun) -> float:
    """Seconds in which the memories of the cards hand out at their published rates what a token reads there. No token
    is faster: of 539 published rows the nearest comes to 0.88 of these rates."""
    read = ((work.bytes_per_token, run.gpus[index].card) for index, work in run.works.items() if index != HOST)
    return sum(count / card.memory_bandwidth for count, card in read if card.memory_bandwidth)


def batch_seconds(run: TokenRun, batch: int, constants: Constants) -> float | None:
    """Seconds of one micro-batch of a prompt; several of a batch overlap on several cards."""
    cards, count, age = 0.0, 0, age_of(run)
    for index, work in run.works.items():
        if index == HOST:
            continue
        spent = prompt_seconds(
            work, run.gpus[index].card, run.backend, batch, run.width, constants, flash=run.options.flash, age=age
        )
        if spent is None:
            return None
        cards += spent
        count += 1
    cards /= _overlap(run, batch, count, constants["slowest card"])
    host = run.works.get(HOST)
    if host is None or not host.held:
        return constants["token"] + cards
    carried = _host_seconds(run, host, batch, constants)
    return None if carried is None else constants["token"] + cards + carried


def age_of(run: TokenRun) -> KernelAge:
    """What the run's build has of the work on kernels."""
    released = tuple([gpu.card.released for gpu in run.gpus])
    return _age(run.options.build, run.backend, released, run.matrix_attention)


@lru_cache(maxsize=1024)
def _age(build: Build, backend: str, released: tuple[str | None, ...], matrix_attention: bool) -> KernelAge:
    return KernelAge(
        years=min(build.years_before("settled_speed"), _OLDEST),
        fused=build.has("fused_layers"),
        grouped=build.has("grouped_experts"),
        integer_tiles=build.has("integer_tiles"),
        tiled_attention=matrix_attention or build.has("tiled_attention"),
        youth=_youth(backend, released, build.day),
    )


def _youth(backend: str, released: Sequence[str | None], day: date) -> float:
    """Part of the youngest card's first year that was still to come when the build was made.

    ROCm's and Vulkan's drivers compile for one chip and are tuned for it once people have it; CUDA's and Metal's
    kernels are those of a family.
    """
    if backend not in ("ROCm", "Vulkan"):
        return 0.0
    known = [one for one in released if one and len(one) == _ISO_DAY]
    ages = [(day - date.fromisoformat(one)).days / 365.25 for one in known]
    return max([0.0, *(min(1.0, 1.0 - years) for years in ages)])


def overlap_factors(run: TokenRun, batch: int, constants: Constants) -> tuple[float, float]:
    """(low, high) factors on the rate of a prompt whose micro-batches do not overlap on several cards at all, and
    overlap ideally: which of it a model and a machine come to is not known."""
    cards = sum(device != HOST for device in run.works)
    usual = _overlap(run, batch, cards, constants["slowest card"])
    return 1.0 / usual, _overlap(run, batch, cards, 1.0) / usual


def _overlap(run: TokenRun, batch: int, cards: int, slowest: float) -> float:
    """Speed-up by micro-batches that cards work on at once, each on its own layers.

    The first passes all cards; each further one is done as long after it as the slowest card takes, which needs
    ``slowest`` times the mean card's seconds. llama.cpp keeps ``_COPIES`` in flight. Batches of a prompt follow each
    other without a wait (pull request 6017: decoding is asynchronous until somebody reads logits).
    """
    micro_batches = max(run.reads / batch, 1.0)
    slowest = min(max(slowest, cards / _COPIES), cards)
    return micro_batches * cards / (cards + (micro_batches - 1.0) * slowest) if cards else 1.0


def computes_on_host(run: TokenRun, batch: int) -> bool:
    """Whether the host's cores compute its part of a micro-batch; else it is carried to a card."""
    return not run.gpus or not run.options.op_offload or batch < OFFLOAD_MIN_ROWS


def _host_seconds(run: TokenRun, host: TokenWork, batch: int, constants: Constants) -> float | None:
    """Seconds for the host's part of one batch: carried over the link to a card that computes it, else on its cores."""
    if computes_on_host(run, batch):
        older = 1.0 if run.options.build.has("host_tiles") else constants["before host tiles"]
        return older * host_prompt_seconds(host, run.host, batch, constants)
    gpu = run.gpus[0]
    computing = prompt_seconds(
        host, gpu.card, run.backend, batch, run.width, constants, flash=run.options.flash, age=age_of(run)
    )
    link = link_rate(gpu.link, pinned=True)
    if computing is None or link is None:
        return None
    rate = link.best if not run.options.mmap else min(link.best, constants["pageable copy"])
    return computing + constants["carried"] * carried_bytes(host, batch, constants) / rate
