"""What the estimate looks at of the card that works and of the machine around it."""

from __future__ import annotations

from functools import lru_cache

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budgets_of, visible_total
from fitcheck.hardware.card import Card
from fitcheck.hardware.latest import once_a_machine
from fitcheck.hardware.machine import Machine
from fitcheck.memory.constants import measured_capability
from fitcheck.memory.context import context
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.sensenova.layout import CardView
from fitcheck.runtimes.sensenova.seconds import waits_for_host
from fitcheck.runtimes.sensenova.streaming import FAST_HEADROOM, FAST_RESERVE, Streaming, fast_limit
from fitcheck.speed.generations import is_measured
from fitcheck.speed.rates import rates_of


def architecture_of(ask: Ask) -> SenseNovaArchitecture:
    """The numbers that size the model; only asks of the family come here."""
    architecture = ask.architecture
    assert isinstance(architecture, SenseNovaArchitecture)
    return architecture


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the estimate looks at of one card of a machine, whatever the cell. ``total`` is its memory as a program sees
    it; ``driver`` the entry of the launch queues that fits card and system, ``known_driver`` the same without prefetch,
    where all of a vendor's drivers are alike; ``timed`` says that its rates are known."""

    capability: tuple[int, int] | None
    total: int | None
    driver: str
    known_driver: str
    shares_memory: bool
    timed: bool


@once_a_machine
def _all_seen(machine: Machine) -> tuple[_Seen, ...]:
    return tuple([_seen(gpu.card, visible_total(gpu), machine.operating_system) for gpu in machine.gpus])


@lru_cache(maxsize=4096)
def _seen(card: Card, total: int | None, system: str | None) -> _Seen:
    driver = _driver(card, system)
    return _Seen(
        measured_capability(card.compute_capability),
        total,
        driver,
        "NVIDIA" if card.vendor == "NVIDIA" else driver,
        card.unified_memory,
        rates_of(card) is not None,
    )


def seen_of(ask: Ask) -> _Seen:
    """What the estimate looks at of the card that works."""
    return _all_seen(ask.machine)[ask.gpu]


def seen_on(machine: Machine) -> _Seen:
    """The same of a machine's first card, whatever the cell."""
    return _all_seen(machine)[0]


def view_of(ask: Ask, streaming: Streaming) -> CardView:
    """What the estimate looks at of the card: only a placement that keeps layers asks for its size, and most compute
    capabilities share their constants, so that many cards share a footprint."""
    seen, process, keeps = seen_of(ask), ask.process, streaming.keep_generation
    prefetches = streaming.prefetch > 0
    may_wait = prefetches and seen.timed
    total, free = _sizes(ask, streaming, seen.total) if keeps else (None, None)
    return CardView(
        seen.capability,
        total,
        free,
        ask.placement.get("attention") == "flash",
        process.warm,
        may_wait and host_bound(architecture_of(ask), ask.tier, ask.workload, streaming, ask.card.card),
        seen.driver if prefetches else seen.known_driver,
        process.left_out,
    )


def _sizes(ask: Ask, streaming: Streaming, total: int | None) -> tuple[int | None, int]:
    """Bytes of the card and those that others leave of it: how many layers stay hangs on both. Where what is kept back
    for a pass already takes all, none does, and such cards look alike."""
    free = _free(ask, streaming)
    if total is not None and min(fast_limit(total), free - FAST_HEADROOM) <= FAST_RESERVE:
        return 0, 0
    return total, free


def _free(ask: Ask, streaming: Streaming) -> int:
    """Bytes that others leave of the card. A cap of the bench leaves room for the context that it measured before a
    second stream was there (bench/device_context.py)."""
    free = budgets_of(ask.machine)[ask.gpu].vram.best
    if not ask.process.bench or not streaming.prefetch:
        return free
    ends = (context(ask.card.card.compute_capability, second_stream=second).best for second in (False, True))
    return free - next(ends) + next(ends)


def _driver(card: Card, system: str | None) -> str:
    """The entry of the launch queues that fits the card and the operating system."""
    known = load("memory", "allocator")["launch_queue"]["drivers"]
    if card.vendor not in known or not is_measured(card):
        return "other"
    windows = (system or "").lower().startswith("windows")
    return "Windows" if windows and card.vendor == "NVIDIA" else card.vendor


def host_bound(arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Streaming, card: Card) -> bool:
    """Whether the host may take longer to issue a denoising pass than the card to run it; where rates are unknown the
    card is taken to be the slower one, which reserves more."""
    if not placement.prefetch or workload.task is Task.VQA or rates_of(card) is None:
        return False
    return bool(waits_for_host(arch, tier.tensors, workload, placement, card))
