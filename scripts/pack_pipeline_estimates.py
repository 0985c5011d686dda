"""Packs what the usual questions about pipelines come to: ``python scripts/pack_pipeline_estimates.py [--check]``.

Writes ``fitcheck/runtimes/diffusers/data/packed/``, a file a trace: sums over the weights in every scheme that a tier
of the catalog has, and what each call comes to at the sizes that ``check`` asks for when nobody names any, that its
advice leads to, that pages ask for, and that accepted records have. All of it is worked out by the estimator itself.
``--check`` compares instead, and exits with 1 where a file differs. Two cores, no extra.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from itertools import chain, product
from typing import Any
from unittest.mock import patch

from fitcheck.data_files import path_of
from fitcheck.errors import InputError
from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.models.families import registry
from fitcheck.models.families.pipeline.architecture import Component, PipelineArchitecture
from fitcheck.models.families.pipeline.schemes import scheme
from fitcheck.models.families.pipeline.tiers import PipelineTable
from fitcheck.models.model import Model, Tier
from fitcheck.pages.other_sizes import Reports, sizes_shown, steps, tiers_shown
from fitcheck.records.run_index import accepted
from fitcheck.runtimes import held
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers import packed, replay
from fitcheck.runtimes.diffusers.activations import Sizes, call_facts, dequantizing, live_in_turn, turn_of
from fitcheck.runtimes.diffusers.moving_layers import live_forwards
from fitcheck.runtimes.diffusers.offloading import TILING, WHOLE, Offload, offload_of
from fitcheck.runtimes.diffusers.replay import live_replayed, pictures_of, replay_name, shares_a_pool
from fitcheck.runtimes.diffusers.runtime import RUNTIME, architecture_of
from fitcheck.runtimes.diffusers.stages import CHILDREN, Stages, stages_of
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.weight_groups import (
    GROUP_SUMS,
    Groups,
    groups_name,
    live_block_groups,
    live_leaf_groups,
)
from fitcheck.runtimes.diffusers.weights import SUMS, ModuleWeights, live_weights, nameless
from fitcheck.units import GIB
from fitcheck.verdict import usual_machine
from fitcheck.verdict.usual_memory import completed

FOLDER = path_of(ROOM, packed.FOLDER)
# smaller cards have few pages
_LEAST_MEMORY = 4 * GIB


def asks_about(slug: str | None) -> Iterator[Ask]:
    """Every cell of a model of the catalog whose runs are packed whole; without one those of accepted records."""
    if slug is None:
        runs = (RUNTIME.ask_of(run) for run in accepted().rows if run.cell.runtime == RUNTIME.name)
        return (ask for ask in runs if ask is not None)
    return usual_asks(catalog.get(slug))


def usual_asks(model: Model) -> Iterator[Ask]:
    """Every cell as ``check`` asks, and what its advice asks besides."""
    # cards that take decodes in tiles, one of them all, and one that takes all of them whole
    for card, task in product(("rtx-4060", "rtx-4070", "b200"), model.tasks):
        for ask in RUNTIME.asks(model, model.tiers, Wanted(task=str(task)), asked_machine([card], ram=32 << 30)):
            yield ask
            yield from (change.ask for change in RUNTIME.changes(ask, Wanted()))


def page_asks(model: Model) -> Iterator[Ask]:
    """Every cell that a page may ask about at another size than the usual one, decoded whole and in tiles: of one file
    that publishers offer, in all modes of it."""
    machine = asked_machine(["b200"], ram=32 << 30)
    tiers = [tier for tier in model.tiers if tier.published or len(model.tiers) == 1]
    for size, decoding, tier in product(sizes_shown(model.tasks[0]), (WHOLE, TILING), tiers):
        with suppress(InputError):  # a size that this model cannot make
            yield from RUNTIME.asks(model, (tier,), Wanted(options=(size, ("vae", decoding))), machine)


def stages_in(ask: Ask) -> Stages:
    """The calls of one run, in order."""
    return stages_of(architecture_of(ask), ask.workload, offload_of(ask.placement))


@dataclass
class Needed:
    """What cells look up: schemes and calls of each component, calls one after the other, and bytes of ``wholes``,
    runs whose layers share the calls' pool, by name."""

    schemes: dict[Component, set[str]] = field(default_factory=dict)
    calls: dict[Component, set[tuple[str, Sizes]]] = field(default_factory=dict)
    turns: set[packed.Turn] = field(default_factory=set)
    wholes: dict[str, int] = field(default_factory=dict)

    def add(self, ask: Ask, *, whole: bool) -> None:
        """What a cell looks up, and with ``whole`` what its run replayed whole comes to: that takes a second a cell."""
        table = ask.tier.tensors
        assert isinstance(table, PipelineTable)
        for component, how in table.parts:
            self.schemes.setdefault(component, set()).add(how.name)
        run = stages_in(ask)
        self.turns.add(turn_of(run, ask.tier))
        for component, method, sizes, *_ in turn_of(run):
            self.calls.setdefault(component, set()).add((method, sizes))
        if whole:
            self._add_whole(ask, run)

    def _add_whole(self, ask: Ask, stages: Stages) -> None:
        offload = offload_of(ask.placement)
        for pictures in pictures_of(offload) if shares_a_pool(offload) else ():
            name = replay_name(ask.tier, offload, stages, pictures)
            if name is not None and name not in self.wholes:
                found = live_replayed(architecture_of(ask), ask.tier, offload, stages, pictures)
                if found is not None:
                    self.wholes[name] = found

    def join(self, other: Needed) -> None:
        """All that ``other`` has as well."""
        for component, schemes in other.schemes.items():
            self.schemes.setdefault(component, set()).update(schemes)
        for component, calls in other.calls.items():
            self.calls.setdefault(component, set()).update(calls)
        self.turns |= other.turns
        self.wholes |= other.wholes


