"""A hub that goes wrong: one clear sentence for each way, bounded waits and bytes, and never the token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf_files import ARRAY, STRING, small_model, text
from standin_hub import Blob, StandInHub, blob

from fitcheck.errors import InputError
from fitcheck.models.hub import HubSettings
from fitcheck.models.resolve import Resolved, resolve
from fitcheck.units import MIB

TOKEN = "hf_aVerySecretTokenOfTheUser"
HEAD = small_model()
SMALL = Blob(HEAD.data, HEAD.size)
FILE = "org/repo:model.Q4_K_M.gguf"


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with StandInHub({"org/repo": {"model.Q4_K_M.gguf": SMALL}}) as served:
        yield served


@pytest.fixture
def settings(hub: StandInHub, tmp_path: Path) -> HubSettings:
    return HubSettings(endpoint=hub.url, cache=tmp_path, token=TOKEN, first_wait=0.001, timeout=0.5)


def complaint(settings: HubSettings, target: str = FILE) -> str:
    """The sentence that resolving and reading ``target`` ends with; it is checked to be fit for a terminal."""
    with pytest.raises(InputError) as raised, resolve(target, settings=settings) as found:
        read(found)
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert TOKEN not in sentence
    assert "secret-signature" not in sentence
    assert len(sentence) < 300
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return sentence


def read(found: Resolved) -> None:
    found.tiers()


FINAL = {
    "401": "the token in use may not read it",
    "403": "the token in use may not read it",
    "gated": "gated; accept its terms",
    "404": "no such repository or file",
    "400": "HTTP 400",
    "html": "web page",
    "wrong part": "another part of the file",
    "no content range": "another part of the file",
    "wrong total": "were announced",
    "compressed": "compressed",
    "loop": "redirects in circles",
    "nowhere": "redirects to nowhere",
    "crumbs": "too small pieces",
    "busy for long": "asks to wait 3600 s",
    "busy until": "asks to wait",
}


@pytest.mark.parametrize("fault", FINAL)
def test_fault_that_stays_is_one_sentence_at_once(hub: StandInHub, settings: HubSettings, fault: str) -> None:
    hub.misbehave(fault)
    sentence = complaint(settings)
    assert FINAL[fault] in sentence
    assert sentence.startswith("org/repo:model.Q4_K_M.gguf: ")
    assert len(hub.file_requests()) <= 32


PASSING = ("500", "502", "503", "408", "busy", "closes early", "silent")


@pytest.mark.parametrize("fault", PASSING)
def test_fault_that_passes_is_retried(hub: StandInHub, settings: HubSettings, fault: str) -> None:
    hub.misbehave(fault, times=2)
    with resolve(FILE, settings=settings) as found:
        assert found.tiers()[0].disk_bytes == SMALL.size
    assert len(hub.file_requests()) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("500", "the server fails (HTTP 500)"),
        ("busy", "limits the rate of requests"),
        ("closes early", "connection broke"),
        ("silent", "does not answer in time"),
    ],
)
def test_retries_are_bounded(hub: StandInHub, settings: HubSettings, fault: str, words: str) -> None:
    hub.misbehave(fault)
    sentence = complaint(settings)
    assert words in sentence
    assert "Tried 4 times" in sentence
    assert len(hub.file_requests()) == 4


def test_server_that_is_down_is_not_waited_for_once_a_file(hub: StandInHub, settings: HubSettings) -> None:
    hub.files["org/repo"] = {f"{number}/m-Q4_0.gguf": SMALL for number in range(60)}
    hub.misbehave("500")
    assert "HTTP 500" in complaint(settings, "org/repo")
    assert len(hub.file_requests()) <= 60 + 3 * (1 + 8 + 8)


@pytest.mark.parametrize("fault", ["half", "claims less", "claims more", "ignores range"])
def test_server_that_gives_less_or_more_than_asked_still_serves(
    hub: StandInHub, settings: HubSettings, fault: str
) -> None:
    hub.misbehave(fault, times=3)
    with resolve(FILE, settings=settings) as found:
        assert len(found.tiers()[0].tensors) == 8
        assert found.traffic is not None
        assert found.traffic.fetched_bytes < MIB


def test_header_that_grows_for_ever(hub: StandInHub, settings: HubSettings) -> None:
    endless = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    endless += (
        text("tokens") + ARRAY.to_bytes(4, "little") + STRING.to_bytes(4, "little") + (1 << 20).to_bytes(8, "little")
    )
    endless += ((4000).to_bytes(8, "little") + b"x" * 4000) * (17 << 10)
    hub.files["org/repo"] = {"model.gguf": Blob(endless, 1 << 40)}
    started = time.process_time()
    with resolve("org/repo", settings=settings) as found:
        with pytest.raises(InputError, match="header"):
            found.tiers()
        assert found.traffic is not None
        assert found.traffic.fetched_bytes < 2 * 64 * MIB
    assert time.process_time() - started < 20


def test_endless_answer_is_cut_where_it_stops_making_sense(hub: StandInHub, settings: HubSettings) -> None:
    hub.misbehave("endless")
    assert "not a GGUF file" in complaint(settings)


@pytest.mark.parametrize(
    ("where", "fault", "words"),
    [
        ("/revision/", "401", "may not read it"),
        ("/revision/", "gated", "gated"),
        ("/revision/", "404", "no such repository"),
        ("/revision/", "html", "not its JSON"),
        ("/revision/", "500", "Tried 4 times"),
        ("/tree/", "403", "may not read it"),
        ("/tree/", "html", "not its JSON"),
        ("/tree/", "busy", "Tried 4 times"),
    ],
)
def test_listing_that_fails(hub: StandInHub, settings: HubSettings, where: str, fault: str, words: str) -> None:
    hub.misbehave(fault, where=where)
    assert words in complaint(settings, "org/repo")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("org/absent", "no such repository or file"),
        ("org/repo@nowhere", "no such revision"),
        ("org/repo:absent.gguf", "no file or tier 'absent.gguf'; it has model.Q4_K_M.gguf"),
        ("{url}/org/repo/resolve/main/absent.gguf", "no file or tier 'absent.gguf'"),
        ("http://127.0.0.1:1/model.gguf", "cannot be reached"),
        ("http://user:secret@127.0.0.1:1/model.gguf", "user name or password"),
        ("http://[::1/model.gguf", "address"),
        ("http://127.0.0.1:99999/model.gguf", "address"),
        ("https:///model.gguf", "address"),
        ("http://127.0.0.1/page.html?token=secret", "must end in .gguf"),
    ],
)
def test_names_that_lead_nowhere(hub: StandInHub, settings: HubSettings, target: str, words: str) -> None:
    sentence = complaint(settings, target.replace("{url}", hub.url))
    assert words in sentence
    assert "secret" not in sentence


def test_without_a_token_the_hint_is_to_set_one(hub: StandInHub, tmp_path: Path) -> None:
    hub.token = TOKEN
    assert "set HF_TOKEN" in complaint(HubSettings(endpoint=hub.url, cache=tmp_path), "org/repo")


def test_repository_without_weights(hub: StandInHub, settings: HubSettings) -> None:
    hub.files["org/repo"] = {"README.md": blob(b"hello"), "pytorch_model.bin": blob(b"pickle")}
    assert "holds no .gguf or .safetensors weights" in complaint(settings, "org/repo")


def test_one_bad_file_does_not_hide_the_others(hub: StandInHub, settings: HubSettings) -> None:
    hub.files["org/repo"]["broken.Q8_0.gguf"] = blob(b"GGUF" + b"\xff" * 1000)
    with resolve("org/repo", settings=settings) as found:
        assert [tier.name for tier in found.tiers()] == ["Q4_K_M"]
        broken = found.candidate("Q8_0")
        with pytest.raises(InputError, match="broken"):
            found.tier(broken)


def test_listing_with_rubbish_in_it(hub: StandInHub, settings: HubSettings) -> None:
    hub.files["org/repo"] |= {"../outside.gguf": SMALL, "/etc/passwd.gguf": SMALL, "\x1b[2J.gguf": SMALL}
    with resolve("org/repo", settings=settings) as found:
        assert list(found.files.sizes) == ["model.Q4_K_M.gguf"]


def test_file_shorter_than_announced(hub: StandInHub, settings: HubSettings) -> None:
    """The listing says one size and the storage serves another: said, and nothing is kept."""
    with StandInHub({"org/repo": {"model.Q4_K_M.gguf": Blob(HEAD.data, HEAD.size - 4096)}}) as storage:
        hub.redirect = storage.url
        assert "were announced" in complaint(settings)
    assert settings.cache is not None
    assert not any(HEAD.data[:24] in path.read_bytes() for path in settings.cache.rglob("*") if path.is_file())
