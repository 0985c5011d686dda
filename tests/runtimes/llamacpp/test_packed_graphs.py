"""What is packed of graphs beside what the code builds, and that a pack of other code or data is not believed."""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fitcheck.data_files import path_of
from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.models.families import registry
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp import compute, packed, reservation
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.arrangement import arrangement
from fitcheck.runtimes.llamacpp.caches import layer_caches
from fitcheck.runtimes.llamacpp.weight_placement import layer_devices
from fitcheck.verdict.check import check

FOLDER = path_of(packed.ROOM, packed.FOLDER)
SAMPLE = ("llama-3.1-8b", "qwen3-30b-a3b", "qwen3.5-2b", "gemma-3-1b")
# they say what is asked and remember what was worked out; what is asked is in a pack, and drafting is not packed
BESIDE = {"options", "workers", "remembered", "prediction"}


def shape_of(slug: str) -> tuple[LanguageArchitecture, TensorTable]:
    model = catalog.get(slug)
    architecture = model.tiers[0].architecture or model.architecture
    assert isinstance(architecture, LanguageArchitecture)
    return architecture, model.tiers[0].tensors


def ways(architecture: LanguageArchitecture) -> Iterator[LlamaOptions]:
    """No, half and all layers on the card, caches of both kinds, contexts that were tried and not."""
    layers = architecture.layers
    for context in (8192, 11264, 65536):
        for options in list(packed.usual_options(architecture, context))[:: 1 if context == 8192 else 5]:
            for count in (0, layers // 2, layers + 1):
                yield options.with_(gpu_layers=count)
            if architecture.experts:
                yield options.with_(gpu_layers=layers + 1, cpu_moe_layers=layers // 3)


@pytest.mark.parametrize("cards", packed.CARDS)
@pytest.mark.parametrize("slug", SAMPLE)
def test_packed_segments_are_those_of_the_graph(slug: str, cards: int) -> None:
    architecture, tensors = shape_of(slug)
    for options in ways(architecture):
        devices, caches = layer_devices(architecture, options, (1,) * cards), layer_caches(architecture, options)
        found = packed.known_segments(architecture, tensors, options, devices)
        arranged = arrangement(architecture, tensors, options, devices)
        live = reservation.worked_out(architecture, tensors, options, devices, caches, arranged)
        assert found is not None
        if live is None:  # nothing repeats there: every layer is packed
            live = reservation.worked_out(architecture, tensors, options, devices, caches, arranged.of_all)
        assert live is not None
        assert [segment for _, segment, _ in found] == [segment for _, segment, _ in live]


@pytest.mark.parametrize("slug", SAMPLE)
def test_a_pack_speaks_for_an_uneven_split_where_the_graph_built_anew_says_the_same(slug: str) -> None:
    """In a run of layers that are alike one more or less is no other graph."""
    architecture, tensors = shape_of(slug)
    spoke = 0
    for free in ((47, 48), (15, 16), (1, 3), (30, 1)):
        for options in list(ways(architecture))[1:4]:
            devices, caches = layer_devices(architecture, options, free), layer_caches(architecture, options)
            found = packed.known_segments(architecture, tensors, options, devices)
            if found is not None:
                arranged = arrangement(architecture, tensors, options, devices)
                live = reservation.worked_out(architecture, tensors, options, devices, caches, arranged)
                assert live is not None, (free, options)
                assert [segment for _, segment, _ in found] == [segment for _, segment, _ in live], (free, options)
                spoke += 1
    assert spoke


@pytest.mark.parametrize("slug", SAMPLE)
def test_all_on_two_cards_of_which_one_has_a_layer_or_two_less_is_packed(slug: str) -> None:
    architecture, tensors = shape_of(slug)
    options = packed.asked_options(architecture).with_(gpu_layers=architecture.layers + 1)
    even = layer_devices(architecture, options, (1, 1)).layers.count(0)
    for less in packed.LESS:
        devices = layer_devices(architecture, options, packed.uneven_shares(architecture.layers, less))
        assert devices.layers.count(0) == even - less
        assert packed.place_name(options, devices) == f"{architecture.layers + 1} less {less}"
        found = packed.known_segments(architecture, tensors, options, devices)
        arranged, caches = arrangement(architecture, tensors, options, devices), layer_caches(architecture, options)
        live = reservation.worked_out(architecture, tensors, options, devices, caches, arranged)
        if live is None:  # nothing repeats there: every layer is packed
            live = reservation.worked_out(architecture, tensors, options, devices, caches, arranged.of_all)
        assert found is not None
        assert live is not None
        assert [segment for _, segment, _ in found] == [segment for _, segment, _ in live]


def test_more_cards_and_none_have_no_pack() -> None:
    architecture, tensors = shape_of("llama-3.1-8b")
    options = packed.asked_options(architecture).with_(gpu_layers=architecture.layers // 2)
    for free, name in (((1,), "16"), ((1, 1), "16"), ((1, 1, 1), None), ((), None)):
        devices = layer_devices(architecture, options, free)
        assert packed.place_name(options, devices) == name, free
        assert (packed.known_segments(architecture, tensors, options, devices) is None) is (name is None), free


def test_every_pack_is_of_the_code_and_data_that_are_here() -> None:
    """``python scripts/pack_language_graphs.py`` writes them anew."""
    files = sorted(FOLDER.glob("*.json.gz"))
    assert len(files) > 150 * len(packed.CARDS)
    for file in files[::16]:
        assert json.loads(gzip.decompress(file.read_bytes()))["facts"] == packed.facts_checksum(), file.name


def test_models_of_the_catalog_are_packed() -> None:
    names = {file.name.removesuffix(".json.gz") for file in FOLDER.glob("*.json.gz")}
    for slug in tuple(registry.get("language").slugs())[::12]:
        for cards in packed.CARDS:
            assert packed.pack_name(packed.shape_name(*shape_of(slug)), cards) in names, (slug, cards)


def test_the_usual_question_builds_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*_: object) -> None:
        raise AssertionError("a graph was built")

    compute.forget()
    monkeypatch.setattr(reservation, "worked_out", built)
    for slug, card in (("qwen3.5-2b", "GTX 1650"), ("qwen3-30b-a3b", "RTX 3060 12 GB"), ("llama-3.1-8b", "RX 7600")):
        model = catalog.get(slug)
        tiers = [model.tier_named(name) for name in ("Q6_K", "Q4_K_M")]
        for cards in packed.CARDS:
            machine = asked_machine([card] * cards, ram=32 << 30, display=False)
            assert check(model, machine, tiers=tiers).cells


def imports(name: str) -> set[str]:
    """The modules of the runtime that one of them imports, for types alone left aside."""
    tree = ast.parse((Path(packed.__file__).parent / f"{name}.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    start = "fitcheck.runtimes.llamacpp."
    found = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {module.removeprefix(start) for module in found if module.startswith(start)}


def test_no_module_that_decides_a_graph_is_left_out_of_the_checksum() -> None:
    found, left = set(), ["compute", "reservation"]
    while left:
        name = left.pop()
        if name in found or name in BESIDE:
            continue
        found.add(name)
        left += imports(name)
    assert found == set(packed.MODULES)


@pytest.mark.parametrize("changed", ["facts", "asked", "contexts"])
def test_a_pack_of_other_code_or_contexts_is_not_believed(
    changed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    architecture, tensors = shape_of("llama-3.1-8b")
    options = packed.asked_options(architecture)
    devices = layer_devices(architecture, options, (1,))
    assert packed.known_segments(architecture, tensors, options, devices) is not None
    name = f"{packed.shape_name(architecture, tensors)}.json.gz"
    found: dict[str, Any] = json.loads(gzip.decompress((FOLDER / name).read_bytes()))
    found[changed] = {"facts": found["facts"] + 1, "asked": "other", "contexts": [16384, 32768]}[changed]
    (tmp_path / name).write_bytes(gzip.compress(json.dumps(found).encode()))
    monkeypatch.setattr(packed, "path_of", lambda room, name: tmp_path / name.rpartition("/")[2])
    packed._pack.cache_clear()
    assert packed.known_segments(architecture, tensors, options, devices) is None
    monkeypatch.undo()
    packed._pack.cache_clear()
