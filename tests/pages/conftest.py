"""One small built site for all tests of this folder, served on loopback, and a real Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from fitcheck.pages import build, single, view
from fitcheck.pages.serve import server_for
from fitcheck.pages.site_inputs import gather
from fitcheck.records import run_index, store
from fitcheck.records.run_index import Index
from fitcheck.verdict.usual_machine import ask

from .records import hostile, link, passed

CARDS = "rtx-4070,rtx-4090,tesla-t4,radeon-rx-7900-xtx,rtx-3050-8gb,rtx-5090"
# every family: many files and modes, text that is read along, a video
MODELS = "sensenova-u1-8b-mot,sensenova-u1-a3b-mot,flux.1-dev,qwen3-8b,wan2.1-t2v-1.3b"
BASE_URL = "https://fitcheck.example/"
CHROMIUM = Path("/usr/bin/chromium")
# Chromium asks its maker's hosts for much at start; a closed network answers none of it
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
)


@dataclass(frozen=True)
class Site:
    root: Path
    url: str
    index: Index

    @property
    def pages(self) -> list[Path]:
        return sorted(self.root.rglob("*.html"))


RESULT = view.place_of(store.document_of(passed())).partition("#")[0]
HOSTILE = view.place_of(hostile()).partition("#")[0]
KINDS = {
    "home": "",
    "models": "check/",
    "model": "check/sensenova-u1-8b-mot/",
    "fits": "check/sensenova-u1-8b-mot/rtx-4090/",
    "tight": "check/sensenova-u1-8b-mot/tesla-t4/",
    "no": "check/sensenova-u1-a3b-mot/rtx-3050-8gb/",
    "unknown": "check/sensenova-u1-8b-mot/radeon-rx-7900-xtx/",
    "pipeline": "check/flux.1-dev/rtx-4090/",
    "language": "check/qwen3-8b/rtx-4070/",
    "video": "check/wan2.1-t2v-1.3b/rtx-5090/",
    "compare": "compare/rtx-4090-vs-rtx-5090/",
    "compares": "compare/",
    "changes": "changes/",
    "missing": "404.html",
    "cards": "cards/",
    "card": "cards/rtx-4070/",
    "results": "results/",
    "result": RESULT,
    "link result": view.place_of(store.document_of(link())).partition("#")[0],
    "accuracy": "accuracy/",
    "method": "method/",
    "contribute": "contribute/",
    "alone": "alone.html",
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    results = folder / "results"
    store.write(results, passed())
    store.write(results, link())
    inputs = gather(results, CARDS, BASE_URL, MODELS)
    out = folder / "out"
    records = (*inputs.records, hostile())
    build.build(replace(inputs, records=records), out)
    asked = ask(inputs.models[1], inputs.cards[0])
    single.write(asked.report(), out / "alone.html", asked.command())
    with server_for(out) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(out, f"http://127.0.0.1:{server.server_address[1]}/", run_index.build(records))
        server.shutdown()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Gone with the last test of this folder: while it lives an event loop runs, and nobody else can start one."""
    assert CHROMIUM.is_file(), "Chromium is missing: install Debian's package, `apt-get install chromium`."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()
