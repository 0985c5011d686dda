"""The whole memory of a llama.cpp run: each card, the host, and the footprint that the common verdict reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase
from fitcheck.models.companions import Companion
from fitcheck.models.families.language.architecture import LanguageArchitecture, traits
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import MAX_CARDS, TENSOR, LlamaOptions
from fitcheck.runtimes.llamacpp.beside import Beside, beside_model
from fitcheck.runtimes.llamacpp.builds_spanned import build_words
from fitcheck.runtimes.llamacpp.caches import LayerCache, cache_sums, layer_caches
from fitcheck.runtimes.llamacpp.compute import ComputeBuffers, compute_buffers, predicting_buffers
from fitcheck.runtimes.llamacpp.graph_traits import has_trait
from fitcheck.runtimes.llamacpp.layer_facts import tensor_names
from fitcheck.runtimes.llamacpp.repacked import Repacked, host_weights, repacked, repacked_said
from fitcheck.runtimes.llamacpp.tensor_split import Parted, as_one_card
from fitcheck.runtimes.llamacpp.weight_placement import (
    HOST,
    Devices,
    TensorPlaces,
    WeightBuffers,
    layer_devices,
    place_weights,
)
from fitcheck.units import MIB, Interval


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes on one card or on the host, as llama.cpp prints them. ``layers`` counts the layers that live there,
    ``beside`` is what files beside the model's take: projector, adapters, control vectors."""

    weights: int
    kv_cache: int
    recurrent: int
    compute: int
    layers: int = 0
    output: int = 0
    beside: int = 0

    @property
    def total(self) -> int:
        """Bytes of all buffers on the device, without what the process takes besides."""
        return self.weights + self.kv_cache + self.recurrent + self.compute + self.output + self.beside


@dataclass(frozen=True, eq=False)
class LlamaEstimate:
    """Memory of one run; each is its own, so that what follows from it can be kept beside it. ``card_totals`` adds what
    the process takes besides its buffers, as an interval a card. ``draft`` is what a second model takes of it."""

    cards: tuple[DeviceMemory, ...]
    host: DeviceMemory
    host_weights_used: int
    card_totals: tuple[Interval[int], ...]
    footprint: Footprint
    options: LlamaOptions
    devices: Devices
    disk: int
    assumptions: tuple[str, ...]
    draft: LlamaEstimate | None = None
    copied: tuple[Repacked, ...] = ()

    @property
    def kv_cache(self) -> int:
        """All attention caches, on cards and host."""
        return sum(card.kv_cache for card in self.cards) + self.host.kv_cache

    @property
    def recurrent(self) -> int:
        """Bytes of recurrent state on cards and host together."""
        return sum(card.recurrent for card in self.cards) + self.host.recurrent

    @cached_property
    def laid_out(self) -> Footprint:
        """The footprint with this estimate as its account of where things lie."""
        return replace(self.footprint, layout=self)

    def fits(self, vram: Sequence[int], ram: int | None = None) -> bool:
        """Whether every card holds its share (best estimate) and the host its own, in bytes."""
        cards = all(total.best <= room for total, room in zip(self.card_totals, vram, strict=True))
        return cards and (ram is None or self.footprint.host.total.best <= ram)


def _constants() -> dict[str, Any]:
    return load("runtimes.llamacpp", "llamacpp_overhead")


