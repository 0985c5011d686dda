"""Packs the graphs of language models' usual questions: ``python scripts/pack_language_graphs.py [--check] [NAME…]``.

Writes ``fitcheck/runtimes/llamacpp/data/packed/``, a file a shape of the catalog (names of models narrow that down):
the segments of each graph with caches in 16 and 8 bits, in each build that people run, for every number of layers on
one card or on two and of layers whose experts lie on the host, and over which contexts it is the same. All of it is
worked out by the estimator itself. ``--check`` compares instead, and exits with 1 where a file differs. Half an hour of
two cores, no extra.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import sys
from typing import Any

from fitcheck.data_files import path_of
from fitcheck.models import catalog
from fitcheck.models.families import registry
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp import compute, packed
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.caches import layer_caches
from fitcheck.runtimes.llamacpp.options import LEAST_CONTEXT
from fitcheck.runtimes.llamacpp.segments import Segment
from fitcheck.runtimes.llamacpp.weight_placement import layer_devices

FOLDER = path_of(packed.ROOM, packed.FOLDER)


def shapes_of(slug: str) -> dict[str, tuple[LanguageArchitecture, TensorTable]]:
    """A model's shapes by the names of their packs; nearly always one."""
    model, found = catalog.get(slug), {}
    for tier in model.tiers:
        architecture = tier.architecture or model.architecture
        assert isinstance(architecture, LanguageArchitecture)
        found[packed.shape_name(architecture, tier.tensors)] = (architecture, tier.tensors)
    return found


# options, and the free memory by which cards share the layers
Place = tuple[LlamaOptions, tuple[int, ...]]


def places(architecture: LanguageArchitecture, options: LlamaOptions, cards: int) -> list[Place]:
    """Every way to share layers with cards, then every way to share experts, then all on two cards unevenly."""
    layers, even = architecture.layers, (1,) * cards
    whole = options.with_(gpu_layers=layers + 1)
    found = [(options.with_(gpu_layers=count), even) for count in range(layers + 2)]
    if architecture.experts:
        found += [(whole.with_(cpu_moe_layers=count), even) for count in range(1, layers + 1)]
    if cards == 2:
        found += [(whole, packed.uneven_shares(layers, less)) for less in packed.LESS if 2 * less < layers]
    return found


class Numbers(dict[Any, int]):
    """Things numbered in the order in which they come."""

    def __missing__(self, thing: Any) -> int:
        """The next number."""
        self[thing] = len(self)
        return self[thing]


Program = tuple[Segment, ...]


def program_of(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, free: tuple[int, ...]
) -> tuple[str, Program]:
    """The segments of a graph on cards with so much ``free`` memory, and the name of where its layers lie."""
    devices, caches = layer_devices(architecture, options, free), layer_caches(architecture, options)
    _, found = compute.segmented(architecture, tensors, options, devices, caches, packs=False)
    place = packed.place_name(options, devices)
    assert place is not None
    return place, tuple(segment for _, segment, _ in found.segments)


def lengthened(one: Program, other: Program, cells: tuple[int, int]) -> list[list[tuple[Any, ...]]] | None:
    """Steps with their bytes at no context and a cell, from the programs at two numbers of cells; ``None`` where these
    do not do the same, or not by whole bytes a cell."""
    if [len(part.steps) for part in one] != [len(part.steps) for part in other]:
        return None
    found: list[list[tuple[Any, ...]]] = []
    for first, second in zip(one, other, strict=True):
        found.append([])
        for (*here, size), (*there, longer) in zip(first.steps, second.steps, strict=True):
            each, rest = divmod(longer - size, cells[1] - cells[0])
            if here != there or rest or first.opened != second.opened or (here[2] and each):
                return None
            found[-1].append((*here, size - each * cells[0], each))
    return found


