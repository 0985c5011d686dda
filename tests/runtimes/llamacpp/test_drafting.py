"""A second model that drafts: what it takes on which device, what it does to the tokens a second, what is refused."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import fitcheck
from fitcheck.errors import FileError, InputError, OptionError
from fitcheck.models import catalog
from fitcheck.models.find import draft_of
from fitcheck.runtimes.llamacpp.arguments import DRAFT, LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate, overhead
from fitcheck.runtimes.llamacpp.builds import parse_build
from fitcheck.runtimes.llamacpp.drafted_speed import between_none_and_all
from fitcheck.runtimes.llamacpp.drafting import draft_options
from fitcheck.units import GIB, Interval
from fitcheck.verdict.report import Report

MODEL, SMALL = "qwen3-32b", "qwen3-0.6b:Q8_0"


def check(*cards: str, **options: Any) -> Report:
    asked = {"tier": "Q4_K_M", "ram": 64 * GIB, "ctx": 8192, "cache_type": "q8_0", "model_draft": SMALL, **options}
    return fitcheck.check(MODEL, list(cards or ("RTX 4090",)), **{k: v for k, v in asked.items() if v is not None})


def laid_out(report: Report) -> LlamaEstimate:
    found = report.best.footprint.layout
    assert isinstance(found, LlamaEstimate)
    return found


def words_of(report: Report) -> list[str]:
    return shlex.split(report.best.commands[-1])


def after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_it_takes_what_the_same_model_takes_alone_but_for_the_process() -> None:
    found, plain = laid_out(check()), laid_out(check(model_draft=None))
    assert found.draft is not None
    small = catalog.get("qwen3-0.6b")
    tier = small.tier_named("Q8_0")
    alone = estimate(small.architecture, tier.tensors, draft_options(found.options), (24 * GIB,))  # type: ignore[arg-type]
    assert found.draft.cards == alone.cards
    assert found.card_totals[0].best == plain.card_totals[0].best + alone.card_totals[0].best - overhead()[1]
    assert found.footprint.cards[0].allocated.best == sum(one.cards[0].total for one in (plain, alone))
    assert found.disk == plain.disk + tier.disk_bytes


def test_its_context_is_the_models_and_its_cache_is_its_own() -> None:
    """common_speculative_init_result: cparams.n_ctx = llama_n_ctx(ctx_tgt)."""
    short, long = (laid_out(check("B200", ctx=size)).draft for size in (8192, 16384))
    assert short is not None
    assert long is not None
    assert long.options.context == 2 * short.options.context == 16384
    assert long.kv_cache == 2 * short.kv_cache
    quantized = laid_out(check("B200", cache_type_k_draft="q8_0", cache_type_v_draft="q8_0")).draft
    assert quantized is not None
    assert quantized.kv_cache == short.kv_cache * 34 // 64


@pytest.mark.parametrize(("options", "where"), [({"gpu_layers_draft": 0}, -1), ({"device_draft": "none"}, -1)])
def test_it_can_lie_on_the_host(options: dict[str, Any], where: int) -> None:
    found = laid_out(check(**options))
    assert found.draft is not None
    assert not found.draft.cards[0].weights
    assert found.draft.kv_cache == found.draft.host.kv_cache
    assert set(found.draft.devices.layers) == {where}


def test_it_can_lie_on_one_card_of_two() -> None:
    found = laid_out(check("RTX 3090", "RTX 3090", device_draft="CUDA1"))
    assert found.draft is not None
    assert [bool(card.total) for card in found.draft.cards] == [False, True]
    with pytest.raises(OptionError, match="no card 2"):
        check("RTX 3090", "RTX 3090", device_draft="CUDA2")


def test_without_a_word_it_goes_to_where_the_model_leaves_most() -> None:
    """On two cards, of which the model fills the first alone."""
    found = laid_out(check("RTX 3090", "RTX 3090", tensor_split=None, split_mode="none"))
    assert found.draft is not None
    assert set(found.draft.devices.layers) == {0}
    found = laid_out(check("RTX 3090", "RTX 3060 12GB", ngl=40))
    assert found.draft is not None
    counts = [found.draft.devices.layers.count(card) for card in (0, 1)]
    left = [24 * GIB - found.card_totals[0].best, 12 * GIB - found.card_totals[1].best]
    assert (counts[0] > counts[1]) == (left[0] > left[1])


def test_of_equal_cards_it_goes_to_the_one_that_the_model_leaves() -> None:
    """Experts of the first card's layers lie on the host, those of the second do not."""
    found = fitcheck.check(
        "qwen3-30b-a3b",
        ["RTX 3090", "RTX 3090"],
        display=False,
        ram=64 * GIB,
        tier="Q4_K_M",
        n_cpu_moe=24,
        ngl=99,
        model_draft="qwen3-0.6b:Q8_0",
    )
    draft = laid_out(found).draft
    assert draft is not None
    first, second = (draft.devices.layers.count(card) for card in (0, 1))
    assert first > 1.3 * second > 0


