"""What one token of llama.cpp asks of each device: bytes by kind of quant, FLOP, layers.

Tensors of one layer, role and kind go to one device together, so they are added up once a table, and layers alike once
for all; a run then only sorts a few groups by device.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache, reduce
from itertools import groupby
from operator import add
from typing import Protocol
from weakref import WeakKeyDictionary

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.quant import TYPES
from fitcheck.models.tensors import AlikeLayers, Layered, Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions, cache_type
from fitcheck.runtimes.llamacpp.caches import cache_elements, layer_caches
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, tensor_device, tied_copy

_NOT_READ = ("token_embd.weight", "per_layer_token_embd.weight", "position_embd.weight", "token_types.weight")
_REPACKED = re.compile(r"_R\d+$")  # the fork's rows interleaved: the same blocks
_LIKE = {"Q6_0": "Q6_K", "Q8_KV": "Q8_0", "Q8_K": "Q8_0", "I2_S": "Q2", "Q1_0": "IQ"}
_FLOATS = ("F32", "F16", "BF16")


@dataclass(slots=True)
class TokenWork:
    """Work on one device. Dictionaries are keyed by the kind of quant (``kind_of``).

    ``read`` and ``experts`` are bytes a generated token reads of dense and of expert weights; ``cache`` bytes of
    attention cache and recurrent ``state``, ``cache_cost`` the same with quantized types counted as 16 bits: no row
    shows that unpacking them leaves anything of what they save. ``latent``: one latent a token serves all heads.
    ``flops`` and ``expert_flops`` are multiply-adds × 2 of a prompt's token, ``attention_flops`` those on the cache,
    and ``scores`` the elements that its attention compares it with, head by head. ``held`` is bytes of all weights
    there, ``experts_held`` the experts of it, ``expert_share`` the part of a layer's ``expert_count`` experts that a
    token uses; ``even_routing``: a prompt's tokens touch as many as if all were liked alike, as those of gpt-oss-20b
    with random weights do (docs/tokens.md).
    """

    read: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    experts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    flops: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    expert_flops: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    cache: float = 0.0
    cache_cost: float = 0.0
    state: float = 0.0
    latent: bool = False
    attention_flops: float = 0.0
    scores: float = 0.0
    held: int = 0
    experts_held: int = 0
    expert_share: float = 1.0
    expert_count: int = 0
    even_routing: bool = False
    layers: int = 0
    expert_layers: int = 0
    recurrent_layers: int = 0

    @property
    def bytes_per_token(self) -> float:
        """Bytes that a generated token reads on the device: weights, experts in use and cache."""
        return sum(self.read.values()) + sum(self.experts.values()) + self.cache


class PlacedRun(Protocol):
    """What work hangs on of a run: its options, and where its layers lie."""

    def __hash__(self) -> int:
        """Work is kept beside it."""

    @property
    def options(self) -> LlamaOptions:
        """The options that were judged."""

    @property
    def devices(self) -> Devices:
        """The device of each layer."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Tensors that always live together, in each of ``layers``. ``first`` stands for all where a device is asked for;
    ``layers`` is ``None`` where it has to be asked for by that one."""

    first: Tensor
    layers: tuple[int, ...] | None
    kind: str
    nbytes: int
    elements: int
    expert: bool
    active: float
    head: bool


@dataclass(frozen=True, slots=True)
class _Grouped:
    """``groups`` of a table, and the layers of all their ``experts`` that have any, in order."""

    groups: Sequence[_Group]
    experts: tuple[int, ...]


_works: WeakKeyDictionary[PlacedRun, dict[int, dict[int, TokenWork]]] = WeakKeyDictionary()
_groups: WeakKeyDictionary[TensorTable, _Grouped] = WeakKeyDictionary()


def kind_of(type_name: str) -> str:
    """Types that share their kernels' cost: "float", "Q8_0", "Q6_K", "Q5", "Q4", "Q3", "Q2", "IQ", "MXFP4"."""
    type_name = _REPACKED.sub("", type_name)
    if type_name in _FLOATS:
        return "float"
    if type_name in _LIKE:
        return _LIKE[type_name]
    if type_name in ("Q8_0", "Q6_K", "MXFP4"):
        return type_name
    if type_name.startswith(("IQ4", "Q4", "NVFP4")):
        return "Q4"
    if type_name.startswith(("IQ", "TQ")):
        return "IQ"
    return type_name[:2]


