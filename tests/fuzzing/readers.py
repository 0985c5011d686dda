"""Every reader of what comes from outside, with sound input to begin from. ``case`` makes an input, ``read`` reads it
and may raise InputError alone."""

from __future__ import annotations

import functools
import json
import os
import random
import socketserver
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "models"))

from model_readers import (
    CONFIG,
    INDEX,
    config_case,
    gguf_case,
    pipeline_case,
    read_config,
    read_gguf,
    read_index,
    read_lora,
    read_pipeline,
    read_safetensors,
    safetensors_case,
)
from mutations import VALUES, damaged, damaged_json, damaged_text
from reading import CAPTURES, Reader, check

from fitcheck.errors import InputError
from fitcheck.records import store

# ---- records and what is made of them


@functools.cache
def records() -> Sequence[Any]:
    return [json.loads(path.read_bytes()) for path in store.record_files(ROOT / "results")]


def record_case(chance: random.Random) -> bytes:
    raw = damaged_json(chance, chance.choice(records()))
    try:
        document = json.loads(raw)
        document["id"] = store.document_id(document)
        return store.canonical(document) + b"\n"
    except Exception:  # what cannot be sealed is read as it is
        return raw


def read_record(data: bytes, room: Path) -> None:
    from fitcheck.records import run_index
    from fitcheck.records.validate import check_record

    parsed, _ = check_record(data, 1_800_000_000.0)
    if parsed is not None:
        run_index.pack(run_index.build([parsed.document], own=True))


def read_tree(data: bytes, room: Path) -> None:
    from fitcheck.records import query

    (room / "results" / "c" / "m").mkdir(parents=True)
    (room / "results" / "c" / "m" / "x.json").write_bytes(data)
    found = query.run(query.open_records(room / "results", refused=[]), "SELECT * EXCLUDE (document) FROM records")
    json.dumps(query.rows(found), default=str)


@functools.cache
def captures(*endings: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(CAPTURES.iterdir()) if path.name.endswith(endings)]


