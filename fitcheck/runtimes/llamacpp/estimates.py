"""Estimates of asks, each made once, and what decides a search for a placement without making one.

Amounts decide how several cards share a model; the layout on one card is the same on every card, so that a machine more
is a look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fitcheck.hardware.machine import Budget
from fitcheck.models.companions import Companion
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.beside import beside_model
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate, overhead
from fitcheck.runtimes.llamacpp.caches import layer_caches
from fitcheck.runtimes.llamacpp.placement import arguments_of
from fitcheck.runtimes.llamacpp.weight_placement import HOST, layer_devices, place_weights

_estimate = lru_cache(maxsize=16384)(estimate)


def architecture_of(ask: Ask) -> LanguageArchitecture:
    """The shape of the tier; only asks of the family come here."""
    architecture = ask.architecture
    assert isinstance(architecture, LanguageArchitecture)
    return architecture


def estimate_of(ask: Ask) -> LlamaEstimate:
    """llama.cpp's buffers on the machine's cards and host. Raises OptionError for options that cannot be."""
    free = _free(ask.budgets) if ask.machine.gpus else ()
    options = arguments_of(ask.placement, ask.workload)
    disk = ask.tier.disk_bytes or None
    return _estimate(architecture_of(ask), ask.tier.tensors, options, free, disk, ask.tier.companions)


def cards_hold(ask: Ask, options: LlamaOptions) -> bool:
    """Whether no card is short with ``options``, even in the worst case. ``ask`` is any of the same tier, workload and
    machine."""
    what = (architecture_of(ask), ask.tier.tensors, _free(ask.budgets), ask.tier.disk_bytes or None)
    layout = _layout(options.anywhere, *what, ask.tier.companions)
    room = [one.vram.low for one in ask.budgets]
    return layout.least_goes_into(room, options) and layout.most_goes_into(room, options)


def _free(budgets: Sequence[Budget]) -> tuple[int, ...]:
    return (1,) if len(budgets) == 1 else tuple(one.vram.best for one in budgets)


class _Layout:
    """One tier with one set of options on cards with ``free`` bytes each, by how many layers lie where."""

    def __init__(
        self,
        architecture: LanguageArchitecture,
        tensors: TensorTable,
        free: tuple[int, ...],
        disk: int | None,
        companions: tuple[Companion, ...],
    ) -> None:
        self._asked = (architecture, tensors)
        self._beside = (free, disk, companions)
        self._least: dict[tuple[int | None, int], list[int]] = {}
        self._most: dict[tuple[int | None, int], list[int]] = {}

    def least_goes_into(self, room: Sequence[int], options: LlamaOptions) -> bool:
        """Whether what is known without building a graph goes into ``room``: weights, caches and the process."""
        key = (options.gpu_layers, options.cpu_moe_layers)
        if key not in self._least:
            self._least[key] = self._without_graph(options)
        return all(need <= have for need, have in zip(self._least[key], room, strict=True))

    def most_goes_into(self, room: Sequence[int], options: LlamaOptions) -> bool:
        """Whether the high end of the estimate goes into ``room``."""
        key = (options.gpu_layers, options.cpu_moe_layers)
        if key not in self._most:
            found = _estimate(*self._asked, options, *self._beside)
            self._most[key] = [total.high for total in found.card_totals]
        return all(need <= have for need, have in zip(self._most[key], room, strict=True))

    def _without_graph(self, options: LlamaOptions) -> list[int]:
        (architecture, tensors), (free, _, companions) = self._asked, self._beside
        devices = layer_devices(architecture, options, free)
        beside = beside_model(companions, options, devices)
        found = [
            sum(amounts)
            for amounts in zip(
                place_weights(architecture, tensors, options, devices).cards, beside.cards, beside.slack, strict=True
            )
        ]
        if not options.cache_on_host:
            for cache, device in zip(layer_caches(architecture, options), devices.layers, strict=True):
                if device != HOST:
                    found[device] += cache.total
        return [amount + overhead()[-1] if amount else 0 for amount in found]


@lru_cache(maxsize=1024)
def _layout(
    options: LlamaOptions,
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    free: tuple[int, ...],
    disk: int | None,
    companions: tuple[Companion, ...],
) -> _Layout:
    """``options`` apart from how many layers lie where."""
    return _Layout(architecture, tensors, free, disk, companions)
