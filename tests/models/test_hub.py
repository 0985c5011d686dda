"""Header reads from a hub: few bytes, few requests, a cache, and a token that stays with its hub."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf_files import STRING, Head, array, gguf, language_model, pair, small_model
from standin_hub import COMMIT, Blob, StandInHub, blob

from fitcheck.errors import InputError
from fitcheck.models.gguf import GgufHeader, parse_gguf
from fitcheck.models.hub import HubName, HubSettings, parse_hub_name, parse_hub_url
from fitcheck.models.hub.cache import DiskCache
from fitcheck.models.resolve import resolve
from fitcheck.units import KIB, MIB

TOKEN = "hf_aVerySecretTokenOfTheUser"  # the tests look for it everywhere it must not be


def as_blob(head: Head) -> Blob:
    return Blob(head.data, head.size)


SMALL = as_blob(small_model())


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with StandInHub(
        {"org/repo": {"model.Q4_K_M.gguf": SMALL, "config.json": blob(b'{"model_type": "llama"}')}}
    ) as served:
        yield served


@pytest.fixture
def settings(hub: StandInHub, tmp_path: Path) -> HubSettings:
    return HubSettings(endpoint=hub.url, cache=tmp_path / "cache", first_wait=0.001, timeout=1.0)


def test_repository_gives_its_tiers(hub: StandInHub, settings: HubSettings) -> None:
    with resolve("org/repo", settings=settings) as found:
        assert (found.kind, found.repository, found.revision) == ("hub", "org/repo", COMMIT)
        assert [(c.name, c.format, c.disk_bytes) for c in found.candidates] == [("Q4_K_M", "gguf", SMALL.size)]
        (tier,) = found.tiers()
        assert found.config() == {"model_type": "llama"}
        assert found.traffic is not None
        assert found.traffic.requests == len(hub.requests)
        assert 0 < found.traffic.fetched_bytes < 300 * KIB
    assert (tier.name, tier.repository, tier.file, tier.disk_bytes) == (
        "Q4_K_M",
        "org/repo",
        "model.Q4_K_M.gguf",
        SMALL.size,
    )
    assert len(tier.tensors) == 8
    assert tier.local_path is None


@pytest.mark.parametrize(
    "target",
    [
        "org/repo:model.Q4_K_M.gguf",
        "org/repo@main:model.Q4_K_M.gguf",
        f"org/repo@{COMMIT}:model.Q4_K_M.gguf",
        "org/repo@refs/pr/1:model.Q4_K_M.gguf",
        "org/repo:q4_k_m",
        "{url}/org/repo/resolve/main/model.Q4_K_M.gguf",
        "{url}/org/repo/blob/main/model.Q4_K_M.gguf?download=true",
        "{url}/org/repo",
        "{url}/org/repo/tree/main",
    ],
)
def test_ways_to_name_a_file(hub: StandInHub, settings: HubSettings, target: str) -> None:
    with resolve(target.replace("{url}", hub.url), settings=settings) as found:
        assert found.kind == "hub"
        assert found.tiers()[0].disk_bytes == SMALL.size


def test_names_with_slashes_and_unicode(hub: StandInHub, settings: HubSettings) -> None:
    path = "Größe Q8/модель 模型 #1 50%?-Q8_0.gguf"
    hub.files["org/repo"] = {path: SMALL}
    for target in (f"org/repo:{path}", "org/repo"):
        with resolve(target, settings=settings) as found:
            assert found.tiers()[0].file == path


def test_second_run_fetches_no_header(hub: StandInHub, settings: HubSettings) -> None:
    for expected in (1, 0):
        hub.requests.clear()
        with resolve("org/repo", settings=settings) as found:
            digest = found.tiers()[0].tensors.digest
        assert len(hub.file_requests()) == expected
    assert digest == parse_gguf_digest()


def parse_gguf_digest() -> str:
    class Whole:
        name, size = "whole", SMALL.size

        def read(self, offset: int, length: int) -> bytes:
            return SMALL.part(offset, offset + length)

    return parse_gguf(Whole()).tensors.digest


def test_changed_contents_are_fetched_again(hub: StandInHub, settings: HubSettings) -> None:
    with resolve("org/repo:model.Q4_K_M.gguf", settings=settings) as found:
        assert found.tiers()[0].disk_bytes == SMALL.size
    other = as_blob(language_model(2, 256, 256, 256, 300, 0))
    hub.files["org/repo"]["model.Q4_K_M.gguf"] = other
    hub.commit = "f" * 40
    with resolve("org/repo:model.Q4_K_M.gguf", settings=settings) as found:
        assert found.tiers()[0].disk_bytes == other.size
    with resolve(f"org/repo@{COMMIT}:model.Q4_K_M.gguf", settings=settings) as found:
        assert found.tiers()[0].disk_bytes == SMALL.size


def test_offline_uses_the_cache_alone(hub: StandInHub, settings: HubSettings) -> None:
    offline = HubSettings(endpoint=hub.url, cache=settings.cache, offline=True)
    with pytest.raises(InputError, match="without --offline"):
        resolve("org/repo", settings=offline)
    assert hub.requests == []
    with resolve("org/repo", settings=settings) as found:
        digest = found.tiers()[0].tensors.digest
    hub.requests.clear()
    with resolve("org/repo", settings=offline) as found:
        assert found.tiers()[0].tensors.digest == digest
        with pytest.raises(InputError, match="without --offline"):
            found.config()
    assert hub.requests == []


def test_damaged_cache_is_fetched_again(hub: StandInHub, settings: HubSettings) -> None:
    with resolve("org/repo", settings=settings) as found:
        digest = found.tiers()[0].tensors.digest
    assert settings.cache is not None
    entries = [path for path in settings.cache.rglob("*") if path.is_file()]
    assert len(entries) == 3
    sound = [path.read_bytes() for path in entries]
    for damage in (b"", b"\0" * 50, b"[" * 100_000, *(data[:-1] for data in sound)):
        for path in entries:
            path.write_bytes(damage)
        with resolve("org/repo", settings=settings) as found:
            assert found.tiers()[0].tensors.digest == digest


def test_unwritable_cache_is_no_error(hub: StandInHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    with resolve("org/repo", settings=HubSettings(endpoint=hub.url, cache=tmp_path / "file")) as found:
        assert found.tiers()


def test_cache_is_pruned_and_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fitcheck.models.hub.cache._KEPT_BYTES", 2500)
    cache = DiskCache(tmp_path)
    for number in range(5):
        cache.store((str(number),), b"x" * 1000)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert not [path for path in kept if path.name.startswith("writing-")]
    assert cache.load(("4",)) == b"x" * 1000
    assert DiskCache(None).load(("4",)) is None


def test_token_goes_to_the_hub_and_nowhere_else(hub: StandInHub, settings: HubSettings) -> None:
    hub.token = TOKEN
    with StandInHub({"org/repo": dict(hub.files["org/repo"])}) as storage:
        hub.redirect = storage.url
        with_token = HubSettings(endpoint=hub.url, cache=settings.cache, token=TOKEN)
        with resolve("org/repo", settings=with_token) as found:
            assert found.tiers()
        assert len(storage.requests) == 1
        assert all(request.authorization == f"Bearer {TOKEN}" for request in hub.requests)
        assert all(request.authorization is None for request in storage.requests)
        with resolve(f"{storage.url}/org/repo/resolve/main/model.Q4_K_M.gguf", settings=with_token) as found:
            assert found.kind == "url"
            assert found.tiers()
        assert all(request.authorization is None for request in storage.requests)
    assert settings.cache is not None
    for path in settings.cache.rglob("*"):
        assert TOKEN not in str(path)
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()
    assert TOKEN not in repr(with_token)


def test_storage_address_is_used_again_until_it_expires(hub: StandInHub, settings: HubSettings, dense_7b: Head) -> None:
    hub.files["org/repo"] = {"model-Q4_K_M.gguf": as_blob(dense_7b)}
    with StandInHub({"org/repo": dict(hub.files["org/repo"])}) as storage:
        hub.redirect = storage.url
        storage.expire_after = 4
        with resolve("org/repo", settings=settings) as found:
            assert_same_as_a_full_read(found.header(found.candidates[0]), dense_7b)
        reads = len(storage.file_requests())
    assert reads > 6
    assert len(hub.file_requests()) == 2


def test_url_is_cached_by_its_etag(hub: StandInHub, settings: HubSettings) -> None:
    storage = StandInHub({"org/repo": dict(hub.files["org/repo"])})
    with storage:
        url = f"{storage.url}/org/repo/resolve/main/model.Q4_K_M.gguf?token=signed-secret"
        for run in range(2):
            storage.requests.clear()
            with resolve(url, settings=settings) as found:
                assert found.tiers()[0].disk_bytes == SMALL.size
                assert "signed-secret" not in found.name
                assert found.traffic is not None
                assert found.traffic.fetched_bytes == (0 if run else found.traffic.fetched_bytes)
            assert len(storage.requests) == 1
        other = as_blob(language_model(2, 256, 256, 256, 300, 0))
        storage.files["org/repo"]["model.Q4_K_M.gguf"] = other
        with resolve(url, settings=settings) as found:
            assert found.tiers()[0].disk_bytes == other.size


def test_repository_of_300_files_over_many_pages(hub: StandInHub, settings: HubSettings) -> None:
    hub.page_size = 37
    hub.files["org/repo"] = {f"part{number}/model-Q4_K_M.gguf": SMALL for number in range(300)}
    with resolve("org/repo", settings=settings) as found:
        assert len(found.candidates) == 300
        assert len({candidate.name for candidate in found.candidates}) == 300
        assert len(hub.requests) == 1 + -(-301 // 37)
        assert len(found.tiers(found.candidates[:20])) == 20


def test_files_are_read_a_few_at_a_time(hub: StandInHub, settings: HubSettings) -> None:
    hub.files["org/repo"] = {f"part{number}/model-Q4_K_M.gguf": SMALL for number in range(30)}
    hub.delay = 0.02
    with resolve("org/repo", settings=settings) as found:
        assert len(found.tiers()) == 30
    assert 2 <= hub.most_at_once <= 8


def test_plain_reading_imports_no_network_library() -> None:
    """A local file is read without httpx, numpy or the gguf package: they would cost more than the reading."""
    script = (
        "import sys; from fitcheck.models.resolve import resolve; from fitcheck.models.hub import HubSettings; "
        "print(sorted({'httpx', 'tenacity', 'numpy', 'gguf', 'platformdirs', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_listing_that_leads_to_another_server_is_refused(hub: StandInHub, settings: HubSettings) -> None:
    with StandInHub({"org/repo": {}}) as other:
        hub.page_size, hub.next_pages_at = 1, other.url
        with pytest.raises(InputError, match="another server"):
            resolve("org/repo", settings=settings)
        assert other.requests == []


def test_siblings_of_a_repository_share_their_token_lists(hub: StandInHub, settings: HubSettings) -> None:
    """The second and later tiers of a 150,000-token repository are read without their token lists."""
    labels = ("Q4_K", "Q5_K", "Q6_K", "Q8_0")
    made = {label: as_blob(language_model(4, 1024, 2048, 256, 60_000, 50_000, type_name=label)) for label in labels}
    hub.files["org/repo"] = {f"model.{label}.gguf": head for label, head in made.items()}
    with resolve("org/repo", settings=settings) as found:
        first = found.tiers(found.candidates[:1])
        assert found.traffic is not None
        fetched = found.traffic.fetched_bytes
        rest = found.tiers()
        assert found.traffic.fetched_bytes - fetched < 3 * 900 * KIB
    assert first[0].tensors.digest == rest[0].tensors.digest
    assert [tier.tensors.bytes_by_type.keys() >= {tier.name} for tier in rest] == [True] * 4
    assert {len(tier.tensors) for tier in rest} == {4 * 9 + 3}


@pytest.fixture(scope="module")
def dense_7b() -> Head:
    """A Qwen2.5-7B-class header: 5 MB, of which the two token lists take 4.4 MB."""
    return language_model(28, 3584, 18944, 512, 151_936, 151_387)


def test_dense_7b_takes_less_than_3_mb(hub: StandInHub, settings: HubSettings, dense_7b: Head) -> None:
    assert len(dense_7b.data) > 4_500_000
    hub.files["org/repo"] = {"model-Q4_K_M.gguf": as_blob(dense_7b)}
    with resolve("org/repo", settings=settings) as found:
        header = found.header(found.candidates[0])
        assert found.traffic is not None
        assert found.traffic.fetched_bytes < 3_000_000
    assert_same_as_a_full_read(header, dense_7b)


def assert_same_as_a_full_read(header: object, head: Head) -> None:
    class Whole:
        name, size = "whole", head.size

        def read(self, offset: int, length: int) -> bytes:
            return as_blob(head).part(offset, offset + length)

    full = parse_gguf(Whole())
    assert isinstance(header, GgufHeader)
    assert header.tensors.digest == full.tensors.digest
    assert dict(header.metadata) == dict(full.metadata)
    assert (header.data_offset, header.file_bytes) == (full.data_offset, full.file_bytes)


@pytest.mark.parametrize("decoy", ["tokenizer.ggml.eos_token_id", "general.name"])
def test_leap_that_loses_its_way_is_read_in_full(hub: StandInHub, settings: HubSettings, decoy: str) -> None:
    """Tokens that look like metadata keys, lists that end without one, shrinking tokens: the result is the same."""
    tokens = [f"token{number}" * (3 if number < 40_000 else 1) for number in range(120_000)]
    tokens[110_000:110_002] = [decoy, "\x04\0\0\0\0\0\0\0"]
    head = gguf(
        [pair("general.architecture", STRING, "llama"), array("tokenizer.ggml.tokens", STRING, tokens)],
        [("token_embd.weight", (256, 256), "Q4_K"), ("blk.0.attn_q.weight", (256, 256), "Q4_K")],
    )
    hub.files["org/repo"] = {"model.gguf": as_blob(head)}
    with resolve("org/repo", settings=settings) as found:
        assert_same_as_a_full_read(found.header(found.candidates[0]), head)


def test_remote_checkpoint_with_shards(hub: StandInHub, settings: HubSettings) -> None:
    def shard(name: str, count: int) -> Blob:
        raw = json.dumps({name: {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}).encode()
        return Blob(len(raw).to_bytes(8, "little") + raw, 8 + len(raw) + 2 * count)

    names = [f"model-{number:05d}-of-00012.safetensors" for number in range(1, 13)]
    files = {name: shard(f"model.layers.{number}.mlp.up_proj.weight", 10**9) for number, name in enumerate(names)}
    index = {f"model.layers.{number}.mlp.up_proj.weight": name for number, name in enumerate(names)}
    hub.files["org/repo"] = files | {"model.safetensors.index.json": blob(json.dumps({"weight_map": index}).encode())}
    with resolve("org/repo", settings=settings) as found:
        (tier,) = found.tiers()
        assert found.traffic is not None
        assert found.traffic.fetched_bytes < 2 * MIB
    assert (tier.name, len(tier.tensors), tier.tensors.nbytes) == ("BF16", 12, 24 * 10**9)
    assert tier.disk_bytes == sum(file.size for file in files.values())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("org/repo", HubName("org/repo")),
        ("org/repo@v1.0", HubName("org/repo", "v1.0")),
        ("org/repo@refs/pr/3:a/b c.gguf", HubName("org/repo", "refs/pr/3", "a/b c.gguf")),
        ("org/repo:Q4_K_M", HubName("org/repo", "main", "Q4_K_M")),
        ("repo", None),
        ("a/b/c", None),
        ("org/", None),
        ("-org/repo", None),
        ("org/model.gguf", None),
    ],
)
def test_hub_names(text: str, parts: HubName | None) -> None:
    assert parse_hub_name(text) == parts


@pytest.mark.parametrize(
    "text", ["org/repo:", "org/repo@", "org/repo:../x.gguf", "org/repo:/etc/passwd", "org/repo@a//b"]
)
def test_hub_names_that_lead_astray(text: str) -> None:
    with pytest.raises(InputError, match="not usable"):
        parse_hub_name(text)


def test_hub_addresses() -> None:
    endpoint = "https://huggingface.co"
    assert parse_hub_url(f"{endpoint}/org/repo", endpoint) == HubName("org/repo")
    assert parse_hub_url("https://hf.co/org/repo/blob/main/a/b.gguf", endpoint) == HubName(
        "org/repo", "main", "a/b.gguf"
    )
    assert parse_hub_url(f"{endpoint}/org/repo/resolve/v1/x%20y.gguf", endpoint) == HubName(
        "org/repo", "v1", "x y.gguf"
    )
    assert parse_hub_url("https://example.org/org/repo", endpoint) is None
    assert parse_hub_url(f"{endpoint}/org/repo/resolve/main/../../x", endpoint) is None


def test_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    read = HubSettings.from_environment
    assert read(environment={"HF_HOME": str(tmp_path)}).token == TOKEN
    assert read(environment={"HF_TOKEN_PATH": str(tmp_path / "token")}).token == TOKEN
    assert read(environment={"HF_TOKEN": " hf_x \n", "HF_HOME": str(tmp_path)}).token == "hf_x"
    assert read(environment={"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}).token is None
    assert read(environment={"HF_HOME": str(tmp_path / "none")}).token is None
    assert (
        read(environment={"HF_ENDPOINT": "http://127.0.0.1:9/hub/", "HF_HOME": "/none"}).endpoint
        == "http://127.0.0.1:9/hub"
    )
    assert read(environment={"HF_HUB_OFFLINE": "1", "HF_HOME": "/none"}).offline
    assert read(offline=True, environment={"HF_HOME": "/none"}).offline
    assert read(environment={"FITCHECK_CACHE": "/x", "HF_HOME": "/none"}).cache == Path("/x")
    for endpoint in ("ftp://x", "huggingface.co", "https://user:secret@x", "https://x?token=secret"):
        with pytest.raises(InputError) as raised:
            read(environment={"HF_ENDPOINT": endpoint, "HF_HOME": "/none"})
        assert "secret" not in str(raised.value)
    with pytest.raises(InputError) as raised:
        read(environment={"HF_TOKEN": "hf_bad token\nX-Header: 1"})
    assert "bad" not in str(raised.value)
