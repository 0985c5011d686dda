"""Which device each tensor is loaded to, and how large each model buffer becomes.

As ggml-org/llama.cpp src/llama-model.cpp load_tensors: the last ``-ngl`` layers (the output counts as one) go to the
cards in the order of the split, token embeddings always stay on the host, a head tied to them is copied to the card,
and a memory-mapped host buffer spans the file from its first host tensor to its last.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import ROW, LlamaOptions
from fitcheck.runtimes.llamacpp.weight_groups import InFile, WeightSums, card_bytes, grouped, sums_of

HOST = -1
LEFT_OUT = -2
# tensors of the input layer: src/llama-arch.cpp, LLM_TENSOR_LAYER_INPUT
_INPUT = ("token_embd.weight", "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")
# tensors of no layer that lie with the first one: LLM_TENSOR_LAYER_REPEATING there
_WITH_FIRST_LAYER = ("token_embd_norm.", "per_layer_model_proj.", "per_layer_proj_norm.")


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

    @property
    def spans(self) -> Iterator[tuple[int, int, int]]:
        """Each device with the layers on it, from one up to another: the host's come first, then card after card."""
        start = 0
        for device in (HOST, *range(self.cards)):
            stop = start + self.layers.count(device)
            yield device, start, stop
            start = stop


@dataclass(frozen=True, slots=True)
class WeightBuffers:
    """``cards`` is bytes a card, ``host`` the printed size of host buffers, ``host_used`` what is really read of
    them."""

    cards: tuple[int, ...]
    host: int
    host_used: int


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
    """Sum up the model buffers, in bytes."""
    apart = options.overrides or options.split_mode == ROW
    held = _one_by_one if apart else _by_layers
    sizes, host = held(architecture, tensors, options, devices)
    copied = None if head_on_host(architecture, options) else tied_copy(architecture, tensors)
    if copied is not None and devices.output != HOST:
        size = card_bytes(copied, options.alignment)
        for card, part in enumerate(_rows(size, devices)) if options.split_mode == ROW else [(devices.output, size)]:
            sizes[card] += part
    return WeightBuffers(tuple(sizes), host.spanned if options.mmap else host.bytes, host.bytes)


def weight_bytes(architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions) -> int:
    """Bytes of all weights that such a run reads, wherever they lie."""
    alone = options.with_(gpu_layers=0, cpu_moe_layers=0)
    return place_weights(architecture, tensors, alone, layer_devices(architecture, alone, ())).host_used


def _by_layers(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> tuple[list[int], InFile]:
    """Bytes on each card, and what lies on the host: there also lie experts of the first layers, wherever the rest of
    them does."""
    left_out = frozenset() if options.predicts else architecture.predicting
    sums = sums_of(tensors, options.alignment, len(devices.layers), left_out)
    place = devices, options.cpu_moe_layers  # the same with any cache, and in any build
    if place not in sums.placed:
        sums.placed[place] = _added_up(architecture, options, devices, sums)
    sizes, host = sums.placed[place]
    return [*sizes], host


def _added_up(
    architecture: LanguageArchitecture, options: LlamaOptions, devices: Devices, sums: WeightSums
) -> tuple[list[int], InFile]:
    (_, _, on_host), *cards = devices.spans
    moved = min(max(options.cpu_moe_layers, on_host), len(devices.layers))
    host = sums.layers.on_host(on_host).beside(sums.experts.on_host(moved))
    sizes = [
        sums.layers.on_card(start, stop) + sums.experts.on_card(min(max(start, moved), stop), stop)
        for _, start, stop in cards
    ]
    for group in sums.outside:
        place = tensor_device(group.first, architecture, options, devices)
        if place == HOST:
            host = host.beside(group.in_file)
        elif place != LEFT_OUT:
            sizes[place] += group.card
    return sizes, host


def _one_by_one(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> tuple[list[int], InFile]:
    """The same where each tensor may lie elsewhere, or its rows."""
    sizes, host = [0] * devices.cards, InFile()
    for group in grouped(tensors, options.alignment, split=True):
        place = tensor_device(group.first, architecture, options, devices)
        if place == HOST:
            host = host.beside(group.in_file)
        elif place != LEFT_OUT and options.split_mode == ROW and len(group.first.shape) == 2:
            for card, size in enumerate(_rows(group.card, devices)):
                sizes[card] += size
        elif place != LEFT_OUT:
            sizes[place] += group.card
    return sizes, host


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
        if tensor.name.startswith(_WITH_FIRST_LAYER):
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
