"""Cards of other machines (RPC), and cards that share each matrix (``--split-mode tensor`` and ``row``)."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

import fitcheck
from fitcheck.errors import InputError, OptionError
from fitcheck.models import catalog
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.builds import parse_build
from fitcheck.runtimes.llamacpp.tensor_split import SharedStretch
from fitcheck.runtimes.llamacpp.workers import parse_workers
from fitcheck.units import GIB, MIB
from fitcheck.verdict.report import Report


def check(*cards: str, model: str = "llama-3.3-70b", **options: Any) -> Report:
    return fitcheck.check(model, list(cards), ram=64 * GIB, tier="Q4_K_M", **{"ctx": 8192, **options})


def laid_out(report: Report) -> LlamaEstimate:
    found = report.best.footprint.layout
    assert isinstance(found, LlamaEstimate)
    return found


@pytest.mark.parametrize(
    ("text", "name", "memory", "address"),
    [
        ("box:24GB", "box", 24 * GIB, "box:50052"),
        ("10.0.0.2:50053:24GB", "10.0.0.2:50053", 24 * GIB, "10.0.0.2:50053"),
        ("RTX 3090", "RTX 3090", None, "HOST:50052"),
        ("RTX 3090:20GiB", "RTX 3090", 20 * GIB, "HOST:50052"),
    ],
)
def test_a_worker_is_a_name_and_its_memory_or_a_card(text: str, name: str, memory: int | None, address: str) -> None:
    (found,) = parse_workers(text)
    assert (found.name, found.memory, found.address) == (name, memory, address)
    assert (found.card is not None) == name.startswith("RTX")


@pytest.mark.parametrize("text", ["box", "10.0.0.2:50052", "localhost", "", ",", "a\x07b:8GB", "x" * 90 + ":8GB"])
def test_what_names_no_worker_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--rpc"):
        parse_workers(text)


def test_more_workers_than_are_looked_at_are_refused() -> None:
    with pytest.raises(OptionError, match="at most 16"):
        parse_workers(",".join(["box:8GB"] * 17))


def test_workers_come_first_and_hold_layers() -> None:
    """src/llama.cpp adds RPC servers at the front of the list."""
    report = check("RTX 4090", rpc="box:24GB")
    found = laid_out(report)
    assert report.place == "worker box (24.0 GiB) and GeForce RTX 4090"
    assert found.devices.layers[0] == 0
    assert found.devices.output == 1
    assert min(card.layers for card in found.cards) > 30
    assert report.best.verdict == "fits"
    assert check("RTX 4090").best.verdict != "fits"


def test_the_same_card_here_or_there_holds_the_same() -> None:
    asked: dict[str, Any] = {"tensor_split": "1,1"}  # another machine's display is not ours
    there, here = (
        laid_out(check("RTX 4090", rpc="RTX 3090", **asked)),
        laid_out(check("RTX 3090", "RTX 4090", **asked)),
    )
    assert there.cards == here.cards


def test_a_worker_takes_over_nothing_from_the_host() -> None:
    """ggml-rpc.cpp has no offload_op: host weights of a large batch are carried to this machine's card alone."""
    model = catalog.get("llama-3.1-8b")
    table = model.tier_named("Q4_K_M").tensors
    shape = model.architecture
    assert isinstance(shape, LanguageArchitecture)

    def computes(**options: Any) -> list[int]:
        asked = LlamaOptions(context=4096, gpu_layers=20, **options)
        return [card.compute for card in estimate(shape, table, asked, (GIB, GIB)).cards]

    local, remote = computes(), computes(workers=("box:50052",))
    assert local[0] > local[1]
    assert remote[1] > remote[0]


def test_older_builds_do_not_pipeline_with_workers() -> None:
    model = catalog.get("llama-3.1-8b")
    table = model.tier_named("Q4_K_M").tensors
    days = "2026-05-15", "2026-11"
    old, new = (LlamaOptions(context=4096, workers=("box:50052",), build=parse_build(day)) for day in days)
    assert isinstance(model.architecture, LanguageArchitecture)
    sizes = [estimate(model.architecture, table, one, (GIB, GIB)).cards[0].compute for one in (old, new)]
    assert sizes[0] < sizes[1]


def test_the_commands_start_the_worker_and_name_it() -> None:
    worker, server = check("RTX 4090", rpc="box:50060:24GB").best.commands
    assert shlex.split(worker) == ["ggml-rpc-server", "-H", "0.0.0.0", "-p", "50060"]
    words = shlex.split(server)
    assert words[words.index("--rpc") + 1] == "box:50060"


def test_what_the_network_does_to_the_speed_is_unknown() -> None:
    report = check("RTX 4090", rpc="RTX 3090")
    assert report.best.seconds is None
    assert any("in other machines" in note for note in report.notes)
    assert report.to_json()["machine"]["gpus"] == 2


def test_a_machine_without_a_card_can_use_a_worker() -> None:
    report = check("none", model="qwen3-8b", rpc="box:24GB")
    assert laid_out(report).cards[0].layers == 36


