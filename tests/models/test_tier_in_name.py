"""A tier as people type it: behind the model's name, and as a kind of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from fitcheck.errors import FileError, ModelError, NetworkError, OptionError
from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.models.find import find_model, slug_of
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.check import check


@pytest.mark.parametrize(
    "text",
    ["qwen3-8b:Q4_K_M", "qwen3 8b:q4_k_m", "qwen3:8b-q4_K_M", "qwen3-8b-Q4KM", "Qwen3-8B:Q4_K_M", "qwen3 8b q4_k_m"],
)
def test_a_tier_behind_a_name_is_that_tier(text: str) -> None:
    found = find_model(text, offline=True)
    assert (found.model.slug, [tier.name for tier in found.tiers]) == ("qwen3-8b", ["Q4_K_M"])


@pytest.mark.parametrize("text", ["qwen3:8b", "gpt-oss:20b", "gemma3:27b", "qwen3:30b-a3b"])
def test_a_size_behind_a_name_is_no_tier(text: str) -> None:
    found = find_model(text, offline=True)
    assert len(found.tiers) == len(found.model.tiers) > 1


def test_what_names_a_tier_twice_or_wrongly_is_refused() -> None:
    with pytest.raises(OptionError, match="names its tier; name it once"):
        find_model("qwen3-8b:Q4_K_M", tiers=("Q6_K",), offline=True)
    with pytest.raises(ModelError, match=r"has no tier 'Q9_K'; choose from"):
        find_model("qwen3-8b:Q9_K", offline=True)
    with pytest.raises(ModelError, match="neither a catalog model"):
        find_model("nothing:Q4_K_M", offline=True)


@pytest.mark.parametrize(
    ("name", "tiers"),
    [
        ("Q4", {"Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M"}),
        ("q5_k", {"Q5_K_S", "Q5_K_M"}),
        ("IQ4", {"IQ4_NL", "IQ4_XS"}),
        ("Q8", {"Q8_0"}),
        ("F16", {"F16"}),
    ],
)
def test_a_kind_of_tiers_is_all_of_it(name: str, tiers: set[str]) -> None:
    model = catalog.get("qwen3-8b")
    assert {tier.name for tier in model.tiers_named(name)} == tiers
    assert {tier.name for tier in find_model("qwen3-8b", tiers=(name, name), offline=True).tiers} == tiers
    for text in (f"qwen3-8b:{name}", f"Qwen3 8B {name}"):
        assert {tier.name for tier in find_model(text, offline=True).tiers} == tiers, text


@pytest.mark.parametrize("text", ["deepseek r1", "gemma 3n e4b", "kimi k2", "llama 3.1 8b"])
def test_words_of_a_name_are_no_tier(text: str) -> None:
    found = find_model(text, offline=True)
    assert len(found.tiers) == len(found.model.tiers) > 1


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("flux dev", "flux.1-dev"),
        ("Qwen3 8B", "qwen3-8b"),
        ("SenseNova U1 8B", "sensenova-u1-8b-mot"),
        ("sensenova u1.5", "sensenova-u1.5-8b-mot"),
        ("u1 8b", "u1 8b"),
        ("qwen3-8b", "qwen3-8b"),
        ("./qwen3-8b", "./qwen3-8b"),
        ("no such model", "no such model"),
    ],
)
def test_a_name_as_people_say_it_has_the_catalogs_slug(text: str, slug: str) -> None:
    assert slug_of(text) == slug


def test_a_name_of_several_models_has_no_slug() -> None:
    with pytest.raises(ModelError, match=r"could be flux.1-dev, "):
        slug_of("flux")
    with pytest.raises(
        ModelError, match=r"'sensenova u1' could be sensenova-u1-8b-mot, sensenova-u1-a3b-mot; name one"
    ):
        slug_of("sensenova u1")


def test_a_repository_that_cannot_be_read_is_answered_from_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NetworkError("the server cannot be reached.")

    monkeypatch.setattr("fitcheck.models.resolve.resolve", refuse)
    with pytest.raises(
        NetworkError, match=r"cannot be reached. The catalog answers without it: `fitcheck check qwen3-8b`"
    ):
        find_model("unsloth/Qwen3-8B-GGUF:Q4_K_M")
    with pytest.raises(NetworkError, match=r"cannot be reached.$"):
        find_model("somebody/nothing-like-it")


@pytest.mark.parametrize("name", ["Q", "K_M", "Q44", ""])
def test_what_begins_no_tier_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="has no tier"):
        catalog.get("qwen3-8b").tiers_named(name)


@pytest.mark.parametrize(
    ("slug", "name", "words"),
    [
        ("qwen3-30b-a3b", "UD-Q4_K_XL", "check unsloth/Qwen3-30B-A3B-GGUF with --tier UD-Q4_K_XL.* known here, Q4_K_M"),
        ("llama-3.1-70b", "ud-iq2_m", r"the repository of unsloth \(org/repo\).* here, IQ2_M"),
        ("flux.1-dev", "UD-Q8_0", r"the repository of unsloth .*here, Q8_0"),
    ],
)
def test_of_a_publishers_own_mixture_the_file_tells_and_the_nearest_is_named(slug: str, name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        catalog.get(slug).tier_named(name)


def test_a_check_of_a_kind_judges_each_once() -> None:
    machine = asked_machine("RTX 4070", ram=32 * GIB)
    report = check(catalog.get("qwen3-8b"), machine, Wanted(tiers=("Q4", "Q4_K_M")), advise=False)
    assert sorted(cell.tier.name for cell in report.cells) == ["Q4_0", "Q4_1", "Q4_K_M", "Q4_K_S"]


def test_a_link_to_nothing_is_said_to_be_one(tmp_path: Path) -> None:
    link = tmp_path / "model-Q4_K_M.gguf"
    link.symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(FileError, match="this link leads to no file"):
        find_model(str(link))


@pytest.mark.parametrize(
    "place",
    [
        "unsloth/Qwen3-8B-GGUF",
        "unsloth/Qwen3-8B-GGUF@main:Qwen3-8B-Q4_K_M.gguf",
        "https://huggingface.co/unsloth/Qwen3-8B-GGUF",
        "https://huggingface.co/unsloth/Qwen3-8B-GGUF/blob/main/Qwen3-8B-Q4_K_M.gguf",
    ],
)
def test_a_repository_that_cannot_be_read_names_the_catalogs_model(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NetworkError, match=r"The catalog answers without it: `fitcheck check qwen3-8b`"):
        find_model(place, offline=True)
