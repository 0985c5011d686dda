"""Every file of the built site: valid HTML, no broken link, strict policy, inert foreign text, light enough."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import html5lib
import pytest
from PIL import Image

from fitcheck.hardware.catalog import all_cards
from fitcheck.pages import entry as card_index

from .conftest import HOSTILE, KINDS, Site
from .records import ATTACK

XHTML = "{http://www.w3.org/1999/xhtml}"
REFERENCES = ("aria-labelledby", "aria-describedby", "for", "data-filter")


def parse(path: Path) -> ElementTree.Element:
    """Raises html5lib's ParseError for anything that the HTML standard calls a parse error."""
    tree: ElementTree.Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(
        path.read_text("utf-8")
    )
    return tree


@pytest.fixture(scope="module")
def trees(site: Site) -> dict[Path, ElementTree.Element]:
    return {path: parse(path) for path in site.pages}


def test_every_kind_of_page_was_built(site: Site) -> None:
    for address in KINDS.values():
        assert (site.root / address / ("" if address.endswith(".html") else "index.html")).is_file(), address


def test_html_has_no_parse_error_and_sound_structure(trees: dict[Path, ElementTree.Element]) -> None:
    assert len(trees) > 30
    for path, tree in trees.items():
        ids = [element.get("id") for element in tree.iter() if element.get("id")]
        assert not [name for name, count in Counter(ids).items() if count > 1], path
        assert len(list(tree.iter("h1"))) >= 1, path
        assert len(list(tree.iter("main"))) == 1, path
        assert tree.get("lang") == "en", path
        assert tree.findtext("head/title"), path
        levels = [int(element.tag[1]) for element in tree.iter() if re.fullmatch(r"h[1-6]", str(element.tag))]
        assert all(after <= before + 1 for before, after in pairwise(levels)), (path, levels)
        for element in tree.iter():
            assert element.get("style") is None, (path, "an inline style that the policy refuses")
            assert not [name for name in element.attrib if str(name).startswith("on")], path
            for name in REFERENCES:
                for target in (element.get(name) or "").split():
                    assert target in ids, (path, name, target)
            if element.tag == "data":
                assert element.get("value") is not None, path
            if element.tag == "th":
                assert element.get("scope") in ("row", "col"), path


