"""Graphs of the usual questions, worked out beforehand: what the allocator does in each layer's segment.

``data/packed/<shape>.json.gz`` holds, for a shape of the catalog on one card, the segments of every graph that the
usual question meets: each number of layers on the card, each number of layers whose experts lie on the host, caches in
16 and 8 bits, the builds that people run and, in the newest, drafting with the model's own layers.
``<shape>-2.json.gz`` holds the same of two cards with as much memory each, which share the layers evenly, and of all
layers on them also where a screen leaves the first one a layer or two less. Tiers, cards and amounts of memory make no
difference to them, and a longer context makes some tensors longer, each by so many bytes a cell: within the contexts
that were tried it is the same.
``scripts/pack_language_graphs.py`` writes it with the very code that builds graphs when they are asked for, and a test
holds it to that. A file speaks only while that code and its data are the same to the byte (a checksum is in it), and
for a shape that is the same in every layer and tensor. Everything else is built when it is asked.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Hashable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from fitcheck.data_files import path_of, read_text
from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import MTP, LlamaOptions
from fitcheck.runtimes.llamacpp.arrangement import arrangement, graph_key
from fitcheck.runtimes.llamacpp.builds import builds_in_use, newest_build
from fitcheck.runtimes.llamacpp.layer_facts import table_facts, tensor_names
from fitcheck.runtimes.llamacpp.options import TextOptions
from fitcheck.runtimes.llamacpp.segments import Numbered, Segment, numbered
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices, layer_devices

ROOM, FOLDER = "runtimes.llamacpp", "packed"
CACHES = ("f16", "q8_0")
CARDS = (1, 2)  # more of them have few machines
LESS = (1, 2)  # layers that a screen on the first of two cards leaves it less where all lie on them
# everything that a graph's segments were worked out with; a test holds that nothing is left out
MODULES = (
    "altup",
    "arena",
    "arguments",
    "arrangement",
    "builds",
    "caches",
    "chunked_delta",
    "compute",
    "dense_beside",
    "encoder_graph",
    "experts",
    "feedforward",
    "graph",
    "graph_allocator",
    "graph_attention",
    "graph_layers",
    "graph_parts",
    "graph_traits",
    "head_attention",
    "indexer",
    "kimi_delta",
    "latent",
    "layer_facts",
    "mixers",
    "packed",
    "plamo",
    "repeats",
    "reservation",
    "schedule",
    "segments",
    "states",
    "uncached_attention",
    "weight_groups",
    "weight_placement",
)
_FACTS = ("llamacpp_builds", "graph_traits")


@cache
def facts_checksum() -> int:
    """Of the code and the data files that every pack was worked out with."""
    here, found = Path(__file__).parent, 0
    for name in MODULES:
        found = zlib.crc32((here / f"{name}.py").read_bytes(), found)
    for name in _FACTS:
        found = zlib.crc32(read_text(ROOM, f"{name}.json").encode(), found)
    return found


def shape_name(architecture: LanguageArchitecture, tensors: TensorTable) -> str:
    """The name of the pack for such a model: of all that a graph depends on but options and devices."""
    facts = table_facts(tensors)
    key = (architecture, facts.shapes, facts.outside)
    if key not in _names:
        if len(_names) >= _MOST:
            _names.clear()
        held = [(one.name, one.shape, one.layer, one.role) for one in tensor_names(tensors).values()]
        text = repr((architecture, held)).encode()
        _names[key] = f"{zlib.crc32(text):08x}-{len(text):x}"
    return _names[key]


_names: dict[Hashable, str] = {}
_MOST = 1 << 10


def pack_name(shape: str, cards: int) -> str:
    """The name of the pack of a shape on so many cards."""
    return shape if cards == 1 else f"{shape}-{cards}"


def asked_options(architecture: LanguageArchitecture) -> LlamaOptions:
    """The options of who asks for none, wherever layers lie."""
    return TextOptions().arguments(architecture).anywhere


def usual_options(architecture: LanguageArchitecture, context: int) -> Mapping[LlamaOptions, str]:
    """The options of the usual question at such a context, and how a pack names them. What drafting with a model's own
    layers takes besides is told of the newest build."""
    asked = asked_options(architecture).with_(context=context)
    found = {
        asked.with_(cache_type_k=held, cache_type_v=held, build=build): f"{build.day} {held}"
        for build in (newest_build(), *builds_in_use())
        for held in CACHES
    }
    if architecture.predicting:
        newest = [one for one in found if one.build == newest_build()]
        found |= {one.with_(speculative=MTP): f"{found[one]} {MTP}" for one in newest}
    return found


_usual_options = lru_cache(maxsize=1024)(usual_options)


def place_name(options: LlamaOptions, devices: Devices) -> str | None:
    """How a pack names where layers lie: those on cards, the output counted, or those with experts on the host;
    ``None`` where it has no such place."""
    if devices.cards not in CARDS:
        return None
    if not options.cpu_moe_layers:
        less = _less(devices)
        on_cards = str(len(devices.layers) - devices.layers.count(HOST) + (devices.output != HOST))
        return f"{on_cards} less {less}" if less else on_cards
    return f"experts {options.cpu_moe_layers}" if devices.full_offload else None


def _less(devices: Devices) -> int:
    """How many layers less than an even share the first of two cards has that hold all; 0 where a pack names that by
    the even share."""
    if devices.cards != 2 or not devices.full_offload:
        return 0
    less = -(-(len(devices.layers) + 1) // 2) - devices.layers.count(0)
    return less if less in LESS else 0


def uneven_shares(layers: int, less: int) -> tuple[int, int]:
    """Free memory of two cards of which the first one gets so many ``layers`` and the output less than an even
    share."""
    first = -(-(layers + 1) // 2) - less
    return 2 * first - 1, 2 * (layers + 1 - first) + 1


@dataclass(frozen=True, slots=True)
class Pack:
    """A parsed file. ``cases`` are numbers of programs by options and place, a program is numbers of segments, a
    segment numbers of ``steps`` and what is opened. A step has its bytes without a context and those a cell. It speaks
    for ``contexts`` from the first to the last."""

    contexts: tuple[int, int]
    steps: list[tuple[int, int, int | None, int, int]]
    segments: list[list[Any]]
    programs: list[list[int]]
    cases: dict[str, dict[str, int]]
    made: dict[tuple[int, int], Numbered]

    def segment(self, at: int, cells: int) -> Numbered:
        """One of the segments with a cache of so many cells."""
        found = self.made.get((at, cells))
        if found is None:
            steps, opened = self.segments[at]
            laid = tuple(
                (device, live, kept, fixed + each * cells)
                for device, live, kept, fixed, each in (self.steps[one] for one in steps)
            )
            found = self.made[at, cells] = numbered(Segment(laid, tuple(map(tuple, opened))))
        return found


def known_segments(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices
) -> tuple[Numbered, ...] | None:
    """The segments of the graph; ``None`` where they are not packed."""
    if options.overrides:
        return None
    place = place_name(options, devices)
    case = _usual_options(architecture, options.context).get(options.anywhere)
    if place is None or case is None:
        return None
    pack = _pack(pack_name(shape_name(architecture, tensors), devices.cards), _asked_text(architecture))
    if pack is None or not pack.contexts[0] <= options.context <= pack.contexts[1]:
        return None
    at = pack.cases[case].get(place)
    program = None if at is None else pack.programs[at]
    if program is None or not _is_shared_evenly(architecture, tensors, options, devices, len(program)):
        return None
    return tuple(pack.segment(one, options.padded_context) for one in program)


def _is_shared_evenly(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, devices: Devices, segments: int
) -> bool:
    """Whether cards share the layers as those of a pack do, or differ from them only in how often layers repeat those
    that the graph of so many ``segments`` has."""
    if not options.cpu_moe_layers and _less(devices):
        return True
    even = layer_devices(architecture, options, (1,) * devices.cards)
    if devices == even:
        return True
    kept, has = [], []
    for one in (devices, even):
        arranged = arrangement(architecture, tensors, options, one)
        kept.append(len(arranged.repeats.kept))
        has.append((graph_key(architecture, tensors, options, one), arranged.layers, arranged.repeats.alike))
    return segments == kept[0] + 1 and has[0] == has[1]


@lru_cache(maxsize=256)
def _asked_text(architecture: LanguageArchitecture) -> str:
    return repr(asked_options(architecture))


@lru_cache(maxsize=256)
def _pack(name: str, asked: str) -> Pack | None:
    file = path_of(ROOM, f"{FOLDER}/{name}.json.gz")
    if not file.is_file():
        return None
    found = json.loads(gzip.decompress(file.read_bytes()))
    if found["facts"] != facts_checksum() or found["asked"] != asked:
        return None
    low, high = found["contexts"]
    return Pack((low, high), found["steps"], found["segments"], found["programs"], found["cases"], {})
