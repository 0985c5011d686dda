"""Which device each tensor is loaded to, and how large each model buffer becomes.

As ggml-org/llama.cpp src/llama-model.cpp load_tensors: the last ``-ngl`` layers (the output counts as one) go to the
cards in the order of the split, token embeddings always stay on the host, a head tied to them is copied to the card,
and a memory-mapped host buffer spans the file from its first host tensor to its last.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import AlikeLayers, Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import ROW, LlamaOptions
from fitcheck.runtimes.llamacpp.remembered import remembered

HOST = -1
LEFT_OUT = -2
# tensors of the input layer: src/llama-arch.cpp, LLM_TENSOR_LAYER_INPUT
_INPUT = ("token_embd.weight", "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")
_MATRIX_ROW_PADDING = 512


@dataclass(frozen=True, slots=True)
class Devices:
    """Where layers live: one device index a layer (HOST is the host) and one for the output."""

    layers: tuple[int, ...]
    output: int
    cards: int

    @property
    def full_offload(self) -> bool:
        """Whether every layer and the output are on cards; token embeddings stay on the host even then."""
        return self.output != HOST and HOST not in self.layers


@dataclass(frozen=True, slots=True)
class WeightBuffers:
    """``cards`` is bytes a card, ``host`` the printed size of host buffers, ``host_used`` what is really read of
    them."""

    cards: tuple[int, ...]
    host: int
    host_used: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Tensors that always live together, of which ``first`` stands for all. ``host`` and ``card`` are their bytes in a
    buffer of either; in the file they lie between the offsets ``start`` and ``end``. ``layer`` is ``None`` for what
    belongs to no layer, ``expert`` says that they are a layer's experts."""

    first: Tensor
    layer: int | None
    expert: bool
    host: int
    card: int
    start: int
    end: int


def layer_devices(architecture: LanguageArchitecture, options: LlamaOptions, free: Sequence[int]) -> Devices:
    """The device of every layer. ``free`` is the free memory of each card, by which layers are split unless told."""
    cards = len(free)
    count = architecture.layers
    wanted = count + 1 if options.gpu_layers is None else options.gpu_layers
    on_cards = min(wanted, count + 1) if cards else 0
    # builds before December 2025, and the fork, moved the output layer last instead of first
    start = max(count + (1 if options.build.has("head_first") else 0) - wanted, 0)
    shares = card_shares(options, free)
    total = sum(shares)
    points, reached = [], 0.0
    for share in shares:
        reached += share
        points.append(reached / total if total else 1.0)

    return _split(count, start, on_cards, tuple(points))


@lru_cache(maxsize=4096)
def _split(count: int, start: int, on_cards: int, points: tuple[float, ...]) -> Devices:
    """``on_cards`` of ``count`` layers and the output, from ``start`` on, on cards that reach to these shares."""
    cards = len(points)

    def device(layer: int) -> int:
        if not on_cards or layer < start or layer - start >= on_cards:
            return HOST
        return min(bisect_right(points, (layer - start) / on_cards), cards - 1)

    return Devices(tuple(device(layer) for layer in range(count)), device(count), cards)


def card_shares(options: LlamaOptions, free: Sequence[int]) -> list[float]:
    """Each card's share of the layers: the main one's alone, as told, or its free memory."""
    cards = len(free)
    if options.split_mode == "none":
        return [float(index == options.main_gpu) for index in range(cards)]
    shares = [float(share) for share in options.tensor_split[:cards]]
    if not any(shares):
        shares = [float(max(amount, 1)) for amount in free]
    return shares + [0.0] * (cards - len(shares))


