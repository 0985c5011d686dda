"""A site's folder, its manifest and its readers are not trusted: nothing is written or served beyond the site."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fitcheck.errors import InputError
from fitcheck.pages import build as builder
from fitcheck.pages import pairs
from fitcheck.pages.checking import check
from fitcheck.pages.serve import server_for
from fitcheck.pages.site_folder import MANIFEST, hash_bytes
from fitcheck.pages.site_inputs import Inputs, gather


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, Path, dict[str, bytes]]:
    inputs, out = gather(None, "rtx-4070"), tmp_path_factory.mktemp("small") / "out"
    builder.build(inputs, out, jobs=1)
    return inputs, out, files(out)


def _spoiled(manifest: Any, how: str) -> Any:
    model, home = next(iter(manifest["verdicts"])), manifest["lists"]["home"]
    if how == "a list is a list":
        manifest["lists"]["home"] = []
    elif how == "a verdict is a number":
        manifest["verdicts"][model] = 5
    elif how == "a verdict is none":
        manifest["verdicts"][model] = "x"
    elif how == "the log holds words":
        manifest["log"] = ["new"]
    elif how == "a key is missing":
        del home["key"]
    elif how == "a file is not listed":
        del manifest["files"]["index.html"]
    elif how == "files is a list":
        manifest["files"] = sorted(manifest["files"])
    elif how == "a hash is null":
        manifest["files"]["index.html"] = None
    elif how == "another schema":
        manifest["schema"] = "fitcheck.site/0"
    return manifest


DAMAGES = (
    *("a list is a list", "a verdict is a number", "a verdict is none", "the log holds words", "a key is missing"),
    *("files is a list", "a file is not listed", "a hash is null", "another schema"),
)


@pytest.mark.parametrize("how", [*DAMAGES, "nested", "not text", "half"])
def test_a_damaged_manifest_is_built_over(how: str, small: tuple[Inputs, Path, dict[str, bytes]]) -> None:
    inputs, out, before = small
    manifest = out / MANIFEST
    whole = manifest.read_bytes()
    (out / "index.html").write_text("stale")
    raw = {"nested": b"[" * 100_000, "not text": b"\xff\xfe", "half": whole[: len(whole) // 2]}
    manifest.write_bytes(raw.get(how) or json.dumps(_spoiled(json.loads(whole), how)).encode())
    builder.build(inputs, out, jobs=1)
    assert files(out) == before


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema":"fitcheck.pairs/2"}', b"[" * 100_000])
def test_damaged_rows_are_made_again_even_where_the_manifest_vouches_for_them(
    content: bytes, small: tuple[Inputs, Path, dict[str, bytes]]
) -> None:
    inputs, out, before = small
    path = pairs.path_of(inputs.models[0].slug)
    (out / path).write_bytes(content)
    manifest = json.loads((out / MANIFEST).read_bytes())
    manifest["parts"][inputs.models[0].slug] = hash_bytes(content)
    (out / MANIFEST).write_text(json.dumps(manifest))
    assert check(inputs, out).stale
    assert builder.build(inputs, out, jobs=1).documents == len(inputs.cards)
    assert files(out) == before


def test_what_a_killed_build_left_is_swept(small: tuple[Inputs, Path, dict[str, bytes]]) -> None:
    inputs, out, before = small
    (out / ".check~index.html.tmp").write_text("half")
    assert check(inputs, out).strays == [".check~index.html.tmp"]
    builder.build(inputs, out, jobs=1)
    assert files(out) == before
    assert not check(inputs, out).strays


def test_a_site_is_written_to_its_own_folder_alone(tmp_path: Path) -> None:
    inputs, out, elsewhere = gather(None, "rtx-4070"), tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    (out / MANIFEST).write_text("{}")
    (out / "static").symlink_to(elsewhere)
    with pytest.raises(InputError, match="link out of"):
        builder.build(inputs, out, jobs=1)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/", "localhost:8000", 200),
        ("/static/site.css", "127.0.0.1", 200),
        ("/", "evil.example", 421),
        ("/link.txt", "localhost", 404),
        ("/outside/secret.txt", "localhost", 404),
        ("/.env", "localhost", 404),
        ("/static/", "localhost", 404),
        ("/pipe", "localhost", 404),
        ("/%00", "localhost", 404),
        ("/..%2fsecret.txt", "localhost", 404),
    ],
)
def test_only_pages_are_served_and_only_to_this_machine(path: str, host: str, status: int, served: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served, timeout=5)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    assert (answer.status, b"secret" in answer.read()) == (status, False)


@pytest.fixture(scope="module")
def served(small: tuple[Inputs, Path, dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    there = tmp_path_factory.mktemp("served")
    (there / "secret.txt").write_text("secret")
    site = shutil.copytree(small[1], there / "site")
    (site / "link.txt").symlink_to(there / "secret.txt")
    (site / "outside").symlink_to(there)
    (site / ".env").write_text("secret")
    os.mkfifo(site / "pipe")
    with server_for(site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
