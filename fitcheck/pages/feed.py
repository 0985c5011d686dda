"""The Atom feed of new results and the sitemap. Dates come from records and from the catalog, never from the clock."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from fitcheck.pages import view
from fitcheck.pages.site_inputs import Inputs, newest_first
from fitcheck.pages.words import result_words
from fitcheck.units import format_timestamp

ATOM = "http://www.w3.org/2005/Atom"
MOST_ENTRIES = 50


def atom(inputs: Inputs) -> bytes:
    """RFC 4287. Without a record the feed is as old as the newest fact about a card."""
    root = ElementTree.Element("feed", xmlns=ATOM)
    records = newest_first(inputs.records)[:MOST_ENTRIES]
    here = f"{inputs.base_url}results/"
    _add(root, "title", "fitcheck: new results")
    _add(root, "id", here)
    ElementTree.SubElement(root, "link", rel="self", href=f"{here}feed.xml")
    ElementTree.SubElement(root, "link", rel="alternate", href=here)
    _add(root, "updated", format_timestamp(records[0]["created"]) if records else f"{_newest_fact(inputs)}T00:00:00Z")
    _add(ElementTree.SubElement(root, "author"), "name", "fitcheck contributors")
    for record in records:
        facts = view.record_facts(record)
        entry = ElementTree.SubElement(root, "entry")
        link = f"{here}{record['id']}/"
        what = facts["model"] or facts["runtime"] or "link rates"
        _add(entry, "title", view.visible(f"{what} on {facts['card_name'] or 'CPU'}: {facts['outcome']}"))
        _add(entry, "id", link)
        ElementTree.SubElement(entry, "link", rel="alternate", href=link)
        _add(entry, "updated", format_timestamp(record["created"]))
        _add(entry, "summary", view.visible(result_words(facts)))
    return _bytes(root)


def _newest_fact(inputs: Inputs) -> str:
    facts = [fact for card in inputs.cards for fact in (card.tensor_flops, card.launch_price_usd)]
    return max((fact.date for fact in facts if fact is not None), default="1970-01-01")


def sitemap(base_url: str, addresses: Sequence[str]) -> bytes:
    """sitemap.xml of absolute URLs in the order of their addresses, without dates."""
    root = ElementTree.Element("urlset", xmlns="http://www.sitemaps.org/schemas/sitemap/0.9")
    for address in sorted(addresses):
        _add(ElementTree.SubElement(root, "url"), "loc", base_url + address)
    return _bytes(root)


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text


def _bytes(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()
