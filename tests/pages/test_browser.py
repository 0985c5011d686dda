"""The built site in a real Chromium: sorting, filtering, schemes, keyboard, no JavaScript, print, axe, first paint."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from .conftest import HOSTILE, KINDS, MODELS, Site

AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    yield context.new_page()
    context.close()


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"#list tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()


def head(page: Page, name: str) -> Any:
    return page.locator("#list thead button", has_text=name)


def test_sorting_by_price_keeps_unknown_prices_last(site: Site, page: Page) -> None:
    page.goto(site.url + KINDS["model"])
    head(page, "Launch price").click()
    prices = column(page, 8)
    known = [float(text.strip("$").replace(",", "")) for text in prices if text != "unknown"]
    assert known == sorted(known)
    assert len(known) >= 3
    assert prices[len(known) :] == ["unknown"] * (len(prices) - len(known))
    head(page, "Launch price").click()
    prices = column(page, 8)
    assert [text for text in prices if text != "unknown"] == [f"${value:,.0f}" for value in reversed(known)]
    assert prices[-1] == "unknown"
    assert page.locator("#list th[aria-sort=descending]").inner_text().startswith("Launch price")


def test_sorting_by_verdict_goes_from_best_to_worst(site: Site, page: Page) -> None:
    page.goto(site.url + "check/sensenova-u1-a3b-mot/")
    head(page, "Verdict").click()
    order = ["Fits", "Tight", "Unknown", "No"]
    ranks = [order.index(text.strip()) for text in column(page, 2)]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) >= 2


def test_filtering_by_name_verdict_memory_and_price(site: Site, page: Page) -> None:
    page.goto(site.url + KINDS["model"])
    assert len(column(page, 1)) == 6
    page.get_by_label("Find").fill("4070")
    assert column(page, 1) == ["GeForce RTX 4070"]
    assert page.get_by_role("status").inner_text() == "1 of 6 cards"
    page.get_by_label("Find").fill("")
    page.get_by_label("Card memory from").select_option("24")
    assert column(page, 1) == ["GeForce RTX 4090", "Radeon RX 7900 XTX", "GeForce RTX 5090"]
    page.get_by_label("Verdict").select_option("unknown")
    assert column(page, 1) == ["Radeon RX 7900 XTX"]
    page.get_by_label("Maker").select_option("NVIDIA")
    assert column(page, 1) == []
    assert page.get_by_role("status").inner_text() == "0 of 6 cards"
    page.goto(site.url + KINDS["model"] + "?price=1000&memory=12")
    assert column(page, 1) == ["GeForce RTX 4070", "Radeon RX 7900 XTX"], "the address keeps what was asked"
    page.get_by_label("Launch price up to").select_option("750")
    assert column(page, 1) == ["GeForce RTX 4070"]
    assert page.url.endswith("?memory=12&price=750")


def test_keyboard_alone_reaches_content_sorts_and_opens(site: Site, page: Page) -> None:
    page.goto(site.url + KINDS["model"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Launch price":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "what has the focus must be seen"
    page.keyboard.press("Enter")
    assert page.locator("#list th[aria-sort=ascending]").inner_text().startswith("Launch price")
    page.goto(site.url + KINDS["fits"])
    summary = page.locator("summary", has_text="The same as a table")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("region", name="Memory by phase").is_visible()


def test_without_javascript_everything_is_there(site: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url + KINDS["model"])
    assert page.locator("#list tbody tr").count() == 6
    assert page.locator("#list tbody tr").first.is_visible()
    assert not page.locator("#filters").is_visible()
    assert page.locator("#list thead button").count() == 0
    page.goto(site.url + KINDS["fits"])
    assert page.locator(".stamp").inner_text() == "Fits"
    assert page.locator(".matrix em").count() == 16
    assert page.locator("svg.memory").count() == 2
    page.locator("summary", has_text="The same as a table").click()
    assert page.get_by_role("region", name="Memory by phase").is_visible()
    context.close()


def test_dark_follows_the_system(site: Site, page: Page) -> None:
    def light() -> float:
        colours: list[int] = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        return sum(colours) / 3

    page.goto(site.url + KINDS["fits"])
    page.emulate_media(color_scheme="light")
    assert light() > 220
    page.emulate_media(color_scheme="dark")
    assert light() < 40


def test_print_leaves_out_what_paper_cannot_use(site: Site, page: Page) -> None:
    page.goto(site.url + KINDS["fits"])
    page.emulate_media(media="print")
    assert not page.locator(".top nav").is_visible()
    assert page.locator(".matrix").is_visible()
    assert page.locator(".stamp").is_visible()
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_nothing_on_any_kind_of_page(
    site: Site, browser: Browser, scheme: Literal["light", "dark"], width: int
) -> None:
    # axe is put in by the test, past the page's own policy; the policy itself is tested below
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    for kind, address in KINDS.items():
        page.goto(site.url + address)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        page.add_script_tag(content=AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        problems = [
            (v["id"], v["nodes"][0]["html"][:160], v["nodes"][0]["failureSummary"]) for v in found["violations"]
        ]
        assert problems == [], (kind, scheme)
        assert len(found["passes"]) > 10
    context.close()


def test_no_page_asks_a_foreign_host_or_trips_its_policy(site: Site, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    for address in KINDS.values():
        page.goto(site.url + address, wait_until="networkidle")
    assert [url for url in asked if not url.startswith((site.url, "data:"))] == []
    assert said == []
    context.close()


@pytest.mark.parametrize("width", [320, 390])
def test_no_page_is_wider_than_a_phone(site: Site, browser: Browser, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    for address in (*KINDS.values(), HOSTILE, *(f"check/{slug}/" for slug in MODELS.split(","))):
        page.goto(site.url + address)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, address
    context.close()


def test_a_hostile_record_stays_inert(site: Site, page: Page) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    for address in (HOSTILE, "results/", "check/sensenova-u1-8b-mot/rtx-4070/", KINDS["card"]):
        page.goto(site.url + address, wait_until="networkidle")
        assert "window.owned" in page.inner_text("body"), address
        assert page.evaluate("window.owned") is None
        assert page.title() != "owned"
        assert page.locator("main script, main img, main iframe, [onerror], [onload]").count() == 0
    assert dialogs == []


def test_first_paint_is_within_a_second(site: Site, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(site.url + KINDS["method"])
    page.goto(site.url + KINDS["fits"], wait_until="load")
    paint = page.evaluate(
        "new Promise(done => new PerformanceObserver(list => done(list.getEntriesByName('first-contentful-paint')[0]"
        ".startTime)).observe({type: 'paint', buffered: true}))"
    )
    assert paint <= 1000
    context.close()


def test_verdicts_sort_by_rank_in_every_table_that_sorts(site: Site, page: Page) -> None:
    seen = 0
    for kind in ("language", "model", "models"):
        page.goto(site.url + KINDS[kind])
        cells = page.locator("table[data-sortable] td:has(em)")
        ranks = cells.evaluate_all("cells => cells.map(cell => cell.dataset.v ?? '')")
        words = cells.evaluate_all("cells => cells.map(cell => cell.querySelector('em').textContent.trim())")
        assert ranks == [str(["Fits", "Tight", "Unknown", "No"].index(word)) for word in words], kind
        seen += len(words)
    assert seen > 30


def test_an_answer_on_the_front_page_is_one_line_of_words(site: Site, page: Page) -> None:
    page.goto(site.url)
    line = page.locator(".ans > span").first
    assert line.inner_text().rsplit(" ", 1)[-1] in ("estimated", "calibrated", "measured")
    assert "\n" not in line.inner_text()
    box = line.bounding_box()
    assert box is not None
    assert box["height"] < 40