def estimate(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    vram: Sequence[int] = (),
    disk: int | None = None,
    companions: tuple[Companion, ...] = (),
) -> LlamaEstimate:
    """Memory of a run of llama.cpp on cards with ``vram`` free bytes each (none: the host alone).

    ``tensors`` is the file's own table, or ``mixture_table(architecture, tier)`` when there is no file. ``disk`` is the
    size of the file when it is known. Raises OptionError for options that exclude each other.
    """
    if len(vram) > MAX_CARDS:
        raise OptionError(f"{len(vram)} cards are more than llama.cpp's own limit of {MAX_CARDS}; name fewer.")
    if any(amount < 0 for amount in vram):
        raise OptionError("a card cannot have less than no free memory; check --vram.")
    options = as_loaded(architecture, options)
    if options.split_mode == TENSOR and len(vram) > 1:
        one = estimate(architecture, tensors, as_one_card(architecture, options), vram[:1], disk, companions)
        return _parted(one, architecture, tensors, options, len(vram))
    found = on_cards(architecture, tensors, options, tuple(vram), companions)
    devices, weights, buffers, beside = found.devices, found.weights, found.buffers, found.beside
    count = devices.layers.count(HOST)
    copies = options.repack and not devices.cards and not options.build.fork
    copied = repacked(architecture, tensors, options.predicts) if copies else ()
    printed = host_weights(copied, weights, options)
    attention, recurrent = found.on_host
    host = DeviceMemory(printed, attention, recurrent, buffers.host, count, buffers.output, beside.host)
    file_size = _file_size(architecture, tensors, disk)
    assumptions = (*_assumptions(architecture, options, devices), *beside.said, *repacked_said(copied, options))
    return LlamaEstimate(
        cards=found.cards,
        host=host,
        host_weights_used=weights.host_used,
        card_totals=found.totals,
        footprint=_footprint(
            found.cards, host, weights.host_used, found.totals, options, file_size, assumptions, copied
        ),
        options=options,
        devices=devices,
        disk=file_size,
        assumptions=assumptions,
        copied=copied,
    )


def as_loaded(architecture: LanguageArchitecture, options: LlamaOptions) -> LlamaOptions:
    """The options without the flash attention that such a model never has."""
    unfit = options.flash and has_trait(architecture, "no_flash")
    return options.with_(flash_attention=False) if unfit else options


def least_footprint(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    vram: tuple[int, ...],
    disk: int | None = None,
    companions: tuple[Companion, ...] = (),
) -> Footprint:
    """The least that a run on cards can take, arguments as for ``estimate``: the amounts without compute buffers, for
    which no graph is built, and nothing of when they are taken."""
    options = as_loaded(architecture, options)
    found = on_cards(architecture, tensors, options, vram, companions, graphs=False)
    used = found.weights.host_used
    host = DeviceMemory(used, *found.on_host, 0, beside=found.beside.host)
    cards = tuple(CardMemory((), allocated=total, reserved=total, card=total, required=total) for total in found.totals)
    return Footprint(
        cards, _host_memory(host, used, options, (), pins=bool(cards)), _file_size(architecture, tensors, disk)
    )


def _file_size(architecture: LanguageArchitecture, tensors: TensorTable, disk: int | None) -> int:
    if disk is not None:
        return disk
    entry: int = _constants()["vocabulary_entry_bytes"]
    return tensors.nbytes + entry * architecture.vocabulary


@dataclass(frozen=True, slots=True)
class OnCards:
    """What a run takes of each card, and what it was added up from. ``on_host`` are bytes of attention caches and of
    recurrent states that lie on the host."""

    cards: tuple[DeviceMemory, ...]
    totals: tuple[Interval[int], ...]
    devices: Devices
    weights: WeightBuffers
    buffers: ComputeBuffers
    beside: Beside
    on_host: tuple[int, int]


@lru_cache(maxsize=16384)
def on_cards(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    vram: tuple[int, ...],
    companions: tuple[Companion, ...] = (),
    *,
    graphs: bool = True,
) -> OnCards:
    """The cards of a run that is not shared by rows or tensors, arguments as for ``estimate``: what a search for a
    placement compares."""
    devices = layer_devices(architecture, options, vram)
    weights = place_weights(architecture, tensors, options, devices)
    caches = layer_caches(architecture, options)
    if graphs:
        buffers = compute_buffers(architecture, tensors, options, devices, caches)
        ahead = _ahead(architecture, tensors, options, devices)
    else:
        buffers, ahead = ComputeBuffers((0,) * devices.cards, 0, 0), _Ahead()
    buffers = buffers.with_(ahead.buffers)
    attention, recurrent = _caches_by_device(architecture, options, devices, ahead)
    beside = beside_model(companions, options, devices)
    cards = []
    for index in range(devices.cards):
        count = devices.layers.count(index)
        placed = (weights.cards[index], attention[index], recurrent[index], buffers.cards[index], count)
        cards.append(DeviceMemory(*placed, beside=beside.cards[index]))
    totals = tuple(
        _card_total(card, architecture, options) + Interval(-beside.slack[index], 0, beside.slack[index])
        for index, card in enumerate(cards)
    )
    return OnCards(tuple(cards), totals, devices, weights, buffers, beside, (attention[HOST], recurrent[HOST]))


