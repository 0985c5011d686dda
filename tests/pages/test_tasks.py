"""What people come for, in a real Chromium: find a card, see what runs, compare, copy, share, print, on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from fitcheck.hardware.catalog import all_cards, find_card

from .conftest import KINDS, Site


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    yield context.new_page()
    context.close()


def suggested(page: Page, typed: str) -> list[str]:
    """The names under the field for a card, once the index is there."""
    field = page.get_by_role("combobox", name="Your card")
    field.fill(typed)
    expect(page.get_by_role("option").first).to_be_visible()
    names: list[str] = page.locator("#cards li").evaluate_all("items => items.map(one => one.firstChild.textContent)")
    return names


def test_find_my_card_however_it_is_typed(site: Site, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.url)
    assert not [url for url in asked if url.endswith("cards.json")], "the index is loaded when the field is used"
    wanted = {
        "4070ti": "GeForce RTX 4070 Ti",
        "RTX 4070 TI": "GeForce RTX 4070 Ti",
        "nvidia geforce rtx4070": "GeForce RTX 4070",
        "rx9070": "Radeon RX 9070",
        "amd radeon rx 9070 xt": "Radeon RX 9070 XT",
        "2080": "GeForce RTX 2080",
        "4070 laptop": "GeForce RTX 4070 Mobile",
        "b580": "Arc B580",
        # the card itself, of the size that came out first, before its sisters with shorter names
        "3060": "GeForce RTX 3060 12 GB",
        "3080": "GeForce RTX 3080 10 GB",
        "4060ti": "GeForce RTX 4060 Ti 8 GB",
        "a770": "Arc A770 8 GB",
        # its memory, which is no part of its name, and what it is built into
        "4070 12gb": "GeForce RTX 4070",
        "RTX 4070 (12 GB VRAM)": "GeForce RTX 4070",
        "4060 ti 16gb": "GeForce RTX 4060 Ti 16 GB",
        "rx 7900 xtx 24 GiB": "Radeon RX 7900 XTX",
        "macbook pro m3 max": suggested(page, "m3 max")[0],
        "Apple M2 Ultra 192GB": suggested(page, "m2 ultra")[0],
        "mac mini m4": suggested(page, "m4")[0],
    }
    assert suggested(page, "m3 max")[0].endswith("M3 Max")
    for typed, name in wanted.items():
        assert suggested(page, typed)[0] == name, typed
    page.get_by_role("combobox", name="Your card").fill("4070 13gb")
    expect(page.locator("#found")).to_have_text("No card of the database is called that.")
    assert len([url for url in asked if url.endswith("cards.json")]) == 1


def test_a_model_is_found_by_the_name_that_commands_use(site: Site, page: Page) -> None:
    page.goto(site.url + "check/")
    page.get_by_label("Find").fill("wan2.1-t2v-1.3b 4070")
    assert page.locator("#list thead th:visible").all_inner_texts()[2:] == ["Wan 2.1 T2V 1.3B"]
    assert page.locator("#list tbody tr:visible").count() == 1


def test_what_runs_with_16_gb(site: Site, page: Page) -> None:
    page.goto(site.url)
    page.get_by_label("System memory").select_option("16")
    page.get_by_label("To make").select_option("image")
    suggested(page, "4070")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cards/rtx-4070/?*")
    assert page.url.endswith("cards/rtx-4070/?for=image&ram=16#runs") or page.url.endswith("?ram=16&for=image#runs")
    assert page.locator(".beside .asked").inner_text().split("\n")[0].endswith("of 5")
    assert page.locator(".purpose:visible").count() == 1
    heads = page.locator(".purpose:visible thead th:visible").all_inner_texts()
    assert heads == ["Model", "16 GB"]
    assert page.locator(".purpose:visible tbody tr").count() >= 2


def test_a_card_without_a_page_gets_the_line_that_answers(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(site.url)
    suggested(page, "2080 ti")
    page.get_by_role("button", name="Show what runs").click()
    line = page.get_by_label("Command for this card")
    expect(line).to_have_text("fitcheck runs --gpu rtx-2080-ti --ram 32GB")
    expect(line).to_be_in_viewport(ratio=1)
    field = page.get_by_role("combobox", name="Your card")
    field.fill("no such card")
    page.get_by_role("button", name="Show what runs").click()
    expect(page.locator("#found")).to_have_text("No card of the database is called that.")


def test_every_slug_of_the_index_is_a_name_that_the_command_line_takes() -> None:
    slugs = [card.slug for card in all_cards()][::37]
    assert [find_card(slug).slug for slug in slugs] == slugs
    assert len(slugs) > 70


def test_the_cheapest_card_for_a_model(site: Site, page: Page) -> None:
    page.goto(site.url + "check/qwen3-8b/?verdict=fits")
    page.locator("#list thead button", has_text="Launch price").click()
    first = page.locator("#list tbody tr:visible").first
    prices = page.locator("#list tbody tr:visible td:nth-child(8)").evaluate_all(
        "all => all.map(one => +one.dataset.v)"
    )
    known = [price for price in prices if price]
    assert known == sorted(known)
    assert first.locator("em").inner_text() == "Fits"
    assert page.get_by_role("link", name="GeForce RTX 3050 8 GB").first.is_visible()


def test_compare_two_cards(site: Site, page: Page) -> None:
    page.goto(site.url + "compare/")
    page.get_by_role("link", name="GeForce RTX 4090 or GeForce RTX 5090").click()
    assert page.locator("h1").inner_text() == "GeForce RTX 4090 or GeForce RTX 5090"
    assert page.locator("table.rows tbody tr").count() == 5
    assert page.locator(".quick").count() >= 2
    page.goto(site.url + "compare/")
    page.get_by_label("One card").select_option("tesla-t4")
    page.get_by_label("The other").select_option("rtx-4090")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#side h2")).to_have_text("Tesla T4 and GeForce RTX 4090, beside 32 GB")
    assert page.locator("#side tbody tr").count() >= 5
    row = page.locator("#side tbody tr", has_text="chat: Qwen3 8B")
    assert row.locator("td").nth(1).inner_text().endswith(f" tokens/s\n{_choice(site, 'rtx-4090')}")
    assert page.locator("#side p").inner_text() == "Tesla T4: launch price unknown; GeForce RTX 4090: $1,599 at launch"
    assert page.url.endswith("?a=tesla-t4&b=rtx-4090")
    page.goto(site.url + "compare/tesla-t4-vs-rtx-5090/")  # a pair that nobody asked for has no page of its own
    expect(page.locator("#side h2")).to_have_text("Tesla T4 and GeForce RTX 5090, beside 32 GB")
    page.goto(site.url + KINDS["card"])
    page.get_by_role("link", name="Compare GeForce RTX 4070 and GeForce RTX 4090").click()
    expect(page.locator("#side h2")).to_have_text("GeForce RTX 4070 and GeForce RTX 4090, beside 32 GB")


def _choice(site: Site, card: str) -> str:
    """Files and mode of Qwen3 8B on a card, as its page has them."""
    cell = json.loads((site.root / f"check/qwen3-8b/{card}/index.json").read_bytes())["report"]["cells"][0]
    return f"{cell['tier']} {cell['mode']}"


def test_copy_a_command(site: Site, browser: Browser) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(site.url + KINDS["language"])
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("llama-server -hf ")
    assert copied == page.locator("pre.cmd").first.inner_text().strip()
    context.close()


def test_share_a_page(site: Site, page: Page) -> None:
    """What a messenger shows of a link: title, description and a picture that is there."""
    page.goto(site.url + KINDS["card"])
    said = {
        one: page.locator(f'meta[property="og:{one}"]').get_attribute("content") or ""
        for one in ("title", "image", "url")
    }
    assert " of 5 models fit beside 32 GB" in said["title"].replace("what runs on 12 GB, ", "")
    assert said["url"] == "https://fitcheck.example/cards/rtx-4070/"
    assert (site.root / said["image"].removeprefix("https://fitcheck.example/")).is_file()


def test_without_javascript_a_card_is_found_in_the_list(site: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url)
    assert not page.get_by_role("combobox").first.is_visible()
    page.locator("#by-memory ~ dl").get_by_role("link", name="GeForce RTX 4070").click()
    assert page.locator("h1").inner_text().startswith("GeForce RTX 4070")
    assert page.locator(".profile em").count() >= 16
    assert (
        page.get_by_label("Command for every model").inner_text().strip() == "fitcheck runs --gpu rtx-4070 --ram 32GB"
    )
    context.close()


def test_with_the_keyboard_alone(site: Site, page: Page) -> None:
    page.goto(site.url)
    for _ in range(15):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "card":
            break
    page.keyboard.type("tesla t4")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    assert page.locator("#card").get_attribute("aria-activedescendant") == "card-0"
    page.keyboard.press("Enter")
    expect(page.locator("#cards")).to_be_hidden()
    page.keyboard.press("Enter")
    page.wait_for_url("**/cards/tesla-t4/**")


def test_a_page_prints(site: Site, page: Page) -> None:
    page.goto(site.url + KINDS["card"])
    page.emulate_media(media="print")
    assert not page.locator(".top nav").is_visible()
    assert not page.locator("#filters").is_visible()
    assert not page.locator(".copy").first.is_visible()
    assert page.locator(".beside").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_on_a_phone_rows_are_cards_and_nothing_is_hidden(site: Site, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    for address in (KINDS["model"], KINDS["card"], KINDS["language"], KINDS["compare"]):
        page.goto(site.url + address)
        cell = page.locator("table.rows tbody td").first
        assert page.evaluate("one => getComputedStyle(one).display", cell.element_handle()) in ("flow-root", "block")
        assert cell.get_attribute("data-label"), address
        left = page.locator("table.rows tbody td:visible").evaluate_all(
            "cells => cells.filter(one => one.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert left == 0, address
    context.close()


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_the_grid_is_a_card_for_each_card(site: Site, browser: Browser, width: int) -> None:
    page = browser.new_context(viewport={"width": width, "height": 844}).new_page()
    page.goto(site.url + "check/")
    row = page.locator("#list tbody tr").first
    names = page.locator("#list thead th").all_text_contents()[2:]
    assert [cell.get_attribute("data-label") for cell in row.locator("td").all()][1:] == names
    for part in (page.locator("#list"), page.locator(".tall"), row.locator("td").last):
        over = part.evaluate(
            "one => [one.scrollWidth - one.clientWidth, one.getBoundingClientRect().right - innerWidth]"
        )
        assert max(over) <= 0, over
    page.get_by_label("Find").fill("flux")
    assert row.locator("td:visible").count() == 2  # the memory, and the one model that is left
    page.context.close()


def test_search_narrows_cards_and_models_at_once(site: Site, page: Page) -> None:
    page.goto(site.url + "check/")
    page.get_by_label("Find").fill("flux 4090")
    assert page.locator("#list tbody tr:visible th").all_inner_texts() == ["GeForce RTX 4090"]
    assert page.locator("#list thead th:visible").all_inner_texts() == ["Card", "Memory", "FLUX.1 [dev]"]
    assert page.get_by_role("status").inner_text() == "1 of 6 cards, 1 models"
    page.reload()
    assert page.locator("#list tbody tr:visible").count() == 1
    page.get_by_label("Find").fill("no such thing")
    assert page.locator("#list tbody tr:visible").count() == 0


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("check/no-such-model/rtx-2080-ti/", "fitcheck check no-such-model --gpu rtx-2080-ti"),
        ("check/no-such-model/", "fitcheck check no-such-model"),
        ("cards/no-such-card/", "fitcheck runs --gpu no-such-card"),
        ("nowhere/at/all", None),
    ],
)
def test_an_address_without_a_page_says_what_answers_it(site: Site, page: Page, address: str, line: str | None) -> None:
    page.goto(site.url + address)
    assert page.locator("h1").inner_text() == "There is no such page here"
    box = page.get_by_label("Command for this address")
    assert box.count() == (line is not None)
    assert line is None or box.inner_text().strip() == line
    assert suggested(page, "4070ti")[0] == "GeForce RTX 4070 Ti"
