"""Where the layers of a run lie, and which of them a graph has to have."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.graph_traits import SPARSE_LAYERS, has_trait
from fitcheck.runtimes.llamacpp.layer_facts import TableFacts, block_numbers, number, table_facts, tensor_names
from fitcheck.runtimes.llamacpp.repeats import Repeats, repeats, whole
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, TensorPlaces


@dataclass(frozen=True)
class Arrangement:
    """Indices of the main layers, and which of them a graph has. ``each`` is what it depends on of all of them: the
    block, the device, the tensors' shapes and whether experts lie on the host. Which layer it is makes no difference,
    and neither do the tensors' types."""

    main: tuple[int, ...]
    repeats: Repeats
    each: tuple[Hashable, ...]

    @cached_property
    def layers(self) -> tuple[Hashable, ...]:
        """What a graph depends on of its layers."""
        return tuple(self.each[position] for position in self.repeats.kept)

    @cached_property
    def of_all(self) -> Arrangement:
        """The same layers in a graph that has every one of them."""
        return Arrangement(self.main, whole(len(self.main)), self.each)


def main_layers(architecture: LanguageArchitecture) -> tuple[int, ...]:
    """Indices of the layers that the main pass runs."""
    return tuple(index for index, block in enumerate(architecture.blocks) if not block.prediction)


def arrangement(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    devices: Devices,
) -> Arrangement:
    """Where the layers lie with these options on these devices, worked out once for all tiers of a model."""
    facts = table_facts(tensors)
    apart: tuple[int, ...] = ()
    if options.overrides:
        places = TensorPlaces(architecture, tensor_names(tensors), options, devices)
        apart = tuple(
            number(tuple(places[f"blk.{index}.{name}"] for name in facts.layer(index).held))
            for index in range(architecture.layers)
        )
    key = (architecture, facts.shapes, devices.layers, options.cpu_moe_layers, apart)
    found = _arranged.get(key)
    if found is None:
        if len(_arranged) >= _MOST_ARRANGED:
            _arranged.clear()
        found = _arranged[key] = _work_out(architecture, facts, devices.layers, options.cpu_moe_layers, apart)
    return found


_arranged: dict[Hashable, Arrangement] = {}
_MOST_ARRANGED = 1 << 14


def _work_out(
    architecture: LanguageArchitecture,
    facts: TableFacts,
    devices: tuple[int, ...],
    experts: int,
    apart: tuple[int, ...],
) -> Arrangement:
    """``experts`` of the first layers lie on the host, ``apart`` tells layers apart whose tensors lie elsewhere."""
    blocks, main = block_numbers(architecture), main_layers(architecture)
    fourth = has_trait(architecture, "every_fourth_unturned")
    sparse = SPARSE_LAYERS if has_trait(architecture, "leading_sparse") else 0
    places = [(devices[index], index < experts, *apart[index : index + 1]) for index in main]
    kinds = [(*blocks[index], facts.layer(index).shapes, fourth and index % 4 == 3, index < sparse) for index in main]
    # each layer's share of per-layer embeddings and of shared caches is copied to its device before the first one runs
    apart_each = architecture.per_layer_embedding and len(set(devices)) > 1
    found = whole(len(main)) if apart_each else repeats(places, kinds)
    return Arrangement(main, found, tuple(zip(places, kinds, strict=True)))


def graph_key(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> Hashable:
    """All that a graph depends on beside its layers: architecture and options, and which devices there are."""
    return (
        architecture,
        options.anywhere,
        devices.cards,
        devices.output,
        devices.full_offload,
        devices.layers[:1] + devices.layers[-1:],
        next((device for device in devices.layers if device != HOST), HOST),
        pipelined(options, devices),
        table_facts(tensors).outside,
    )


def pipelined(options: LlamaOptions, devices: Devices) -> bool:
    """Whether cards work on several batches at once, each with inputs of its own (llama-context.cpp)."""
    return (
        devices.cards > 1
        and options.split_mode == "layer"
        and devices.full_offload
        and not options.cache_on_host
        and (not options.workers or options.build.has("rpc_events"))
        and not _overridden(options)
    )


def _overridden(options: LlamaOptions) -> bool:
    return bool(options.overrides or options.cpu_moe_layers)
