"""Drafting with a model's own prediction layers: a context of its own, and layers that are otherwise not loaded."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

import fitcheck
from fitcheck.errors import OptionError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.units import GIB, MIB

WIDTH = 5120
METADATA = {
    "general.architecture": "qwen35",
    "qwen35.block_count": 65,
    "qwen35.nextn_predict_layers": 1,
    "qwen35.context_length": 262144,
    "qwen35.embedding_length": WIDTH,
    "qwen35.feed_forward_length": 17408,
    "qwen35.vocab_size": 248320,
    "qwen35.attention.head_count": 24,
    "qwen35.attention.head_count_kv": 4,
    "qwen35.attention.key_length": 256,
    "qwen35.attention.value_length": 256,
    "qwen35.attention.layer_norm_rms_epsilon": 1e-6,
    "qwen35.ssm.conv_kernel": 4,
    "qwen35.ssm.state_size": 128,
    "qwen35.ssm.group_count": 16,
    "qwen35.ssm.time_step_rank": 48,
    "qwen35.ssm.inner_size": 6144,
    "qwen35.full_attention_interval": 4,
}


def shape() -> LanguageArchitecture:
    return architecture_from_gguf(METADATA)


TABLE = mixture_table(shape(), "Q4_K_M")


def run(**options: Any) -> LlamaEstimate:
    asked = LlamaOptions(**{"sequences": 1, "cache_type_k": "q4_0", "cache_type_v": "q4_0", **options})
    return estimate(shape(), TABLE, asked, vram=(24 * GIB,))


def taken(context: int, **options: Any) -> int:
    """What drafting takes on the card besides, at a context."""
    with_, without = run(context=context, speculative="draft-mtp", **options), run(context=context)
    return with_.card_totals[0].best - without.card_totals[0].best


def test_prediction_layers_are_loaded_for_drafting_alone() -> None:
    ahead = sum(tensor.nbytes for tensor in TABLE if tensor.layer == 64)
    assert ahead > 100 * MIB
    difference = run(speculative="draft-mtp").cards[0].weights - run().cards[0].weights
    assert difference == pytest.approx(ahead, rel=0.01)


@pytest.mark.parametrize(("context", "seen"), [(262144, 1932), (131072, 1292)])
def test_what_somebody_saw_drafting_take(context: int, seen: int) -> None:
    """Qwen3.6 27B with a q4_0 cache, one sequence: 23718 against 21786 MiB at 262144 tokens; nothing is fitted."""
    assert taken(context) == pytest.approx(seen * MIB, rel=0.1)


def test_its_cache_grows_by_16_bits_a_token_whatever_the_models_cache_is() -> None:
    token = 4 * 256 * 2 * 2  # K and V of four heads
    mask = 512 * 2
    assert taken(262144) - taken(131072) == pytest.approx(131072 * (token + mask), rel=0.01)


def test_the_recurrent_state_is_kept_for_every_drafted_token() -> None:
    plain = run().recurrent
    assert [run(speculative="draft-mtp", draft_tokens=count).recurrent // plain for count in (1, 3)] == [2, 4]


def test_a_model_without_such_layers_cannot() -> None:
    with pytest.raises(OptionError, match="no layers that predict"):
        fitcheck.check("qwen3-8b", "RTX 3090", tier="Q4_K_M", spec_type="draft-mtp")
    with pytest.raises(OptionError, match="is not modelled"):
        fitcheck.check("qwen3-8b", "RTX 3090", tier="Q4_K_M", spec_type="eagle9")


def test_the_answer_says_what_drafting_would_take_and_the_command_has_it() -> None:
    report = fitcheck.check("glm-4.5-air", "B200", ram=64 * GIB, tier="Q4_K_M")
    assert any("--spec-type draft-mtp does and takes" in note for note in report.notes)
    drafting = fitcheck.check("glm-4.5-air", "B200", ram=64 * GIB, tier="Q4_K_M", spec_type="mtp", spec_draft_n_max=2)
    words = shlex.split(drafting.best.commands[-1])
    assert words[words.index("--spec-type") + 1] == "draft-mtp"
    assert words[words.index("--spec-draft-n-max") + 1] == "2"
    assert drafting.best.need > report.best.need
    assert any("without drafting" in note for note in drafting.notes)
