"""Lists that one page cannot hold: parts of an even length, light pages, and a filter that reaches every part."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from fitcheck.hardware.catalog import all_cards, find_card
from fitcheck.models import catalog
from fitcheck.pages import list_parts, pairs
from fitcheck.pages.build import running_of
from fitcheck.pages.kept_site import KeptSite
from fitcheck.pages.other_sizes import MEMORY
from fitcheck.pages.page import files_of
from fitcheck.pages.pairs import PairRow, PairsFile
from fitcheck.pages.render import static
from fitcheck.pages.serve import server_for
from fitcheck.pages.site_inputs import LOCAL_URL, Inputs
from fitcheck.pages.site_lists import STATIC, SiteLists
from fitcheck.pages.site_plan import Page
from fitcheck.pages.site_rows import SiteRows

BASE_URL = "https://fitcheck.example/"
# what a page may weigh with its picture, style and script is 120 kB: those take some 60
LIGHT = 60_000
SPAN = {"low": 100.0, "best": 150.0, "high": 200.0}
ANSWER = {"verdict": "fits", "tier": "Q4_K_M", "mode": "ngl 99", "need": 1 << 33, "host": 1 << 33}
ANSWER |= {"seconds": SPAN, "pace": SPAN, "change": None, "price_usd_per": 4.5}


def inputs_of(models: int, cards: int, base_url: str = BASE_URL) -> Inputs:
    """So many models and cards of each, and no record."""
    found = tuple(card for card in all_cards() if card.memory and not card.unified_memory)[:cards]
    chosen = dict.fromkeys((*found, find_card("rtx-3090"), find_card("rtx-4090")))
    return Inputs(tuple(map(catalog.get, catalog.slugs()[:models])), tuple(chosen), (), (), base_url, "", "")


def pages_of(inputs: Inputs, *names: str) -> list[Page]:
    """The pages of the lists that are called so, of a site where every pair has one answer."""
    rows, nothing = SiteRows(inputs, files_of_models(inputs)), KeptSite(Path(os.devnull), {})
    lists = SiteLists(inputs, rows, running_of(inputs, rows, nothing), [])
    chosen = [one for one in lists.all() if any(fnmatchcase(one.name, name) for name in names)]
    return [page for one in chosen for page in one.make() if isinstance(page, Page)]


def files_of_models(inputs: Inputs) -> dict[str, PairsFile]:
    """The same answer for every pair."""
    found = {}
    for model in inputs.models:
        task = str(model.tasks[0])
        beside = [{"task": task, "ram": size, **ANSWER} for size in MEMORY]
        asked = {"task": task, "width": 1024, "height": 1024, "frames": None, "context": 8192, "ram": 1 << 35}
        rest = {"usable_span": None, "published": True, "runtime": "llama.cpp", "evidence": "estimated", "records": 0}
        answer = {**asked, **ANSWER, **rest, "way_out": None, "by_memory": beside, "software": []}
        own = {card.slug: PairRow("", {**pairs.given(model, card), **answer}) for card in inputs.cards}
        found[model.slug] = PairsFile.of(model, inputs.cards, pairs.encode("", own))
    return found


def test_parts_are_even_hold_every_row_once_and_lead_to_each_other() -> None:
    rows = [{"name": f"card {number}"} for number in range(130)]
    parts = list_parts.parts_of(rows, "cards/", 60)
    assert [len(part.rows) for part in parts] == [43, 43, 44]
    assert [row for part in parts for row in part.rows] == rows
    assert [part.address("cards/") for part in parts] == ["cards/", "cards/page-2/", "cards/page-3/"]
    assert [part.titled("Cards") for part in parts] == ["Cards", "Cards (part 2 of 3)", "Cards (part 3 of 3)"]
    links = parts[1].values["several"]
    assert [one["here"] for one in links] == [False, True, False]
    assert (links[2]["address"], links[2]["first"], links[2]["last"]) == ("cards/page-3/", "card 86", "card 129")


def test_what_one_page_holds_stays_one_page() -> None:
    (part,) = list_parts.parts_of([{"name": "a"}] * 60, "cards/", 60)
    assert (part.address("cards/"), part.titled("Cards"), part.values) == ("cards/", "Cards", {"first": True})


@pytest.fixture(scope="module")
def large() -> list[Page]:
    """The lists of a few models on 300 cards, and of 150 models on a few cards."""
    wide, long = inputs_of(2, 300), inputs_of(150, 1)
    return [*pages_of(wide, "home", "check/*", "cards/"), *pages_of(long, "cards/*/", "compare/*")]


def test_every_page_of_a_large_site_is_light(large: list[Page]) -> None:
    seen = {page.address for page in large}
    for page in large:
        if page.picture:  # the others are further parts of these
            (html,) = (made for path, made in files_of(page, LOCAL_URL).items() if path.endswith(".html"))
            assert len(html) <= LIGHT, (page.address, len(html))
    model = catalog.slugs()[0]
    assert {f"check/{model}/", f"check/{model}/page-2/", "cards/page-2/"} <= seen
    assert "compare/rtx-3090-vs-rtx-4090/page-2/" in seen


def test_parts_of_a_card_hold_every_model_once_for_each_purpose(large: list[Page]) -> None:
    pages = [page for page in large if page.address.startswith("cards/rtx-4090/")]
    shown = [
        (purpose["name"], row["model"])
        for page in pages
        for purpose in page.document["purposes"]
        for row in purpose["rows"]
    ]
    assert len(pages) > 1
    assert len(shown) == len(set(shown)) >= 150
    first = {purpose["name"] for purpose in pages[0].document["purposes"]}
    assert first == {name for name, _ in shown}  # a purpose that is asked for stands on the first page


def test_a_table_of_more_cells_than_a_page_holds_gives_way_to_a_row_for_each_model() -> None:
    inputs = inputs_of(3, 300)
    page = next(one for one in pages_of(inputs, "check/") if one.address == "check/")
    assert page.document["rows"] == []
    html = files_of(page, LOCAL_URL)["check/index.html"].decode()
    assert html.count("<tr><th scope=row>") == 3
    assert html.count(f"</span> of {len(inputs.cards)}") == 3


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Inputs]]:
    """The parts of a model's page on loopback."""
    inputs = inputs_of(1, 150, LOCAL_URL)
    for page in pages_of(inputs, "home", "check/*"):
        for path, content in files_of(page, LOCAL_URL).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
    (tmp_path / "static").mkdir()
    for name in STATIC:
        (tmp_path / "static" / name).write_text(static(name), "utf-8")
    with server_for(tmp_path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", inputs
        server.shutdown()


def test_a_filter_reaches_every_part(browser: Browser, served: tuple[str, Inputs]) -> None:
    url, inputs = served
    model, last = inputs.models[0], inputs.cards[-1]
    page = browser.new_page()
    page.goto(f"{url}check/{model.slug}/page-2/")
    assert page.locator("nav.several a").count() == 3
    page.fill("input[name=text]", last.name)
    page.locator("nav.several").wait_for(state="hidden")  # a function as text would be eval, which the pages forbid
    lead = page.locator("#list tbody tr:not([hidden]) th a").filter(has_text=last.name).first
    assert lead.evaluate("link => link.href") == f"{url}check/{model.slug}/{last.slug}/"
    assert f"of {len(inputs.cards)} cards" in page.locator(".filters .count").inner_text()
    page.close()


def test_a_model_that_fits_no_card_with_a_price_says_so() -> None:
    inputs = inputs_of(1, 3)
    page = pages_of(inputs, f"check/{inputs.models[0].slug}/")[0]
    html = {price: _intro_of(page, price) for price in (None, 500)}
    assert "It fits no card of a known launch price" in html[None]
    assert "The cheapest that runs it" in html[500]


def _intro_of(page: Page, price: int | None) -> str:
    row = page.document["rows"][0]
    best = None if price is None else {**row, "price": price}
    changed = replace(page, document={**page.document, "best_value": best})
    html = files_of(changed, LOCAL_URL)[f"{page.address}index.html"].decode()
    return html.partition("<p class=intro>")[2].partition("<p class=tally>")[0]
