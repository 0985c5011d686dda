"""Names of language models as people type them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fitcheck.errors import InputError, ModelError
from fitcheck.models.families.language.known_models import known_language_models, language_entry
from fitcheck.models.families.language.names import find_language_model
from fitcheck.models.find import find_model


@pytest.mark.parametrize(
    ("typed", "slug"),
    [
        ("qwen3 30b", "qwen3-30b-a3b"),
        ("Qwen3-30B-A3B", "qwen3-30b-a3b"),
        ("qwen/qwen3-30b-a3b", "qwen3-30b-a3b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b-2507"),
        ("qwen3-coder:30b", "qwen3-coder-30b-a3b"),
        ("qwen3.6 35b", "qwen3.6-35b-a3b"),
        ("qwen3.6 27b mtp", "qwen3.6-27b-mtp"),
        ("gpt-oss 20b", "gpt-oss-20b"),
        ("gpt-oss:20b", "gpt-oss-20b"),
        ("gemma3:27b", "gemma-3-27b"),
        ("unsloth/gemma-3-27b-it-GGUF", "gemma-3-27b"),
        ("deepseek r1 distill 32b", "deepseek-r1-distill-qwen-32b"),
        ("deepseek-r1:32b", "deepseek-r1-distill-qwen-32b"),
        ("DeepSeek-R1", "deepseek-r1"),
        ("llama3.1:8b", "llama-3.1-8b"),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", "llama-3.1-8b"),
        ("phi4", "phi-4"),
        ("mistral nemo", "mistral-nemo-12b"),
        ("granite 4.0 tiny", "granite-4.0-h-tiny"),
        ("glm 4.5 air", "glm-4.5-air"),
        ("Command R", "command-r-35b"),
        ("mixtral 8x7b", "mixtral-8x7b"),
    ],
)
def test_names_as_typed(typed: str, slug: str) -> None:
    assert find_language_model(typed).slug == slug


@pytest.mark.parametrize("slug", known_language_models())
def test_every_slug_and_display_name_finds_its_model(slug: str) -> None:
    assert find_language_model(slug).slug == slug
    assert find_language_model(language_entry(slug).name).slug == slug


@pytest.mark.parametrize(
    ("typed", "among"),
    [
        ("llama 8b", ("llama-3-8b", "llama-3.1-8b")),
        ("qwen 32b", ("qwen2.5-32b", "qwen3-32b")),
        ("gemma3", ("gemma-3-4b", "gemma-3-27b")),
    ],
)
def test_an_ambiguous_name_lists_candidates(typed: str, among: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as raised:
        find_language_model(typed)
    message = str(raised.value)
    assert "could be" in message
    assert all(slug in message for slug in among)


@pytest.mark.parametrize(("typed", "near"), [("lama 3.1 8b", "llama-3.1-8b"), ("qwen3-30b-b3a", "qwen3-30b-a3b")])
def test_a_wrong_name_suggests_near_ones(typed: str, near: str) -> None:
    with pytest.raises(InputError, match="not in the catalog") as raised:
        find_language_model(typed)
    assert near in str(raised.value)


@pytest.mark.parametrize("typed", ["", "  ", "-/:", "\x00", "x" * 100_000, "(" * 199, "https://a/b", "../../etc"])
def test_nonsense_is_one_sentence(typed: str) -> None:
    with pytest.raises(InputError) as raised:
        find_language_model(typed)
    assert len(str(raised.value)) < 400


def test_a_name_is_found_without_numpy_or_torch() -> None:
    code = (
        "import sys; from fitcheck.models.families.language.catalog import language_model; language_model('qwen3 30b');"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'scipy', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "llama3.2-vision:11b",
            "Llama 3.2 Vision is not in the catalog, because its architecture .mllama. is not loaded",
        ),
        ("Llama-3.2-11B-Vision-Instruct", "mllama"),
        ("llama 3.2 vision 90b", "mllama"),
        ("deepseek v4 flash", "deepseek4 of llama.cpp. is not modelled here; name its GGUF file"),
        ("Kimi-K3", "kimi-k3 of llama.cpp. is not modelled here"),
        ("minimax m3", "minimax-m3 of llama.cpp. is not modelled here"),
        ("hy3", "hy_v3 of llama.cpp"),
        ("qwen 4", "qwen4exp of llama.cpp"),
    ],
)
def test_what_is_asked_for_and_has_no_entry_is_told_why(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        find_model(text, offline=True)


def test_a_model_whose_name_is_alike_is_still_found() -> None:
    assert find_model("llama 3.2 3b", offline=True).model.slug == "llama-3.2-3b"
    assert find_model("deepseek v3", offline=True).model.slug == "deepseek-v3"
    assert find_model("olmo 3 32b", offline=True).model.slug == "olmo-3.1-32b"
    assert find_model("granite 4 micro", offline=True).model.slug == "granite-4.0-micro"
    assert find_model("lfm2 1.2b", offline=True).model.slug == "lfm2-1.2b"
    assert find_model("lfm2 8b", offline=True).model.slug == "lfm2-8b-a1b"
    assert find_model("granite 4 h small", offline=True).model.slug == "granite-4.0-h-small"
    assert find_model("nemotron 3 super", offline=True).model.slug == "nemotron-3-super-120b-a12b"
    assert find_model("gemma 3n e4b", offline=True).model.slug == "gemma-3n-e4b"