def test_policy_is_strict_on_every_page(trees: dict[Path, ElementTree.Element]) -> None:
    for path, tree in trees.items():
        policies = [m.get("content", "") for m in tree.iter("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        assert len(policies) == 1, path
        assert policies[0].startswith("default-src 'none';"), path
        assert "unsafe" not in policies[0], path
        assert "http" not in policies[0], path


def test_no_page_names_a_foreign_resource(trees: dict[Path, ElementTree.Element]) -> None:
    """Links may lead away; nothing that a browser fetches by itself does."""
    for path, tree in trees.items():
        for element in tree.iter():
            if element.tag in ("script", "img", "iframe", "source", "video", "audio", "embed", "object"):
                assert not (element.get("src") or "").startswith(("http", "//")), path
            if element.tag == "link" and "canonical" not in (element.get("rel") or ""):
                assert not (element.get("href") or "").startswith(("http", "//")), path


def test_no_link_is_broken(site: Site, trees: dict[Path, ElementTree.Element]) -> None:
    count = 0
    for path, tree in trees.items():
        for element in tree.iter():
            for name in ("href", "src") if path.name != "404.html" else ():
                link = element.get(name)
                if link is None or link.startswith(("http", "data:")):
                    continue
                parts = urlsplit(link)
                assert not parts.scheme, (path, link)
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                target = target / "index.html" if target.is_dir() else target
                assert target.is_file(), (path, link)
                assert target.is_relative_to(site.root), (path, link)
                if parts.fragment:
                    assert any(e.get("id") == parts.fragment for e in trees[target].iter()), (path, link)
                count += 1
    assert count > 500


def test_every_page_has_a_twin_a_canonical_address_and_a_preview(
    site: Site, trees: dict[Path, ElementTree.Element]
) -> None:
    titles: Counter[str | None] = Counter()
    for path, tree in trees.items():
        if path.name in ("alone.html", "404.html"):
            continue
        address = path.parent.relative_to(site.root).as_posix()
        address = "" if address == "." else f"{address}/"
        meta = {m.get("property") or m.get("name"): m.get("content") for m in tree.iter("meta")}
        links = {link.get("rel"): link.get("href") for link in tree.iter("link")}
        assert links["canonical"] == f"https://fitcheck.example/{address}"
        image = "results/" if address.startswith("results/") else address
        assert meta["og:image"] == f"https://fitcheck.example/{image}share.png"
        with Image.open(site.root / image / "share.png") as picture:
            assert (picture.format, picture.size) == ("PNG", (1200, 630))
        assert json.loads((path.parent / "index.json").read_bytes())["address"] == address
        assert 20 <= len(meta["description"] or "") <= 400, (path, meta["description"])
        titles[tree.findtext("head/title")] += 1
    assert [title for title, count in titles.items() if count > 1] == []


def test_titles_say_the_answer_in_words(trees: dict[Path, ElementTree.Element], site: Site) -> None:
    def title(model: str, card: str) -> str | None:
        return trees[site.root / "check" / model / card / "index.html"].findtext("head/title")

    fits = title("sensenova-u1-8b-mot", "rtx-4090")
    assert fits is not None
    assert fits.startswith("SenseNova-U1-8B-MoT on GeForce RTX 4090: fits")
    short = title("sensenova-u1-a3b-mot", "rtx-4070")
    assert short is not None
    assert re.search(r"needs \d+ GB of system memory$", short)


def test_pages_are_light(site: Site) -> None:
    for path in site.pages:
        assert path.stat().st_size <= 120_000, path
        if path.name == "index.html":
            linked = (path.parent / "share.png").stat().st_size if (path.parent / "share.png").is_file() else 0
            shared = sum((site.root / "static" / name).stat().st_size for name in ("site.css", "site.js", "icon.svg"))
            assert path.stat().st_size + linked + shared <= 120_000, path


def test_the_index_of_cards_is_small_and_knows_every_card(site: Site) -> None:
    content = (site.root / card_index.PATH).read_bytes()
    assert len(gzip.compress(content)) <= 250_000
    cards = json.loads(content)["cards"]
    assert {slug for _, slug, _, _ in cards} == {card.slug for card in all_cards()}
    assert {slug for _, slug, _, page in cards if page} == {
        path.name for path in (site.root / "cards").iterdir() if path.is_dir()
    }


def test_structured_data_is_json_of_known_kinds(site: Site, trees: dict[Path, ElementTree.Element]) -> None:
    kinds: Counter[str] = Counter()
    for tree in trees.values():
        for script in tree.iter("script"):
            if script.get("type") == "application/ld+json":
                data = json.loads(script.text or "")
                assert data["@context"] == "https://schema.org"
                kinds[data["@type"]] += 1
                if data["@type"] == "FAQPage":
                    question = data["mainEntity"][0]
                    assert question["@type"] == "Question"
                    assert question["acceptedAnswer"]["text"]
                else:
                    assert 50 <= len(data["description"]) <= 5000
                    assert data["license"].startswith("https://")
                    assert data["distribution"][0]["contentUrl"].startswith("https://fitcheck.example/")
    assert kinds == {"FAQPage": 30, "Dataset": 2}


def test_robots_sitemap_and_the_page_for_no_page(site: Site) -> None:
    assert "Sitemap: https://fitcheck.example/sitemap.xml" in (site.root / "robots.txt").read_text()
    listed = {
        node.text or "" for node in ElementTree.parse(site.root / "sitemap.xml").iter() if node.tag.endswith("loc")
    }
    pages = {path.parent.relative_to(site.root).as_posix() for path in site.pages if path.name == "index.html"}
    assert {one.removeprefix("https://fitcheck.example/").rstrip("/") or "." for one in listed} == pages
    assert 'href="/static/site.css"' in (site.root / "404.html").read_text()


def test_every_word_of_a_mode_is_explained(site: Site, trees: dict[Path, ElementTree.Element]) -> None:
    explained = {"".join(term.itertext()) for term in trees[site.root / "method/index.html"].iter("dt")}
    modes = {
        json.loads(path.read_bytes())["report"]["cells"][0]["mode"]
        for path in (site.root / "check").glob("*/*/index.json")
    }
    said = {re.sub(r" \d+$", "", part) for mode in modes for part in mode.split(", ")}
    assert {"ngl", "none"} <= said
    assert said <= explained


def test_a_hostile_record_is_text_and_nothing_else(site: Site, trees: dict[Path, ElementTree.Element]) -> None:
    shown = [path for path, tree in trees.items() if "window.owned" in "".join(tree.itertext())]
    assert len(shown) >= 4, "the record should be shown on its own page, its card, its check page and the list"
    for path, tree in trees.items():
        scripts = [
            one for one in tree.iter("script") if not one.get("src") and one.get("type") != "application/ld+json"
        ]
        assert len(scripts) == (1 if path.name == "alone.html" else 0), path
        assert not list(tree.iter("img")), path
        for link in tree.iter("a"):
            assert not (link.get("href") or "").startswith("javascript:"), path
        raw = path.read_text("utf-8")
        assert not re.search("[\u0000\u0007\u200b\u202e\u202c\u2066]", raw), path
        assert "own" * 7 not in raw, (path, "a template in a text was carried out")
    for path in (site.root / "results/feed.xml", site.root / "sitemap.xml"):
        ElementTree.parse(path)
    document = json.loads((site.root / HOSTILE / "index.json").read_bytes())
    assert document["records"][0]["notes"].startswith(ATTACK)


def test_the_feed_names_every_result(site: Site, trees: dict[Path, ElementTree.Element]) -> None:
    root = ElementTree.parse(site.root / "results/feed.xml").getroot()
    atom = "{http://www.w3.org/2005/Atom}"
    entries = root.findall(f"{atom}entry")
    assert len(entries) == 3
    assert [entry.findtext(f"{atom}updated") for entry in entries] == sorted(
        (entry.findtext(f"{atom}updated") or "" for entry in entries), reverse=True
    )
    for entry in entries:
        link = entry.find(f"{atom}link")
        assert link is not None
        where, _, anchor = (link.get("href") or "").removeprefix("https://fitcheck.example/").partition("#")
        assert any(one.get("id") == anchor for one in trees[site.root / where / "index.html"].iter())
    assert root.findtext(f"{atom}updated") == entries[0].findtext(f"{atom}updated")