def _caches_by_device(
    architecture: LanguageArchitecture, options: LlamaOptions, devices: Devices, ahead: _Ahead
) -> tuple[list[int], list[int]]:
    """Bytes of attention caches and of recurrent states on each card; the host's stand last."""
    attention, recurrent = [0] * (devices.cards + 1), [0] * (devices.cards + 1)
    sums = cache_sums(architecture, options)
    for device, start, stop in devices.spans:
        owner = HOST if options.cache_on_host else device
        keys, states = sums.between(start, stop)
        attention[owner] += keys
        recurrent[owner] += states
    for held, device in zip(ahead.caches, devices.layers, strict=False):
        owner = HOST if options.cache_on_host else device
        attention[owner] += held.attention
        recurrent[owner] += held.recurrent
    return attention, recurrent


def _parted(
    one: LlamaEstimate, architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, count: int
) -> LlamaEstimate:
    """What stands on one device, parted among ``count`` cards; files beside the model lie on the first."""
    (whole,) = one.cards
    shares = Parted(architecture, tensors, options, one.options, one.devices, count)
    cards = [
        replace(
            whole,
            weights=whole.weights - share.spared,
            kv_cache=share.kv_cache,
            recurrent=share.recurrent,
            beside=0 if index else whole.beside,
        )
        for index, share in enumerate(shares.cards(layer_caches(architecture, one.options)))
    ]
    totals = tuple(_card_total(card, architecture, options) for card in cards)
    used, said = one.host_weights_used, (*one.assumptions, "each matrix is shared by all cards (tensor)")
    footprint = _footprint(cards, one.host, used, totals, options, one.disk, said)
    return replace(one, cards=tuple(cards), card_totals=totals, footprint=footprint, options=options, assumptions=said)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What the context that drafts holds beside the model's."""

    caches: tuple[LayerCache, ...] = ()
    buffers: ComputeBuffers | None = None


def _ahead(architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices) -> _Ahead:
    if not options.predicts:
        return _Ahead()
    from fitcheck.runtimes.llamacpp.prediction import predicting, predicting_options

    drafting, how = predicting(architecture), predicting_options(options)
    caches = layer_caches(drafting, how)
    places = TensorPlaces(architecture, tensor_names(tensors), options, devices)
    return _Ahead(caches, predicting_buffers(drafting, tensors, how, devices, places, caches))


def _card_total(card: DeviceMemory, architecture: LanguageArchitecture, options: LlamaOptions) -> Interval[int]:
    """Buffers plus what the driver, the libraries and their work space take on a card that is used at all."""
    if not card.total:
        return Interval.exactly(0)
    low, best, high = overhead()
    slack = round(_constants()["compute_slack"] * card.compute)
    if not _replayed(architecture, options):
        slack = round(_constants()["compute_slack_unknown"] * card.compute)
    if options.build.fork:
        slack = round(_constants()["compute_slack_fork"] * card.compute)
    least, most = card.compute - slack, card.compute + slack
    if not_modelled(architecture, options):
        least, most = (round(times * card.compute) for times in _constants()["compute_fork_latent"])
    rest = card.total - card.compute
    return Interval(rest + least + low, card.total + best, rest + most + high)


def _replayed(architecture: LanguageArchitecture, options: LlamaOptions) -> bool:
    """Whether the graph is the build's own, as held against llama.cpp, and no likeness of it."""
    if architecture.unknown or architecture.encoder:
        return False
    if not architecture.recurs:
        return True
    mixer = traits(architecture.name).get("mixer")
    if mixer in ("delta", "kda"):
        return options.build.has("fused_delta")
    return mixer in ("mamba", "mamba2", "shortconv", "plamo2")