def needed_by(slug: str | None) -> Needed:
    """What the cells of ``asks_about`` look up, and those of pages."""
    found = Needed()
    for ask in asks_about(slug):
        found.add(ask, whole=True)
    if slug is not None:
        for ask in page_asks(catalog.get(slug)):
            found.add(ask, whole=False)
        found.wholes |= replayed_for_pages(catalog.get(slug))
    return found


def replayed_for_pages(model: Model) -> dict[str, int]:
    """Runs that a page on any card replays whole at other sizes than the usual one, by name: a twentieth of those that
    some card might ask for, because of most cells it is known without one that they do not lead."""
    found: dict[str, int] = {}

    def noted(arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: Stages, pictures: int) -> int | None:
        name, reserved = (
            replay_name(tier, offload, stages, pictures),
            live_replayed(arch, tier, offload, stages, pictures),
        )
        if name is not None and reserved is not None:
            found[name] = reserved
        return reserved

    replay.replayed.cache_clear()
    # what an older pack says of a run is not what is to be written, so that all of it is replayed
    with patch.object(replay, "live_replayed", noted), patch.object(packed, "whole", lambda _: None):
        for card in cards_unlike():
            asked = usual_machine.ask(model, card, tiers=tiers_shown(model))
            steps(Reports(asked, asked.report(advise=False)))
    held.forget()
    return found


def cards_unlike() -> Iterator[Card]:
    """Cards of which no two hold the same cells with the same levels, of those that sites have pages of."""
    seen = set()
    for card in (one for one in all_cards() if one.memory >= _LEAST_MEMORY):
        machine = completed(machine_for(card))
        looks = RUNTIME.weighs(machine), tuple((one.vram, one.ram) for one in budgets_of(machine))
        if looks not in seen:
            seen.add(looks)
            yield card


def sums_of(weights: ModuleWeights, component: Component) -> dict[str, Any]:
    """What a pack says of weights."""
    groups = {}
    for below in ("", *CHILDREN.values()):
        groups[groups_name("leaf", below)] = _sums(live_leaf_groups(weights, below))
    for below in ("", *component.recursed):
        groups[groups_name("block", below, 1)] = _sums(live_block_groups(weights, component, 1, below))
    return {
        **{name: getattr(weights, name) for name in SUMS},
        "dequantized": list(weights.dequantized),
        "dequantized_types": sorted(weights.dequantized_types),
        "groups": groups,
    }