def place_weights(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> WeightBuffers:
    """Sum up the model buffers, in bytes: once for all options that place weights alike."""
    if options.overrides or options.split_mode == ROW:
        return _placed(architecture, tensors, options, devices)
    known = _known(tensors)
    tied = head_on_host(architecture, options)
    key = (devices, options.cpu_moe_layers, options.predicts, options.mmap, options.alignment, tied)
    if key not in known:
        known[key] = _placed(architecture, tensors, options, devices)
    return known[key]


@remembered
def _known(tensors: TensorTable) -> dict[tuple[object, ...], WeightBuffers]:
    """Buffers by all that decides them; a table is of one architecture."""
    return {}


def _placed(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> WeightBuffers:
    sizes = [0] * devices.cards
    host_total, starts, ends = 0, [], []
    left_out = frozenset() if options.predicts else architecture.predicting
    layers, experts = devices.layers, options.cpu_moe_layers
    for group in _grouped(tensors, options):
        layer = group.layer
        if layer is None:
            place = tensor_device(group.first, architecture, options, devices)
        elif layer in left_out:
            continue
        elif group.expert and layer < experts:
            place = HOST
        else:
            place = layers[layer] if layer < len(layers) else devices.output
        if place == HOST:
            host_total += group.host
            starts.append(group.start)
            ends.append(group.end)
        elif place != LEFT_OUT and options.split_mode == ROW and len(group.first.shape) == 2:
            for card, size in enumerate(_rows(group.card, devices)):
                sizes[card] += size
        elif place != LEFT_OUT:
            sizes[place] += group.card
    copied = None if head_on_host(architecture, options) else tied_copy(architecture, tensors)
    if copied is not None and devices.output != HOST:
        size = card_bytes(copied, options.alignment)
        for card, part in enumerate(_rows(size, devices)) if options.split_mode == ROW else [(devices.output, size)]:
            sizes[card] += part
    spanned = max(ends) - min(starts) if options.mmap and ends else host_total
    return WeightBuffers(tuple(sizes), spanned, host_total)


def _rows(size: int, devices: Devices) -> list[int]:
    """A matrix by rows over the cards, in the shares by which they have layers (ggml-cuda.cu before June 2026,
    get_row_split); matrices of experts are not split (pull 13919)."""
    counts = [devices.layers.count(card) + (devices.output == card) for card in range(devices.cards)]
    return [size * count // max(sum(counts), 1) for count in counts]


class TensorPlaces(dict[str, int]):
    """The device of every tensor by its name, each found when it is asked for: a graph reads those of few layers."""

    def __init__(
        self,
        architecture: LanguageArchitecture,
        tensors: Mapping[str, Tensor],
        options: LlamaOptions,
        devices: Devices,
    ) -> None:
        super().__init__()
        self._asked = (architecture, options, devices)
        self._tensors = tensors

    def __missing__(self, name: str) -> int:
        """Called for what was not asked yet. Raises KeyError for a tensor that is not there."""
        place = self[name] = tensor_device(self._tensors[name], *self._asked)
        return place


def _grouped(tensors: TensorTable, options: LlamaOptions) -> Sequence[_Group]:
    """Groups of a table, added up once a table; overrides place tensors one by one and keep every one apart."""
    if options.overrides or options.split_mode == ROW:
        return _groups_of(tensors, options.alignment, split=True)
    known = _groups(tensors)
    if options.alignment not in known:
        known[options.alignment] = _groups_by_layer(tensors, options.alignment)
    return known[options.alignment]


@remembered
def _groups(tensors: TensorTable) -> dict[int, Sequence[_Group]]:
    """By the alignment of cards' buffers."""
    return {}


def _groups_by_layer(tensors: TensorTable, alignment: int) -> Sequence[_Group]:
    layered = tensors.layered
    if layered is None:
        return _groups_of(tensors, alignment, split=False)
    found = _groups_of(layered.outside, alignment, split=True)
    offset = found[-1].end if found else 0
    alike: dict[AlikeLayers, list[_Group]] = {}
    for layer, one in enumerate(layered.layers):
        if one not in alike:
            alike[one] = _groups_of(one.tensors, alignment, split=False)
        for group in alike[one]:
            start, end = offset + group.start, offset + group.end
            found.append(_Group(group.first, layer, group.expert, group.host, group.card, start, end))
        offset += max((group.end for group in alike[one]), default=0)
    return found


def _groups_of(tensors: Iterable[Tensor], alignment: int, *, split: bool) -> list[_Group]:
    found: dict[object, _Group] = {}
    offset = 0
    for index, tensor in enumerate(tensors):
        apart = split or tensor.layer is None or not tensor.name.startswith("blk.")
        layer, expert = None if apart else tensor.layer, not apart and tensor.role == "expert"
        key = index if apart else (layer, expert)
        host, card = -(-tensor.nbytes // 32) * 32, card_bytes(tensor, alignment)
        known = found.get(key) or _Group(tensor, layer, expert, 0, 0, offset, offset)
        offset += host
        found[key] = _Group(known.first, layer, expert, known.host + host, known.card + card, known.start, offset)
    return list(found.values())


def tensor_device(tensor: Tensor, architecture: LanguageArchitecture, options: LlamaOptions, devices: Devices) -> int:
    """The device of one tensor: overrides first, as they are matched in order, then by layer. Prediction layers are
    not loaded where nothing is drafted with them."""
    if not options.predicts and tensor.layer in architecture.predicting:
        return LEFT_OUT
    if tensor.name in _INPUT:
        return HOST
    for override in options.overrides:
        if override.matches(tensor.name):
            return HOST if override.device is None else override.device
    if tensor.layer is None or not tensor.name.startswith("blk."):
        if tensor.name.startswith("token_embd_norm."):
            return devices.layers[0] if devices.layers else devices.output
        if tensor.name.startswith("rope_"):
            # the frequencies belong to the layers that use them
            return next((device for device in devices.layers if device != HOST), HOST)
        return devices.output
    if tensor.role == "expert" and tensor.layer < options.cpu_moe_layers:
        return HOST
    return devices.layers[tensor.layer] if tensor.layer < len(devices.layers) else devices.output


def tied_copy(architecture: LanguageArchitecture, tensors: TensorTable) -> Tensor | None:
    """The embedding table where it also serves as the head, which is loaded a second time to the output's device."""
    if not architecture.tied_embeddings:
        return None
    among = tensors if tensors.layered is None else tensors.layered.outside
    return next((tensor for tensor in among if tensor.name == "token_embd.weight"), None)


def head_on_host(architecture: LanguageArchitecture, options: LlamaOptions) -> bool:
    """Whether the head is the embedding table itself, where that lies: LFM2's was not copied to a card at first."""
    return architecture.name in ("lfm2", "lfm2moe") and not options.build.has("lfm2_head")


def card_bytes(tensor: Tensor, alignment: int) -> int:
    """A tensor's room in a card's buffer: rows of quantized types are padded to 512 elements (ggml-cuda)."""
    size = tensor.nbytes
    quant = tensor.quant
    if quant.quantized and tensor.shape and tensor.shape[-1] % _MATRIX_ROW_PADDING:
        missing = _MATRIX_ROW_PADDING - tensor.shape[-1] % _MATRIX_ROW_PADDING
        size += missing // quant.block * quant.block_bytes
    return -(-size // alignment) * alignment