@cache
def overhead() -> tuple[int, int, int]:
    """Low, best and high bytes that a process takes on a card besides its buffers."""
    context = _constants()["card_overhead_mib"]
    low, best, high = (round(context[key] * MIB) for key in ("low", "best", "high"))
    return low, best, high


def host_process() -> int:
    """Bytes of system memory that a process takes besides its buffers."""
    amount: float = _constants()["host_process_mib"]
    return round(amount * MIB)


def not_modelled(architecture: LanguageArchitecture, options: LlamaOptions) -> str | None:
    """Why the compute buffers of such a run are only bounded, in a clause; ``None`` where they are predicted."""
    if options.build.fork and architecture.latent is not None:
        return "ik_llama.cpp's compute buffers for latent attention are not modelled, logs print up to 24 times these"
    return None


def _footprint(
    cards: Sequence[DeviceMemory],
    host: DeviceMemory,
    used: int,
    totals: Sequence[Interval[int]],
    options: LlamaOptions,
    disk: int,
    assumptions: tuple[str, ...],
    copied: tuple[Repacked, ...] = (),
) -> Footprint:
    """The common shape: each card over the phases load, prefill and decode, and the host."""
    return Footprint(
        tuple(_on_card(card, total) for card, total in zip(cards, totals, strict=True)),
        _host_memory(host, used, options, copied, pins=bool(cards)),
        disk,
        assumptions,
    )


def _on_card(card: DeviceMemory, total: Interval[int]) -> CardMemory:
    cache = card.kv_cache + card.recurrent
    phases = (
        Phase("load", card.weights + card.beside, 0, 0, 0, 0),
        Phase("prefill", card.weights + card.beside, 0, cache, card.compute, 0),
        Phase("decode", card.weights + card.beside, 0, cache, card.compute, 0),
    )
    buffers = Interval.exactly(card.total)
    return CardMemory(phases, allocated=buffers, reserved=buffers, card=total, required=total)


def _host_memory(
    host: DeviceMemory, used: int, options: LlamaOptions, copied: tuple[Repacked, ...], *, pins: bool
) -> HostMemory:
    """A mapped file needs no memory of its own, but a run that reads its host weights at every token needs them there.
    What is copied of them is needed, and no longer read from the file."""
    outside = host_process()
    own = host.kv_cache + host.recurrent + host.compute + host.output + host.beside
    pinned = host.compute + host.output if pins else 0
    both = options.mlock and options.mmap  # locked pages stay beside what was copied of them
    ways = [(one.buffers, used if both else used - one.again) for one in copied] or [(0, used)]
    needs = [own + outside + options.prompts_kept + buffers + rest for buffers, rest in ways]
    fixed = options.mlock or not options.mmap
    low = min(own + outside + buffers + (rest if fixed else 0) for buffers, rest in ways)
    high = max(needs) + round(_constants()["host_slack"] * max(needs))
    buffers, rest = ways[0]
    process = own - pinned + outside + options.prompts_kept + buffers
    return HostMemory(pinned, rest, process, Interval(low, needs[0], high))


def _assumptions(architecture: LanguageArchitecture, options: LlamaOptions, devices: Devices) -> tuple[str, ...]:
    said = list(architecture.unknown)
    said.append(build_words(options.build))
    if options.build.fork:
        said.append("ik_llama.cpp's compute buffers follow switches such as -amb and -rtr and are only bounded here")
    if options.flash_attention is None:
        said.append("flash attention: auto, taken as on")
    if options.sequences is None and options.slots > 1:
        said.append(f"llama-server's own choice of {options.slots} slots; --parallel 1 holds less")
    if options.mmap and HOST in devices.layers:
        said.append(
            "weights on the host are memory-mapped: they are counted as needed, and slow the run down when absent"
        )
    return tuple(said)