def test_tensor_shares_halve_matrices_and_caches_and_repeat_what_is_small() -> None:
    """llama.cpp on two stand-in cards (benchmarks/llamacpp_probe, build of October 2026) for Llama 3.1 8B in Q4_K_M at
    8192 tokens: on each 2202.25 MiB of weights, 512 of cache and 116.01 of compute."""
    found = laid_out(check("2x RTX 4090", model="llama-3.1-8b", split_mode="tensor", sequences=1))
    for card in found.cards:
        amounts = [round(amount / MIB, 2) for amount in (card.weights, card.kv_cache, card.compute)]
        assert amounts == pytest.approx([2202.25, 512.0, 116.01], rel=0.001)


def test_tensor_shares_follow_what_was_told() -> None:
    found = laid_out(check("2x RTX 4090", model="llama-3.1-8b", split_mode="tensor", tensor_split="3,1"))
    assert found.cards[0].kv_cache == pytest.approx(3 * found.cards[1].kv_cache, rel=0.01)


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("deepseek-v2-lite", {"split_mode": "tensor"}, "does not share tensors of deepseek2"),
        ("llama-3.1-8b", {"split_mode": "tensor", "build": "2026-01"}, "came in April 2026"),
        ("llama-3.1-8b", {"split_mode": "row"}, "no row any more"),
        ("llama-3.1-8b", {"split_mode": "colum"}, "choose layer, none, row, tensor"),
        ("llama-3.1-8b", {"split_mode": "tensor", "override_tensor": "exps=CPU"}, "leave one of them out"),
    ],
)
def test_a_split_that_cannot_be_is_refused(model: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        check("2x RTX 4090", model=model, **options)


def test_rows_of_dense_matrices_lie_on_all_cards_in_older_builds() -> None:
    """Each matrix by rows, everything else by layers; the whole stays what it is (ggml-cuda.cu before June 2026)."""
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "build": "2026-03", "sequences": 1}
    rows, layers = (laid_out(check("2x RTX 4090", split_mode=mode, **asked)) for mode in ("row", "layer"))
    assert sum(card.weights for card in rows.cards) == pytest.approx(
        sum(card.weights for card in layers.cards), rel=1e-4
    )
    assert [card.kv_cache for card in rows.cards] == [card.kv_cache for card in layers.cards]
    assert check("2x RTX 4090", split_mode="row", **asked).best.seconds is None


def test_workers_stay_when_a_machine_that_looks_alike_is_asked_about() -> None:
    """Without advice and records a check takes the cells of a machine that looks alike; workers are no part of it."""
    from fitcheck.hardware.asked import asked_machine
    from fitcheck.runtimes.base import Wanted
    from fitcheck.verdict.check import check as judge

    model, wanted = catalog.get("qwen3-8b"), Wanted(tiers=("Q4_K_M",)).with_(rpc="box:24GB", ctx=4096)
    for _ in range(2):
        report = judge(model, asked_machine("RTX 4090", ram=64 * GIB), wanted, advise=False)
        assert len(report.best.ask.machine.gpus) == len(report.best.footprint.cards) == 2


@pytest.mark.parametrize(
    ("cards", "options", "why"),
    [
        (["RTX 3090"], {"rpc": "box:24GB"}, "nothing is known of the network between the machines"),
        (["2x RTX 3090"], {"split_mode": "tensor"}, "nothing is known of the link between the cards"),
    ],
)
def test_seconds_are_unknown_for_what_lies_between(cards: list[str], options: dict[str, Any], why: str) -> None:
    report = check(*cards, **options)
    assert report.best.seconds is None
    assert f"Seconds are unknown because {why}." in report.notes


@pytest.mark.parametrize(
    ("cards", "options", "said"),
    [
        (["RTX 3090", "RX 7900 XTX"], {}, True),
        (["RTX 3090", "RTX 3060 12GB"], {}, False),
        (["RTX 3090"], {"rpc": "RX 7900 XTX"}, False),  # each machine has its own build
    ],
)
def test_cards_of_several_makers_need_one_build(cards: list[str], options: dict[str, Any], said: bool) -> None:
    report = fitcheck.check("qwen3-8b", cards, ram=32 * GIB, tier="Q4_K_M", **options)
    assert any("Cards of several makers" in note for note in report.notes) is said


def test_rows_are_parted_as_layers_and_head_are() -> None:
    """17 of 33 on the first card, the head counted; matrices are nearly all of the weights."""
    architecture = known_language_model("llama-3.1-8b")
    options = LlamaOptions(split_mode="row", build=parse_build("2025-12"))
    first, second = (
        card.weights
        for card in estimate(architecture, mixture_table(architecture, "Q4_0"), options, vram=[GIB] * 2).cards
    )
    assert first / (first + second) == pytest.approx(17 / 33, abs=2e-3)


def test_a_part_ends_at_a_whole_piece() -> None:
    assert SharedStretch(1000, 128).parts((1.0, 1.0), 0) == [384, 616]
    assert SharedStretch(1000, 128).parts((1.0, 1.0), 1) == [616, 384]
    assert SharedStretch(1000, 1, times=2).parts((3.0, 1.0), 0) == [1500, 500]