def same_at(
    architecture: LanguageArchitecture, tensors: TensorTable, context: int, cards: int, pack: packed.Pack
) -> bool:
    """Whether a pack says of such a context what a graph built anew does, in the first case and the last, where layers
    lie in a few ways."""
    cases = list(packed.usual_options(architecture, context).items())
    for usual, case in (cases[0], cases[-1]):
        every = places(architecture, usual, cards)
        for options, free in {every[0], every[-1], every[len(every) // 3], every[len(every) // 2]}:
            place, found = program_of(architecture, tensors, options, free)
            numbers = pack.programs[pack.cases[case][place]]
            if found != tuple(pack.segment(one, options.padded_context)[1] for one in numbers):
                return False
    return True


def pack_of(architecture: LanguageArchitecture, tensors: TensorTable, cards: int) -> dict[str, Any]:
    """What the file of a shape on so many cards says: of contexts from the shortest to the longest that do the same as
    the usual one, of that one alone where not even twice as long a one does."""
    usual = packed.asked_options(architecture).context
    for longer in (2 * usual, usual):
        found = _pack_of(architecture, tensors, cards, usual, longer)
        if found is not None:
            break
    assert found is not None
    pack = packed.Pack((0, 0), found["steps"], found["segments"], found["programs"], found["cases"], {})
    if longer > usual:
        for context in (usual // 2, usual // 4):
            if context >= LEAST_CONTEXT and same_at(architecture, tensors, context, cards, pack):
                found["contexts"][0] = context
            else:
                break
        for context in (4 * usual, 16 * usual):
            if same_at(architecture, tensors, context, cards, pack):
                found["contexts"][1] = context
            else:
                break
    compute.forget()
    return found


def _pack_of(
    architecture: LanguageArchitecture, tensors: TensorTable, cards: int, usual: int, longer: int
) -> dict[str, Any] | None:
    steps, segments, programs = Numbers(), Numbers(), Numbers()
    cases: dict[str, dict[str, int]] = {}
    for asked, case in packed.usual_options(architecture, usual).items():
        cases[case] = {}
        for options, free in places(architecture, asked, cards):
            further = options.with_(context=longer)
            place, one = program_of(architecture, tensors, options, free)
            _, other = program_of(architecture, tensors, further, free)
            cells = options.padded_context, further.padded_context if longer > usual else options.padded_context + 1
            both = lengthened(one, other, cells)
            if both is None:
                return None
            numbers = [
                segments[tuple(steps[step] for step in mine), segment.opened]
                for mine, segment in zip(both, one, strict=True)
            ]
            cases[case][place] = programs[tuple(numbers)]
    return {
        "facts": packed.facts_checksum(),
        "asked": repr(packed.asked_options(architecture)),
        "contexts": [usual, longer],
        "cases": cases,
        "programs": list(programs),
        "segments": list(segments),
        "steps": list(steps),
    }


def packs_of(slug: str) -> dict[str, bytes]:
    """The files of a model by their names; the same packs give the same bytes."""
    return {
        f"{packed.pack_name(name, cards)}.json.gz": gzip.compress(
            json.dumps(pack_of(*shape, cards), separators=(",", ":")).encode(), 9, mtime=0
        )
        for name, shape in shapes_of(slug).items()
        for cards in packed.CARDS
    }


def main(arguments: list[str]) -> int:
    """Write the files, or compare. Exit code 1 where one differs."""
    check, named = "--check" in arguments, [one for one in arguments if not one.startswith("--")]
    firsts: dict[tuple[str, ...], str] = {}
    for slug in named or registry.get("language").slugs():
        firsts.setdefault(tuple(shapes_of(slug)), slug)
    there = {file.name: file.read_bytes() for file in FOLDER.glob("*.json.gz")}
    FOLDER.mkdir(exist_ok=True)
    made: set[str] = set()
    wrong: set[str] = set()
    with multiprocessing.Pool(2) as pool:
        for part in pool.imap_unordered(packs_of, firsts.values()):
            made.update(part)
            for name, content in part.items():
                if there.get(name) != content:
                    wrong.add(name)
                    if not check:
                        (FOLDER / name).write_bytes(content)
    gone = set() if named else there.keys() - made
    if check:
        for name in sorted(wrong | gone):
            print(f"{name}: not what the estimator works out", file=sys.stderr)
        return 1 if wrong or gone else 0
    for name in gone:
        (FOLDER / name).unlink()
    size = sum((FOLDER / name).stat().st_size for name in made)
    print(f"{len(made)} files, {size / 1e3:.0f} kB, {len(wrong)} of them new or changed, {len(gone)} taken away")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