def work_of(
    architecture: LanguageArchitecture, tensors: TensorTable, result: PlacedRun, depth: int
) -> dict[int, TokenWork]:
    """Work by device after ``depth`` tokens: active experts only, one row of the embedding, the head for one token.

    ``result`` is of that architecture and table; what it comes to is kept beside it, and must not be changed.
    """
    kept = _works.setdefault(result, {})
    if depth not in kept:
        kept[depth] = _worked_out(architecture, tensors, result, depth)
    return kept[depth]


def _worked_out(
    architecture: LanguageArchitecture, tensors: TensorTable, result: PlacedRun, depth: int
) -> dict[int, TokenWork]:
    found: defaultdict[int, TokenWork] = defaultdict(TokenWork)
    options, moving = result.options, set[int | None]()
    grouped = _grouped(architecture, tensors, split=bool(options.overrides))
    places: dict[tuple[tuple[int, ...] | None, bool], Mapping[int, int]] = {}  # most groups are of the same layers
    for group in grouped.groups:
        layers = group.layers, group.expert
        if layers[0] is None or layers not in places:
            places[layers] = _places(group, architecture, result)
        for device, count in places[layers].items():
            _add(found[device], group, count)
            if group.expert:
                found[device].expert_count = architecture.experts
                if group.layers is None and group.first.layer not in moving:
                    found[device].expert_layers += 1
                    moving.add(group.first.layer)
    for device, count in _by_device(grouped.experts, result, expert=True).items():
        found[device].expert_layers += count
    head = tied_copy(architecture, tensors)
    if head is not None:
        work = found[result.devices.output]
        work.read[kind_of(head.type)] += head.nbytes
        work.held += head.nbytes
    _add_caches(found, architecture, result, depth)
    return dict(found)


def _places(group: _Group, architecture: LanguageArchitecture, result: PlacedRun) -> Mapping[int, int]:
    """How many layers of a group lie on each device, without those that only draft: rates are those without it."""
    if group.layers is not None:
        return _by_device(group.layers, result, expert=group.expert)
    if group.first.layer in architecture.predicting:
        return {}
    return {tensor_device(group.first, architecture, result.options, result.devices): 1}


def _by_device(layers: Sequence[int], result: PlacedRun, *, expert: bool) -> dict[int, int]:
    """How many of ``layers``, in order, lie on each device, or their experts."""
    devices, first = result.devices, 0
    found: dict[int, int] = {}
    on_host = result.options.cpu_moe_layers if expert else 0
    for device, stop in ((HOST, on_host), *_stretches(devices.layers), (devices.output, len(devices.layers) + _BEYOND)):
        last = bisect_left(layers, stop, first)
        if last > first:
            found[device] = found.get(device, 0) + last - first
        first = last
    return found


_BEYOND = 1 << 20  # layers