def test_layers_of_the_model_give_way_to_it() -> None:
    """The card is 24 GB: with a cache of 16 bits the model alone fits whole, and with a draft it does not."""
    asked = {"ctx": 4096, "cache_type": "f16"}
    alone, drafting = laid_out(check(model_draft=None, **asked)), laid_out(check(model_draft="qwen3-4b:Q8_0", **asked))
    assert alone.devices.full_offload
    assert not drafting.devices.full_offload
    assert check(model_draft="qwen3-4b:Q8_0", **asked).best.footprint.cards[0].card.high < 24 * GIB


def test_the_command_names_it_and_what_was_asked_of_it() -> None:
    words = words_of(check(gpu_layers_draft=10, device_draft="CUDA0", cache_type_k_draft="q8_0", spec_draft_n_max=8))
    assert after(words, "-hfd") == "unsloth/Qwen3-0.6B-GGUF:Q8_0"
    assert after(words, "--spec-type") == "draft-simple"
    asked = (("-ngld", "10"), ("-devd", "CUDA0"), ("-ctkd", "q8_0"), ("--spec-draft-n-max", "8"))
    assert [after(words, flag) for flag, _ in asked] == [value for _, value in asked]


def test_older_builds_have_their_own_flags_one_slot_and_a_context_of_choice() -> None:
    report = check(build="2026-03", ctx_size_draft=2048, model_draft=SMALL)
    words, found = words_of(report), laid_out(report)
    assert after(words, "-cd") == "2048"
    assert after(words, "--draft-max") == "3"
    assert "--spec-type" not in words
    assert found.options.slots == 1
    assert found.draft is not None
    assert found.draft.options.context == 2048
    four = laid_out(check(build="2026-03", sequences=4)).draft
    one = laid_out(check(build="2026-03", sequences=1, ctx=2048)).draft
    assert four is not None
    assert one is not None
    assert four.cards[0].kv_cache == 4 * one.cards[0].kv_cache
    assert four.cards[0].weights == one.cards[0].weights


def test_json_says_where_its_buffers_lie() -> None:
    details = json.loads(json.dumps(check().to_json()))["cells"][0]["details"]
    assert details["draft"]["model"] == "Qwen3 0.6B"
    assert details["draft"]["tier"] == "Q8_0"
    assert details["draft"]["buffers"]["cards"][0]["kv_cache"] > 0
    total = sum(details["draft"]["buffers"]["cards"][0][kind] for kind in ("weights", "kv_cache", "compute"))
    assert details["buffers"]["cards"][0]["beside"] == total


