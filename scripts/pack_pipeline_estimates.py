"""Packs what the usual questions about pipelines come to: ``python scripts/pack_pipeline_estimates.py [--check]``.

Writes ``fitcheck/runtimes/diffusers/data/packed/``, a file a trace: sums over the weights in every scheme that a tier
of the catalog has, and what each call comes to at the sizes that ``check`` asks for when nobody names any, that its
advice leads to, and that accepted records have. All of it is worked out by the estimator itself. ``--check`` compares
instead, and exits with 1 where a file differs. A few minutes of one core, no extra.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import astuple
from itertools import product
from typing import Any

from fitcheck.data_files import path_of
from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.models.families import registry
from fitcheck.models.families.pipeline.architecture import Component
from fitcheck.models.families.pipeline.schemes import scheme
from fitcheck.models.families.pipeline.tiers import PipelineTable
from fitcheck.records.run_index import accepted
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers import packed
from fitcheck.runtimes.diffusers.activations import Sizes, call_facts, dequantizing, live_in_turn, turn_of
from fitcheck.runtimes.diffusers.moving_layers import live_forwards
from fitcheck.runtimes.diffusers.offloading import offload_of
from fitcheck.runtimes.diffusers.replay import live_replayed, replay_name, shares_a_pool
from fitcheck.runtimes.diffusers.runtime import RUNTIME, architecture_of
from fitcheck.runtimes.diffusers.stages import CHILDREN, Stages, stages_of
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.weights import (
    GROUP_SUMS,
    SUMS,
    Groups,
    ModuleWeights,
    groups_name,
    live_block_groups,
    live_leaf_groups,
    live_weights,
    nameless,
)

FOLDER = path_of(ROOM, packed.FOLDER)


def usual_asks() -> Iterator[Ask]:
    """Every cell of the catalog as ``check`` asks, what its advice asks besides, and every record's cell."""
    # a card that takes decodes in tiles, and one that takes all of them whole
    machines = [asked_machine([card], ram=32 << 30) for card in ("rtx-4070", "b200")]
    for slug, machine in product(registry.get("pipeline").slugs(), machines):
        model = catalog.get(slug)
        for task in model.tasks:
            for ask in RUNTIME.asks(model, model.tiers, Wanted(task=str(task)), machine):
                yield ask
                yield from (change.ask for change in RUNTIME.changes(ask, Wanted()))
    for run in accepted().rows:
        found = RUNTIME.ask_of(run) if run.cell.runtime == RUNTIME.name else None
        if found is not None:
            yield found


def stages_in(ask: Ask) -> Stages:
    """The calls of one run, in order."""
    return stages_of(architecture_of(ask), ask.workload, offload_of(ask.placement))


def whole(ask: Ask, stages: Stages, done: dict[str, int]) -> None:
    """Replays a run whose layers share the calls' pool, unless it is ``done``."""
    offload = offload_of(ask.placement)
    for pictures in (1, 2)[: 1 + offload.stream] if shares_a_pool(offload) else ():
        name = replay_name(ask.tier, offload, stages, pictures)
        if name is not None and name not in done:
            found = live_replayed(architecture_of(ask), ask.tier, offload, stages, pictures)
            if found is not None:
                done[name] = found


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


def packs() -> dict[str, dict[str, Any]]:
    """Every file by its name."""
    schemes: dict[Component, set[str]] = {}
    calls: dict[Component, set[tuple[str, Sizes]]] = {}
    turns: set[packed.Turn] = set()
    wholes: dict[str, int] = {}
    for ask in usual_asks():
        table = ask.tier.tensors
        assert isinstance(table, PipelineTable)
        for component, how in table.parts:
            schemes.setdefault(component, set()).add(how.name)
        run = stages_in(ask)
        turns.add(turn_of(run))
        whole(ask, run, wholes)
        for component, method, sizes, _ in turn_of(run):
            calls.setdefault(component, set()).add((method, sizes))
    alike: dict[str, list[tuple[Component, set[str], set[tuple[str, Sizes]]]]] = {}
    for component in schemes:
        if component.trace is None:
            continue
        parts = alike.setdefault(component.trace, [])
        mine = packed.identity(component)
        same = next((one for one in parts if packed.identity(one[0]) == mine), None)
        if same is None:
            parts.append(same := (component, set(), set()))
        same[1].update(schemes[component])
        same[2].update(calls.get(component, ()))
    found: dict[str, dict[str, Any]] = {
        key: {
            "facts": packed.facts_checksum(),
            "parts": [part_of(one, sorted(how), sorted(made)) for one, how, made in parts],
        }
        for key, parts in sorted(alike.items())
    }
    held = {packed.in_turn_name(one): list(live_in_turn(one)) for one in turns}
    found[packed.IN_TURN] = {
        "facts": packed.facts_checksum(),
        "calls": dict(sorted(held.items())),
        "whole": dict(sorted(wholes.items())),
    }
    return found


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