def _sums(groups: Groups) -> list[int]:
    return [getattr(groups, name) for name in GROUP_SUMS]


def part_of(component: Component, schemes: list[str], calls: list[tuple[str, Sizes]]) -> dict[str, Any]:
    """What a pack says of a component."""
    plain = nameless(component)
    held = {name: live_weights(plain, scheme(name)) for name in schemes}
    found: dict[str, Any] = {
        "identity": packed.identity(component),
        "trace": packed.trace_checksum(packed.trace_key(component)),
        "weights": {name: sums_of(one, plain) for name, one in held.items()},
        "calls": {},
    }
    for method, sizes in calls:
        facts = call_facts(component, method, sizes)
        if facts is None:
            continue
        more = {name: dequantizing(component, method, sizes, one) for name, one in held.items()}
        moved = {name: live_forwards(component, method, sizes, one) for name, one in held.items()}
        found["calls"][packed.call_name(method, sizes)] = {
            "facts": list(astuple(facts)),
            "more": {name: value for name, value in more.items() if value},
            "moved": {name: list(one.values) for name, one in moved.items() if one is not None},
        }
    return found


Part = tuple[Component, list[str], list[tuple[str, Sizes]]]


def parts_by_trace(needed: Needed) -> dict[str, list[Part]]:
    """The arguments of ``part_of`` for every component that is not the same as another one, by trace."""
    alike: dict[str, list[tuple[Component, set[str], set[tuple[str, Sizes]]]]] = {}
    for component in needed.schemes:
        if component.trace is None:
            continue
        parts = alike.setdefault(component.trace, [])
        mine = packed.identity(component)
        same = next((one for one in parts if packed.identity(one[0]) == mine), None)
        if same is None:
            parts.append(same := (component, set(), set()))
        same[1].update(needed.schemes[component])
        same[2].update(needed.calls.get(component, ()))
    return {
        key: [(one, sorted(schemes), sorted(calls)) for one, schemes, calls in parts]
        for key, parts in sorted(alike.items())
    }


def packs() -> dict[str, dict[str, Any]]:
    """Every file by its name."""
    needed = Needed()
    with multiprocessing.Pool(2) as pool:
        for found in pool.imap(needed_by, [*registry.get("pipeline").slugs(), None]):
            needed.join(found)
        by_trace = parts_by_trace(needed)
        made = iter(pool.starmap(part_of, chain.from_iterable(by_trace.values()), chunksize=1))
        turns = sorted(needed.turns, key=packed.in_turn_name)
        bytes_held = pool.map(live_in_turn, turns, chunksize=1)
    held = {packed.digest_of(packed.in_turn_name(one)): list(its) for one, its in zip(turns, bytes_held, strict=True)}
    facts = packed.facts_checksum()
    files: dict[str, dict[str, Any]] = {
        key: {"facts": facts, "parts": [next(made) for _ in parts]} for key, parts in by_trace.items()
    }
    in_turn = {"calls": dict(sorted(held.items())), "whole": dict(sorted(needed.wholes.items()))}
    return files | {packed.IN_TURN: {"facts": facts, **in_turn}}


def text_of(pack: dict[str, Any]) -> str:
    """A pack as its file holds it."""
    return json.dumps(pack, separators=(",", ":")) + "\n"


def main(check: bool) -> int:
    """Write the files, or compare. Exit code 1 where one differs."""
    texts = {f"{name}.json": text_of(pack) for name, pack in packs().items()}
    there = {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.json")}
    wrong = sorted(name for name in texts.keys() | there.keys() if texts.get(name) != there.get(name))
    if check:
        for name in wrong:
            print(f"{name}: not what the estimator works out", file=sys.stderr)
        return 1 if wrong else 0
    FOLDER.mkdir(exist_ok=True)
    for name in there.keys() - texts.keys():
        (FOLDER / name).unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, "utf-8")
    print(f"{len(texts)} files, {sum(map(len, texts.values())) / 1e3:.0f} kB, {len(wrong)} of them new or changed")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