def test_tokens_a_second_span_no_draft_accepted_and_all() -> None:
    plain, draft = Interval(9.0, 10.0, 11.0), Interval(90.0, 100.0, 110.0)
    found = between_none_and_all(3, plain, 0.12, draft)
    assert found.low == pytest.approx(1 / (3 / 90 + 0.12))
    assert found.high == pytest.approx(4 / (3 / 110 + 1 / 11))
    assert found.best == 10.0
    slow = between_none_and_all(3, plain, 0.12, Interval(4.0, 5.0, 6.0))  # a draft slower than the model never helps
    assert slow.best == slow.high < plain.low
    assert between_none_and_all(0, plain, 0.12, draft) == plain


def test_the_answer_says_what_its_tokens_a_second_span() -> None:
    report, plain = check(), check(model_draft=None)
    assert report.best.duration is not None
    assert plain.best.duration is not None
    rate, alone = (dict(one.best.duration.rates)["generation"] for one in (report, plain) if one.best.duration)
    assert rate.low < alone.best < rate.high
    assert rate.best == pytest.approx(alone.best)
    assert any("3 tokens ahead" in note and "where none is accepted" in note for note in report.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_draft": "gemma-3-1b"}, "same vocabulary"),
        ({"model_draft": "qwen3-embedding-0.6b"}, "writes no text"),
        ({"model_draft": "qwen3-0.6b:Q9"}, "no tier 'Q9'"),
        ({"model_draft": "flux.1-dev"}, "writes no text"),
        ({"model_draft": "no-such-model"}, "neither a catalog model"),
        ({"model_draft": None, "gpu_layers_draft": 5}, "--gpu-layers-draft: no model drafts here"),
        ({"model_draft": None, "spec_type": "draft"}, "name one with --model-draft"),
        ({"spec_type": "mtp"}, "leave it or --model-draft out"),
        ({"ctx_size_draft": 2048}, "since May 2026"),
        ({"cache_type_k_draft": "q3"}, "--cache-type-k-draft: 'q3'"),
        ({"device_draft": "card one"}, "names no cards"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check(**options)


def test_a_projector_is_no_draft(tmp_path: Any) -> None:
    (tmp_path / "draft.gguf").write_bytes(b"GGUF")
    with pytest.raises(FileError):
        check(model_draft=str(tmp_path / "draft.gguf"))


def test_a_benchmarks_record_is_no_run_with_a_draft() -> None:
    """What a plain run was measured at says nothing of one with a second model beside it."""
    from fitcheck.runtimes import registry

    plain, drafting = (check(model_draft=one).best.ask for one in (None, SMALL))
    runtime = registry.get("llama.cpp")
    assert runtime.alike(plain) != runtime.alike(drafting)
    assert runtime.holds(plain) != runtime.holds(drafting)


def test_recurrent_states_are_kept_for_prediction_layers_alone() -> None:
    assert LlamaOptions(speculative=DRAFT).states == 1
    assert LlamaOptions(speculative="draft-mtp").states == 4
    assert LlamaOptions(speculative=DRAFT, sequences=2).outputs == 8
    assert LlamaOptions(speculative=DRAFT, build=parse_build("2026-03")).slots == 1


def test_a_models_tier_as_a_draft_keeps_what_the_command_needs() -> None:
    model = catalog.get("qwen3-0.6b")
    draft = draft_of(model, model.tier_named("Q8_0"))
    assert (draft.role, draft.kind, draft.repository) == ("draft", "Q8_0", model.tier_named("Q8_0").repository)
    assert draft.architecture is model.architecture


@pytest.mark.parametrize("case", json.loads((Path(__file__).parent / "fixtures/llama_server_draft.json").read_text()))
def test_llama_server_prints_the_same_buffers_of_model_and_draft(case: dict[str, Any]) -> None:
    """Captures of benchmarks/llamacpp_probe/draft.py, a build of October 2026 on the processor."""
    sys.path.append(str(Path(__file__).parents[3] / "benchmarks" / "llamacpp_probe"))
    from draft import predicted

    assert all(len(buffers) == 4 for buffers in case["printed"])
    for ours, theirs in zip(predicted(case["options"]), case["printed"], strict=True):
        assert ours == pytest.approx(theirs, rel=0.001, abs=0.01)