def import_case(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        seeds = [one for one in captures(".json") if one.lstrip()[:1] in (b"[", b"{")]
        return damaged_json(chance, json.loads(chance.choice(seeds)))
    return damaged_text(chance, captures("") if chance.random() < 0.2 else captures(".csv", ".md", ".jsonl", ".txt"))


def read_import(data: bytes, room: Path) -> None:
    from dataclasses import replace

    from fitcheck.records.importers import optimum_benchmark
    from fitcheck.records.importers.common import Given
    from fitcheck.runtimes.llamacpp import llama_bench
    from fitcheck.runtimes.sensenova import profile_text

    given = Given(file_time=1_790_000_000, model="m", tier="Q4_K_M", card="RTX 4070", created=1_780_000_000)
    pictures = replace(given, model="sensenova-u1-8b-mot", task="t2i", steps=50, mode="low", revision="pr243")
    for reader, what in ((llama_bench.read, given), (optimum_benchmark.read, given), (profile_text.read, pictures)):
        try:
            for one in reader(data, "hostile", what):
                store.encode(one.record)
        except InputError as error:
            one_sentence(error)


def one_sentence(error: InputError) -> None:
    """What a person reads is one line without control characters, once the command line has printed it."""
    assert str(error).strip(), "an error without words"


# ---- what sites, prices, decisions and series are read from


@functools.cache
def manifest() -> bytes:
    home = {"key": "a" * 24, "pages": {"": "c" * 24}, "files": ["index.html"]}
    return json.dumps({"schema": "fitcheck.site/4", "base_url": "https://x", "models": "a,b", "cards": "c",
                       "grid": ["c"], "verdicts": {"a": "f"}, "running": {"c": ["d", [{"ram": None, "fits": 1}]]},
                       "log": [], "lists": {"home": home}, "parts": {"a": "b" * 24},
                       "files": {"index.html": "b" * 24}}).encode()  # fmt: skip


def read_manifest(data: bytes, room: Path) -> None:
    from fitcheck.pages.kept_site import kept_site, said_of
    from fitcheck.pages.site_folder import MANIFEST

    (room / MANIFEST).write_bytes(data)
    (room / "index.html").write_text("x")
    said_of(room)
    with suppress(KeyError, TypeError, ValueError, AttributeError):  # what ``build`` takes as a sign to make all anew
        old = kept_site(room)
        old.intact("index.html")
        sorted(set(old.files))


PRICES = [b"card,usd,date\nRTX 4070,549,2026-11-01\nRTX 4090,1599.00,2026-10-01\n", b"usd,card\n$700,RTX 3090\n"]


def prices_case(chance: random.Random) -> bytes:
    return damaged_text(chance, PRICES)


def read_prices(data: bytes, room: Path) -> None:
    from fitcheck.hardware.catalog import find_card
    from fitcheck.hardware.prices import priced, read_prices

    (room / "prices.csv").write_bytes(data)
    priced(find_card("RTX 4070"), read_prices(room / "prices.csv"))


KEPT = [
    b'[[pinned]]\nseries = "a"\nrecords = ["03e33515a2df"]\nreason = "x"\n\n[[acknowledged]]\nseries = "a"\n'
    b'metric = "seconds"\nreason = "x"\nuntil = 2027-01-01\nat_most = 0.2\n'
]


def read_kept(data: bytes, room: Path) -> None:
    from fitcheck.records.regressions.kept import read_kept

    (room / "kept.toml").write_bytes(data)
    read_kept(room / "kept.toml")


# ---- a hub

TREE = [{"type": "file", "path": "m.gguf", "size": 4096, "oid": "a" * 40},
        {"type": "file", "path": "config.json", "size": 100, "oid": "b" * 40, "lfs": {"oid": "c" * 64, "size": 100}},
        {"type": "directory", "path": "x", "oid": "d"}]  # fmt: skip
HEADERS = [b"Retry-After: 99999999999", b"Content-Encoding: gzip", b"Content-Length: -1", b"Transfer-Encoding: chunked",
           b"Content-Range: bytes 5-9/99999999999999999999", b"Link: <x>; rel=\"next\"", b"Location: //", b"ETag: \xff",
           b"X-Error-Code: GatedRepo", b"X: " + b"a" * 70000, b"Content-Type: text/html", b"\x00"]  # fmt: skip


def hub_case(chance: random.Random) -> bytes:
    body = damaged_json(chance, chance.choice([{"sha": "0" * 40}, TREE, TREE, CONFIG]))
    status = chance.choice(
        [b"200 OK", b"200 OK", b"206 P", b"302 F", b"404 N", b"416 X", b"304 X", b"999 X", b"000 X", b"20"]
    )
    head = [
        b"HTTP/1.1 " + status,
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    head[1:1] = chance.sample(HEADERS, chance.choice([0, 0, 1, 2]))
    answer = b"\r\n".join(head) + b"\r\n\r\n" + body
    return damaged(chance, [answer]) if chance.random() < 0.3 else answer


class _Hub(socketserver.StreamRequestHandler):
    answer = b""
    asked = 0

    def handle(self) -> None:
        try:
            first = self.rfile.readline(70000)
            while self.rfile.readline(70000).strip():
                pass
            type(self).asked += 1
            sound = b'{"sha": "' + b"0" * 40 + b'"}'
            plain = b"/revision/" in first and not self.answer.endswith(b"}")
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(sound) + sound
                if plain else self.answer
            )  # fmt: skip
        except OSError:
            pass


@functools.cache
def hub_address() -> str:
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Hub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def read_hub(data: bytes, room: Path) -> None:
    import tenacity

    tenacity.nap.time.sleep = lambda seconds: None  # type: ignore[attr-defined]  # waits cost nothing here
    os.environ |= {"HF_ENDPOINT": hub_address(), "FITCHECK_CACHE": str(room / "cache"), "HF_HUB_OFFLINE": "0"}
    _Hub.answer = data
    check("org/repo", offline=False)


READERS = [
    Reader("gguf", gguf_case, read_gguf),
    Reader("safetensors", safetensors_case, read_safetensors),
    Reader("config", config_case, read_config),
    Reader("index", lambda chance: damaged_json(chance, INDEX, ["model-00001-of-00002.safetensors"]), read_index),
    Reader("pipeline", pipeline_case, read_pipeline),
    Reader("lora", safetensors_case, read_lora),
    Reader("record", record_case, read_record),
    Reader("records-tree", record_case, read_tree, room=4 << 30),
    Reader("import", import_case, read_import),
    Reader("manifest", lambda chance: damaged_json(chance, json.loads(manifest())), read_manifest),
    Reader("prices", prices_case, read_prices),
    Reader("kept", lambda chance: damaged_text(chance, KEPT), read_kept),
    Reader("hub", hub_case, read_hub),
]
assert VALUES, "what JSON is damaged with"
