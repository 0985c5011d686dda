"""What is packed of pipelines beside what the estimator works out, and that a pack of other data is not believed."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fitcheck.data_files import path_of
from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.pages.other_sizes import sizes_shown
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers import activations, moving_layers, packed, replay, weight_groups, weights
from fitcheck.runtimes.diffusers.estimate import estimate
from fitcheck.runtimes.diffusers.offloading import offload_of
from fitcheck.runtimes.diffusers.runtime import RUNTIME, architecture_of
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.runtimes.diffusers.tiling import ROOM

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "scripts/pack_pipeline_estimates.py"))
FOLDER = path_of(ROOM, packed.FOLDER)
# pictures, an edit and videos of different families, one of them not traced whole
SAMPLE = ("sdxl", "flux.2-klein-4b", "qwen-image-edit-2509", "wan2.2-ti2v-5b", "cogvideox-2b")


def asks_of(slug: str) -> Iterator[Ask]:
    machine = asked_machine(["rtx-4070"], ram=32 << 30)
    model = catalog.get(slug)
    for task in model.tasks:
        for ask in RUNTIME.asks(model, model.tiers, Wanted(task=str(task)), machine):
            yield ask
            yield from (change.ask for change in RUNTIME.changes(ask, Wanted()))


@pytest.fixture
def without_packs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything worked out anew."""
    forget()
    monkeypatch.setattr(packed, "facts_checksum", lambda: -1)
    yield
    monkeypatch.undo()
    forget()


def forget() -> None:
    known: list[Any] = [packed._file, packed._part, packed._calls, activations._made, activations._call_facts]
    known += [activations.held_in_turn, weights.weights_of, weights._catalog_weights, weight_groups.leaf_groups]
    known += [moving_layers.forwards, replay.replayed]
    for one in [*known, weight_groups.block_groups]:
        one.cache_clear()


def footprints(slugs: tuple[str, ...]) -> dict[tuple[Any, ...], Any]:
    """Footprints of many cells with what was laid out for them, as text."""
    found = {}
    for slug in slugs:
        for ask in asks_of(slug):
            offload = offload_of(ask.placement)
            one = estimate(architecture_of(ask), ask.tier, ask.workload, offload, (8, 9))
            laid = [
                (stage.held, stage.made, stage.kept, stage.moved, stage.again)
                for stage in getattr(one.layout, "stages", ())
            ]
            key = (slug, ask.tier.name, ask.placement, ask.workload)
            found[key] = (one.cards, one.host, one.disk, one.assumptions, repr(laid))
    return found


def test_packed_cells_are_those_that_the_traces_give(request: pytest.FixtureRequest) -> None:
    quick = footprints(SAMPLE)
    request.getfixturevalue("without_packs")
    assert packed.weights(architecture_of(next(asks_of("sdxl"))).components[0], "plain") is None
    live = footprints(SAMPLE)
    assert len(live) > 200
    assert [key for key in live if quick[key] != live[key]] == []


def test_every_pack_is_of_the_data_that_are_here() -> None:
    """``python scripts/pack_pipeline_estimates.py`` writes them anew."""
    files = {file.name: json.loads(file.read_bytes()) for file in FOLDER.glob("*.json")}
    assert len(files) > 50
    for name, found in files.items():
        assert found["facts"] == packed.facts_checksum(), name
        for part in found.get("parts", ()):
            suffix = ".fp32" if part["identity"][2] == "fp32" else ""
            assert part["trace"] == packed.trace_checksum(name.removesuffix(".json") + suffix), name


def test_the_usual_question_is_packed_whole() -> None:
    for slug in ("flux.1-dev", "wan2.2-t2v-a14b", "sdxl"):
        for ask in asks_of(slug):
            stages = stages_of(architecture_of(ask), ask.workload, offload_of(ask.placement))
            asked = activations.turn_of(stages, ask.tier)
            assert all(packed.call(one, call, sizes) is not None for one, call, sizes, *_ in asked)
            assert packed.in_turn(asked) is not None


def test_what_pages_ask_at_other_sizes_is_to_be_packed() -> None:
    def turns(asks: Iterable[Ask]) -> set[packed.Turn]:
        return {activations.turn_of(SCRIPT["stages_in"](ask), ask.tier) for ask in asks}

    for slug in ("flux.1-dev", "sdxl"):
        model = catalog.get(slug)
        known = turns(SCRIPT["page_asks"](model))
        for card, size in product(("rtx-4060", "rtx-5090"), sizes_shown(model.tasks[0])):
            wanted = Wanted(options=(size,))
            asked = RUNTIME.asks(model, model.tiers[:1], wanted, asked_machine([card], ram=32 << 30))
            assert turns(asked) <= known, (slug, card, size)


def test_groups_and_leaves_of_packed_weights_are_those_of_live_ones() -> None:
    component = weights.nameless(catalog.get("flux.1-dev").architecture.component("transformer"))  # type: ignore[attr-defined]
    for name in ("plain", "Q4_K_S", "nf4"):
        how = SCRIPT["scheme"](name)
        quick, live = weights._catalog_weights(component, how), weights.live_weights(component, how)
        assert isinstance(quick, weights.PackedWeights)
        assert SCRIPT["sums_of"](quick, component) == SCRIPT["sums_of"](live, component)
        assert (quick.leaves, quick.linears) == (live.leaves, live.linears)
        for one, other in (
            (weight_groups.leaf_groups(quick), weight_groups.live_leaf_groups(live, "")),
            (weight_groups.block_groups(quick, component, 1), weight_groups.live_block_groups(live, component, 1, "")),
        ):
            assert isinstance(one, weight_groups.PackedGroups)
            assert [getattr(one, name) for name in weight_groups.GROUP_SUMS] == [
                getattr(other, name) for name in weight_groups.GROUP_SUMS
            ]
            assert one.moving == other.moving


@pytest.mark.parametrize("changed", ["facts", "trace", "identity"])
def test_a_pack_of_other_data_is_not_believed(changed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    component = catalog.get("sdxl").architecture.component("unet")  # type: ignore[attr-defined]
    sizes = next(
        tuple(sorted(one.sizes.items()))
        for ask in asks_of("sdxl")
        for one in stages_of(architecture_of(ask), ask.workload, offload_of(ask.placement))
        if one.component == component
    )
    forget()
    assert packed.call(component, "forward", sizes) is not None
    found = json.loads((FOLDER / f"{component.trace}.json").read_bytes())
    if changed == "facts":
        found["facts"] += 1
    else:
        for part in found["parts"]:
            part[changed] = 1 if changed == "trace" else ["other"]
    (tmp_path / f"{component.trace}.json").write_text(json.dumps(found), "utf-8")

    def moved(room: str, name: str) -> Path:
        return tmp_path / name.rpartition("/")[2] if "packed/" in name else path_of(room, name)

    monkeypatch.setattr(packed, "path_of", moved)
    forget()
    assert packed.call(component, "forward", sizes) is None
    monkeypatch.undo()
    forget()