@lru_cache(maxsize=4096)
def _stretches(layers: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(device, the layer after the last one) of each stretch of layers on one device."""
    found, stop = [], 0
    for device, same in groupby(layers):
        stop += sum(1 for _ in same)
        found.append((device, stop))
    return tuple(found)


def _grouped(architecture: LanguageArchitecture, tensors: TensorTable, *, split: bool) -> _Grouped:
    """Groups of a table; ``split`` keeps every tensor apart, for options that place them one by one."""
    if split:
        return _Grouped(
            [replace(_group([tensor], architecture), layers=None) for tensor in tensors if _counts(tensor)], ()
        )
    known = _groups.get(tensors)
    if known is None:
        layered = tensors.layered
        groups = _of_any(tensors, architecture) if layered is None else _by_layer(layered, architecture)
        experts = {layer for group in groups if group.expert for layer in group.layers or ()}
        known = _groups[tensors] = _Grouped(groups, tuple(sorted(experts)))
    return known


def _of_any(tensors: TensorTable, architecture: LanguageArchitecture) -> list[_Group]:
    return [one for one in _together(tensors, architecture) if one.first.layer not in architecture.predicting]


def _by_layer(layered: Layered, architecture: LanguageArchitecture) -> list[_Group]:
    alike: defaultdict[AlikeLayers, list[int]] = defaultdict(list)
    for layer, one in enumerate(layered.layers):
        if layer not in architecture.predicting:
            alike[one].append(layer)
    within = (
        replace(group, layers=tuple(layers))
        for one, layers in alike.items()
        for group in _together(one.tensors, architecture)
    )
    return [*_together(layered.outside, architecture), *within]


def _together(tensors: Iterable[Tensor], architecture: LanguageArchitecture) -> list[_Group]:
    together: defaultdict[tuple[object, ...], list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        if _counts(tensor):
            place = tensor.layer if tensor.layer is not None else tensor.name
            head = tensor.name == "output.weight"
            together[place, tensor.role == "expert", kind_of(tensor.type), head].append(tensor)
    return [_group(members, architecture) for members in together.values()]


def _counts(tensor: Tensor) -> bool:
    return tensor.name not in _NOT_READ and tensor.role not in ("nextn", "vision")


def _group(members: Sequence[Tensor], architecture: LanguageArchitecture) -> _Group:
    first = members[0]
    layered = all(one.name.startswith("blk.") for one in members)
    return _Group(
        first,
        (first.layer,) if layered and first.layer is not None else None,
        kind_of(first.type),
        sum(tensor.nbytes for tensor in members),
        sum(tensor.elements for tensor in members if len(tensor.shape) > 1),
        first.role == "expert",
        active_share(first, architecture),
        first.name == "output.weight",
    )


def active_share(tensor: Tensor, architecture: LanguageArchitecture) -> float:
    """Share of a tensor that one token uses: the chosen experts of all."""
    if tensor.role != "expert" or not architecture.experts or tensor.layer is None:
        return 1.0
    used = architecture.blocks[min(tensor.layer, architecture.layers - 1)].experts_used
    return used / architecture.experts if used else 1.0


def _add(work: TokenWork, group: _Group, count: int) -> None:
    """Add ``group`` as it is in ``count`` layers."""
    read, flops = (work.experts, work.expert_flops) if group.expert else (work.read, work.flops)
    read[group.kind] += count * group.nbytes * group.active
    if not group.head:
        flops[group.kind] += 2.0 * count * group.elements * group.active
    work.held += count * group.nbytes
    if group.expert:
        work.experts_held += count * group.nbytes
        work.expert_share = group.active


def _add_caches(
    found: defaultdict[int, TokenWork], architecture: LanguageArchitecture, result: PlacedRun, depth: int
) -> None:
    options, latent, start = result.options, architecture.latent is not None, 0
    for device, stop in _stretches(result.devices.layers):
        cache, cost, state, scores, flops, recurrent = _cached(architecture, options.anywhere, depth, start, stop)
        work = found[HOST if options.cache_on_host else device]
        work.latent = latent
        work.cache += cache
        work.cache_cost += cost
        found[device].state += state
        work.attention_flops += flops
        work.scores += scores
        found[device].layers += stop - start
        found[device].recurrent_layers += recurrent
        start = stop


@lru_cache(maxsize=1024)
def _cached(
    architecture: LanguageArchitecture, options: LlamaOptions, depth: int, start: int, stop: int
) -> tuple[float, float, float, float, float, int]:
    """Sums of ``_cache_reads`` over the layers from ``start`` up to ``stop``, and how many of them are recurrent."""
    reads = _cache_reads(architecture, options, depth)[start:stop]
    # one after the other: what ``sum`` makes of floats differs between versions of Python
    cache, cost, state, scores, flops = (reduce(add, amounts) for amounts in zip(*reads, strict=True))
    return cache, cost, state, scores, flops, sum(one.recurrent for one in architecture.blocks[start:stop])


@lru_cache(maxsize=256)
def _cache_reads(
    architecture: LanguageArchitecture, options: LlamaOptions, depth: int
) -> tuple[tuple[float, float, float, float, float], ...]:
    """For each layer the bytes of its cache that a token reads, what they cost, its recurrent state's bytes among them,
    the elements that its attention compares a token with, and the FLOP on them."""
    keys, values = _unpacked(options.cache_type_k), _unpacked(options.cache_type_v)
    found = []
    for layer, cache in enumerate(layer_caches(architecture, options)):
        cells = min(depth, cache.cells)  # a window holds no more
        share, state = cells / max(cache.cells, 1), cache.recurrent / max(options.slots, 1)
        cost = (cache.keys * keys + cache.values * values) * share + state
        attended = _attended(architecture, layer, options)
        scores = float(architecture.blocks[layer].heads * cells if attended else 0)
        found.append((cache.attention * share + state, cost, state, scores, 2.0 * scores * attended))
    return tuple(found)


def _unpacked(name: str) -> float:
    """How much larger a cache type's elements are as 16-bit ones."""
    quant = TYPES[cache_type(name)]
    return max(1.0, 2.0 * quant.block / quant.block_bytes)


def _attended(architecture: LanguageArchitecture, layer: int, options: LlamaOptions) -> int:
    """Elements of K and V that one query head multiplies for each cached token."""
    block = architecture.blocks[layer]
    if architecture.latent is None:
        return block.key_length + block.value_length if block.attention else 0
    keys, _ = cache_elements(architecture, layer, options)
    latent = architecture.latent
    if keys == latent.rank + latent.rope:
        return keys + latent.rank
    return latent.key_length + latent.value_length
