"""What fitcheck proposes for language models: the placement, its command, and that nothing better was overlooked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.errors import InputError
from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.budget import budget, ram_budget
from fitcheck.hardware.card import Card, Sourced
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link, Machine, machine_for
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Margin, Verdict
from fitcheck.models.families.language.catalog import language_model
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task
from fitcheck.runtimes import held
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.commands import server
from fitcheck.runtimes.llamacpp.options import TextOptions
from fitcheck.runtimes.llamacpp.placement import arguments_of
from fitcheck.runtimes.llamacpp.proposals import PlacementSearch, Proposal
from fitcheck.runtimes.llamacpp.runtime import RUNTIME
from fitcheck.runtimes.weights_only.runtime import RUNTIME as BOUNDS
from fitcheck.units import GIB, MIB, Interval
from fitcheck.verdict.check import check
from fitcheck.verdict.report import Report


def machine(vram: int, ram: int | None = 64, cards: int = 1) -> Machine:
    card = Card(
        "card", "Card", "NVIDIA", vram * GIB, memory_bandwidth=500e9, tensor_flops=Sourced(100e12, "maker", "2026"),
        compute_capability=(8, 9), pcie_generation=4, pcie_lanes=16,
    )  # fmt: skip
    gpu = Gpu(card, Link(4, 16), vram * GIB, vram_override=vram * GIB)
    return Machine((gpu,) * cards, ram_total=None if ram is None else ram * GIB)


def search(model: str, tier: str, have: Machine, **options: Any) -> PlacementSearch:
    asked = TextOptions(**{"sequences": 1, "ctx": 8192, **options})
    made = model_of(model, tier)
    return PlacementSearch(RUNTIME, made, made.tiers[0], have, asked, asked.workload(8192))


def best(model: str, tier: str, have: Machine, **options: object) -> Proposal:
    return search(model, tier, have, **options).best()


def layout(proposal: Proposal) -> LlamaEstimate:
    found = RUNTIME.footprint(proposal.ask).layout
    assert isinstance(found, LlamaEstimate)
    return found


def vram(proposal: Proposal) -> Margin:
    return next(one for one in proposal.level.weighed.margins if one.constraint is Constraint.VRAM)


def check_language(model: Model, have: Machine) -> Report:
    return check(model, have)


def test_a_model_that_fits_goes_to_the_card_whole() -> None:
    proposal = best("llama-3.1-8b", "Q4_K_M", machine(12))
    assert proposal.options.gpu_layers == 33
    assert proposal.options.cache_type_k == "f16"
    assert proposal.level.verdict is Verdict.FITS


def test_experts_move_to_the_host_before_layers_do() -> None:
    proposal = best("qwen3-30b-a3b", "Q4_K_M", machine(12))
    assert 0 < proposal.options.cpu_moe_layers < 48
    assert proposal.options.gpu_layers == 49


def test_one_layer_less_on_the_host_would_not_fit() -> None:
    proposal = best("qwen3-30b-a3b", "Q4_K_M", machine(12))
    fewer = proposal.options.with_(cpu_moe_layers=proposal.options.cpu_moe_layers - 1)
    have = budget(machine(12))
    architecture = known_language_model("qwen3-30b-a3b")
    result = estimate(architecture, mixture_table(architecture, "Q4_K_M"), fewer, vram=[have.vram.best])
    assert result.card_totals[0].high > have.vram.low


@pytest.mark.parametrize("model", ["llama-3.3-70b", "qwen3-30b-a3b"])
def test_a_split_leaves_the_card_with_room_not_just_enough(model: str) -> None:
    """With a display or without: where a layer more on the card would be tight, the search has to stop before it."""
    have = machine(16 if model == "qwen3-30b-a3b" else 24)
    have = replace(have, gpus=(replace(have.gpus[0], vram_override=None),))
    assert budget(have).vram.low < budget(have).vram.best
    proposal = best(model, "Q4_K_M", have)
    options = proposal.options
    assert options.gpu_layers is not None
    if options.cpu_moe_layers:
        more = options.with_(cpu_moe_layers=options.cpu_moe_layers - 1)
    else:
        more = options.with_(gpu_layers=options.gpu_layers + 1)
    found = [vram(search(model, "Q4_K_M", have).assess(one)).verdict for one in (options, more)]
    assert found == [Verdict.FITS, Verdict.TIGHT]


def test_a_dense_model_too_large_for_the_card_is_split() -> None:
    proposal = best("llama-3.3-70b", "Q4_K_M", machine(24))
    assert 10 < (proposal.options.gpu_layers or 0) < 60
    assert proposal.level.verdict is Verdict.FITS


def test_too_little_memory_anywhere_is_no() -> None:
    proposal = best("llama-3.3-70b", "Q8_0", machine(8, ram=16))
    assert proposal.level.verdict is Verdict.NO
    assert proposal.level.binding in (Constraint.VRAM, Constraint.RAM)


@pytest.mark.parametrize("ram", [32, 64])
def test_experts_that_lack_system_memory_are_told_of_system_memory(ram: int) -> None:
    """DeepSeek R1 beside an RTX 4090: 107 GiB of experts lie on the host, which no card of 141 GB is needed for."""
    have, model = asked_machine("RTX 4090", ram=ram * GIB), language_model("deepseek-r1")
    tiers = [model.tier_named(name) for name in ("IQ1_S", "IQ1_M", "Q4_K_M")]
    best = check(model, have, tiers=tiers).best
    assert best.verdict is Verdict.NO
    assert best.judgement.binding is Constraint.RAM
    assert best.flip is not None
    assert (best.tier.name, best.flip.change) == ("IQ1_S", "128 GB of system memory")
    enough = replace(have, ram_total=128 * GIB, ram_available=None)
    assert check(model, enough, tiers=tiers[:1], advise=False).best.verdict is Verdict.FITS


@pytest.mark.parametrize(("model", "ram"), [("kimi-k2", 64), ("llama-3.3-70b", 8), ("qwen3-32b", 8)])
def test_what_does_not_run_says_the_same_alone_and_among_tiers(model: str, ram: int) -> None:
    found, have = language_model(model), asked_machine("RTX 4060 Ti 8 GB", ram=ram * GIB)
    tiers = [found.tier_named(name) for name in ("Q4_K_M", "Q6_K")]
    among = check(found, have, tiers=tiers, advise=False).best
    assert among.verdict is Verdict.NO
    alone = check(found, have, tiers=(among.tier,), advise=False)
    assert alone.best.placement == among.placement
    assert all(among.judgement.level.way <= cell.judgement.level.way for cell in alone.cells)


def test_two_cards_hold_what_one_cannot() -> None:
    assert layout(best("qwen2.5-32b", "Q8_0", machine(24, ram=16))).host.layers > 0
    proposal = best("qwen2.5-32b", "Q8_0", machine(24, ram=16, cards=2))
    assert layout(proposal).host.layers == 0
    assert proposal.level.verdict is Verdict.FITS
    assert [card.layers > 20 for card in layout(proposal).cards] == [True, True]


def test_the_command_says_what_was_judged() -> None:
    architecture = known_language_model("qwen3-30b-a3b")
    tier = Tier("Q4_K_M", mixture_table(architecture, "Q4_K_M"), "gguf", file="a b.gguf", repository="org/repo")
    options = LlamaOptions(
        context=16384, gpu_layers=49, cpu_moe_layers=10, cache_type_k="q8_0", cache_type_v="q8_0", sequences=1,
        micro_batch=1024, tensor_split=(3, 1), mmap=False, cache_on_host=True, full_sliding_cache=True, mlock=True,
    )  # fmt: skip
    line = server(tier, options, architecture)
    assert line.startswith(
        "llama-server --hf-repo org/repo --hf-file 'a b.gguf' -c 16384 -ngl 99 --n-cpu-moe 10 -fa on"
    )
    for part in (
        "-ctk q8_0",
        "-ctv q8_0",
        "-ub 1024",
        "-np 1",
        "-ts 3,1",
        "--swa-full",
        "--no-kv-offload",
        "--no-mmap",
    ):
        assert part in line
    assert "--cpu-moe" in server(tier, options.with_(cpu_moe_layers=48), architecture)


def model_of(name: str, *tiers: str) -> Model:
    """A model of the catalog of shapes with tiers that llama-quantize would write."""
    architecture = known_language_model(name)
    made = tuple(Tier(tier, mixture_table(architecture, tier), "gguf") for tier in tiers)
    return Model(name, name, architecture, made, (Task.CHAT,), ("llama.cpp",))


def test_a_report_holds_every_tier_and_json_numbers() -> None:
    model = model_of("llama-3.1-8b", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
    report = check_language(model, machine(12))
    assert {cell.tier.name for cell in report.cells} == {tier.name for tier in model.tiers}
    assert report.best.verdict is Verdict.FITS
    document = report.to_json()
    assert document["cells"][0]["runtime"] == "llama.cpp"
    assert document["cells"][0]["seconds"]["low"] < document["cells"][0]["seconds"]["high"]
    ranks = [cell.verdict.rank for cell in report.cells]
    assert ranks == sorted(ranks)


def test_other_models_are_refused() -> None:
    from fitcheck.models import catalog

    with pytest.raises(InputError, match="does not model"):
        check(catalog.get("sensenova-u1-8b-mot"), machine(12), Wanted(runtime="llama.cpp"))


@settings(max_examples=25)
@given(
    st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-27b", "gpt-oss-20b"]),
    st.integers(4, 32),
    st.integers(8, 96),
)
def test_more_memory_never_worsens_the_verdict(model: str, vram: int, ram: int) -> None:
    def rank(card: int, host: int) -> int:
        return best(model, "Q4_K_M", machine(card, host), cache_type=("f16", "f16")).level.verdict.rank

    here = rank(vram, ram)
    assert rank(vram + 8, ram) <= here
    assert rank(vram, ram + 32) <= here


def test_one_memory_must_hold_the_hosts_part_too() -> None:
    card = replace(machine(24).gpus[0].card, unified_memory=True, memory=24 * GIB)
    pooled = Machine((Gpu(card, Link(), 24 * GIB, vram_override=24 * GIB),), ram_total=24 * GIB)
    apart, together = best("llama-3.1-8b", "Q4_K_M", machine(24)), best("llama-3.1-8b", "Q4_K_M", pooled)
    one, both = (RUNTIME.footprint(found.ask) for found in (apart, together))
    assert both.host.total.best == one.host.total.best + one.cards[0].card.best


def test_the_card_that_is_shortest_speaks_for_all() -> None:
    have = machine(24, cards=2)
    small = replace(have.gpus[1], vram_override=4 * GIB)
    uneven = replace(have, gpus=(have.gpus[0], small))
    options = LlamaOptions(context=8192, sequences=1, gpu_layers=99, tensor_split=(1.0, 1.0))
    found = search("llama-3.1-8b", "Q8_0", uneven).assess(options)
    assert found.level.verdict is Verdict.NO
    assert (vram(found).available, vram(found).gpu) == (4 * GIB, 1)
    report = check(model_of("llama-3.1-8b", "Q8_0"), uneven, Wanted().with_(ngl=99))
    document = report.to_json()
    assert {len(one["cards"]) for one in document["cells"]} == {2}
    assert document["machine"]["gpus"] == len(document["machine"]["cards"]) == 2


def test_layers_move_to_the_host_until_the_card_is_not_even_tight() -> None:
    have = machine(12)
    exact = replace(have, gpus=(replace(have.gpus[0], vram_override=None, vram_total=12 * GIB, display=True),))
    found = best("qwen2.5-14b", "Q5_K_M", exact)
    assert vram(found).verdict is Verdict.FITS
    assert RUNTIME.footprint(found.ask).cards[0].card.best <= budget(exact).vram.low
    assert found.options.gpu_layers is not None
    assert 0 < found.options.gpu_layers < 49


def test_a_report_prefers_what_reads_fluently_then_the_finer_tier() -> None:
    model = model_of("llama-3.1-8b", "Q8_0", "Q4_K_M", "BF16")
    roomy = check_language(model, machine(24))
    assert [cell.tier.name for cell in roomy.cells] == ["Q8_0", "BF16", "Q4_K_M"]  # beyond Q6_K only speed counts
    slow_card = replace(machine(24).gpus[0].card, memory_bandwidth=70e9)
    slow = replace(machine(24), gpus=(replace(machine(24).gpus[0], card=slow_card),))
    assert check_language(model, slow).cells[0].tier.name == "Q4_K_M"


def test_what_can_be_read_along_leads_over_coarser_files_that_are_quicker() -> None:
    model = model_of("llama-3.3-70b", "IQ4_XS", "Q2_K_S", "Q8_0")
    mac = machine_for(find_card("Apple M3 Max"), ram=64 * GIB)
    found = check_language(model, mac).cells
    paces = {cell.tier.name: cell.rate("generation") for cell in found}
    slow, quick = paces["IQ4_XS"], paces["Q2_K_S"]
    assert slow is not None
    assert quick is not None
    assert 5.2 < slow.best < quick.best
    assert next(cell.tier.name for cell in found) == "IQ4_XS"


def test_a_model_trained_on_less_gets_less_context() -> None:
    short = replace(known_language_model("llama-3.1-8b"), context_length=2048)
    assert TextOptions().context_of(short) == 2048
    assert TextOptions().context_of(known_language_model("llama-3.1-8b")) == 8192
    assert TextOptions(ctx=9000).context_of(short) == 9000


def bound(name: str, have: Machine, **options: object) -> tuple[Ask, Footprint]:
    """The first ask of a BF16 checkpoint of a shape, and its bound."""
    architecture = known_language_model(name)
    tier = Tier("BF16", mixture_table(architecture, "BF16"), "safetensors")
    model = Model(name, name, architecture, (tier,), (Task.CHAT,), ("weights only",))
    ask = next(iter(BOUNDS.asks(model, model.tiers, Wanted().with_(**options), have)))
    return ask, BOUNDS.footprint(ask)


def test_the_placement_says_what_differs_from_the_defaults_and_reads_back() -> None:
    found = search("qwen3-30b-a3b", "Q4_K_M", machine(12), cache_type=("q8_0", "f16"), ubatch=256).best()
    settings = dict(found.ask.placement.settings)
    assert settings["micro_batch"] == 256
    assert (settings["cache_type_k"], "cache_type_v" in settings) == ("q8_0", False)
    assert arguments_of(found.ask.placement, found.ask.workload) == found.options


def test_a_bound_counts_no_more_than_a_window_of_the_cache() -> None:
    architecture = known_language_model("gemma-3-12b")
    tier = Tier("BF16", mixture_table(architecture, "BF16"), "safetensors")
    _, footprint = bound("gemma-3-12b", machine(48), ctx=32768)
    phase = footprint.cards[0].phases[0]
    block, layers = architecture.blocks[0], architecture.layers
    dense = sum(not one.sliding for one in architecture.blocks)
    tokens = dense * 32768 + (layers - dense) * architecture.window
    assert phase.kv_cache == tokens * block.kv_heads * (block.key_length + block.value_length) * 2
    assert phase.resident == tier.tensors.nbytes


def test_a_bound_says_no_or_nothing() -> None:
    for size, verdict, binding in ((12, Verdict.NO, Constraint.VRAM), (48, Verdict.UNKNOWN, Constraint.MODEL)):
        ask, _ = bound("llama-3.1-8b", machine(size), ctx=4096)
        found = check(ask.model, machine(size)).best
        assert (found.verdict, found.judgement.binding) == (verdict, binding)


def novel(layers: int, have: Machine) -> Report:
    """A file of an architecture that nobody knows, with so many layers asked onto the card."""
    architecture = replace(known_language_model("llama-3.1-8b"), unknown=("its kind of layer is not known",))
    table = mixture_table(architecture, "Q8_0")
    tier = Tier("Q8_0", table, "gguf", file="m.gguf", repository="org/repo", disk_bytes=table.nbytes)
    model = Model("org/novel", "novel", architecture, (tier,), (Task.CHAT,), ("llama.cpp",), "org/repo")
    return check(model, have, Wanted().with_(ngl=layers, sequences=1), advise=False)


@pytest.mark.parametrize(
    ("short", "expected"),
    [(1, Verdict.NO), (0, Verdict.UNKNOWN), (-(2 * GIB), Verdict.UNKNOWN), (-(40 * GIB), Verdict.UNKNOWN)],
)
def test_of_an_unknown_architecture_only_weights_beyond_all_that_a_card_may_have_are_a_sure_no(
    short: int, expected: Verdict
) -> None:
    """The card may give as much as the high end of what it has; below that nothing is sure, however much is left."""
    weights = next(iter(novel(99, machine(80)).cells)).footprint.cards[0].phases[0].resident
    roomy = machine(80)
    usable = (
        Interval(weights // 2, weights // 2 + 1, weights - short) if short >= 0 else Interval.exactly(weights - short)
    )
    have = replace(roomy, gpus=(replace(roomy.gpus[0], vram_override=None, usable=usable),))
    cells = [cell for cell in novel(99, have).cells if cell.footprint.cards[0].phases[0].resident == weights]
    assert {cell.verdict for cell in cells} == {expected}
    if expected is Verdict.NO:
        assert {cell.judgement.binding for cell in cells} == {Constraint.VRAM}


def test_of_an_unknown_architecture_only_weights_beyond_all_host_memory_are_a_sure_no() -> None:
    free = replace(machine(80), ram_total=64 * GIB)
    (cell, *_) = novel(0, free).cells
    layout_ = cell.footprint.layout
    assert isinstance(layout_, LlamaEstimate)
    used = layout_.host_weights_used
    found = {}
    for total in range(used, used + 8 * GIB, 128 * MIB):
        ram = ram_budget(replace(free, ram_total=total))
        assert ram is not None
        have = replace(free, ram_total=total)
        found[(used > ram.high, used > ram.best)] = {one.verdict for one in novel(0, have).cells}
    assert found == {
        (True, True): {Verdict.NO},
        (False, True): {Verdict.UNKNOWN},
        (False, False): {Verdict.UNKNOWN},
    }


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("slug", "size", "ram"), [("llama-3.1-70b", 12, 64), ("qwen3-30b-a3b", 8, 16)])
def test_the_smaller_file_that_is_named_is_the_largest_that_helps(slug: str, size: int, ram: int, known: bool) -> None:
    """Bisection finds what trying one after another finds, whether the best placement of each is ``known`` or only
    looked for as far as its verdict goes."""
    model = language_model(slug)
    have = replace(machine(size), ram_total=ram * GIB, ram_available=None)
    asked = TextOptions()
    search = PlacementSearch(RUNTIME, model, model.tiers[0], have, asked, asked.workload(8192), 5.0)
    tiers = sorted(
        (
            tier
            for tier in model.tiers
            if tier.name in ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K", "IQ2_XXS")
        ),
        key=lambda tier: -tier.tensors.nbytes,
    )
    ranks = [search.rank(search.with_tier(tier).best()) for tier in tiers]
    for rank in range(4):
        expected = next((tier.name for tier, its in zip(tiers, ranks, strict=True) if its < rank), None)
        if not known:
            held.forget()
        found = search.largest_that_betters(tiers, rank)
        assert (None if found is None else found.ask.tier.name) == expected
    assert search.largest_that_betters([], 3) is None
