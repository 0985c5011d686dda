"""Atom feeds, the sitemap and robots.txt. Dates come from records, the log and the catalog, never from the clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from fitcheck.pages import view
from fitcheck.pages.site_inputs import Inputs, newest_first
from fitcheck.pages.words import change_said, result_words
from fitcheck.units import format_timestamp

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
ATOM = "http://www.w3.org/2005/Atom"
MOST_ENTRIES = 50
_MOST_OF_ONE = 20
# what a record names that has a feed
_KINDS = ("model", "card")


def feeds(inputs: Inputs, log: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each feed: of all results, of what is new, of each model and each card."""
    records = newest_first(inputs.records)
    found = [_of_record(inputs, one) for one in records[:MOST_ENTRIES]]
    yield "results/feed.xml", atom(inputs, "results/", "fitcheck: new results", found)
    news = [_of_change(inputs, one, names) for one in log[:MOST_ENTRIES]]
    both = sorted([*news, *found], key=lambda entry: entry["updated"], reverse=True)[:MOST_ENTRIES]
    yield "changes/feed.xml", atom(inputs, "changes/", "fitcheck: what is new", both)
    places = [(f"check/{model.slug}/", model.name, "model", model.slug) for model in inputs.models]
    places += [(f"cards/{card.slug}/", card.name, "card", card.slug) for card in inputs.cards]
    measured = _grouped(((kind, (one.get(kind) or {}).get("slug")), one) for one in records for kind in _KINDS)
    changed = _grouped((part, one) for one in log for part in {*(one["address"] or "").split("/")})
    for address, name, kind, slug in places:
        own = [_of_record(inputs, one) for one in measured.get((kind, slug), ())[:_MOST_OF_ONE]]
        own += [_of_change(inputs, one, names) for one in changed.get(slug, ())]
        own.sort(key=lambda entry: entry["updated"], reverse=True)
        yield f"{address}feed.xml", atom(inputs, address, f"fitcheck: {name}", own[:_MOST_OF_ONE])


def _grouped(pairs: Iterable[tuple[Any, Mapping[str, Any]]]) -> dict[Any, list[Mapping[str, Any]]]:
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for key, one in pairs:
        found.setdefault(key, []).append(one)
    return found


def atom(inputs: Inputs, address: str, title: str, entries: Sequence[Mapping[str, str]]) -> bytes:
    """RFC 4287. Without an entry the feed is as old as the newest fact about a card."""
    root = ElementTree.Element("feed", xmlns=ATOM)
    here = f"{inputs.base_url}{address}"
    _add(root, "title", title)
    _add(root, "id", here)
    ElementTree.SubElement(root, "link", rel="self", href=f"{here}feed.xml")
    ElementTree.SubElement(root, "link", rel="alternate", href=here)
    _add(root, "updated", entries[0]["updated"] if entries else f"{inputs.newest_fact}T00:00:00Z")
    _add(ElementTree.SubElement(root, "author"), "name", "fitcheck contributors")
    for one in entries:
        entry = ElementTree.SubElement(root, "entry")
        _add(entry, "title", view.visible(one["title"]))
        _add(entry, "id", one["id"])
        ElementTree.SubElement(entry, "link", rel="alternate", href=one["link"])
        _add(entry, "updated", one["updated"])
        _add(entry, "summary", view.visible(one["summary"]))
    return encoded(root)


def _of_record(inputs: Inputs, record: Mapping[str, Any]) -> dict[str, str]:
    facts = view.record_facts(record)
    link = f"{inputs.base_url}{facts['place']}"
    what = facts["model"] or facts["runtime"] or "link rates"
    return {
        "title": f"{what} on {facts['card_name'] or 'CPU'}: {facts['outcome']}",
        "id": link,
        "link": link,
        "updated": format_timestamp(record["created"]),
        "summary": result_words(facts),
    }


def _of_change(inputs: Inputs, change: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    address = change["address"] or "changes/"
    told = change_said(change, names.get(address))
    return {
        "title": told,
        "id": f"{inputs.base_url}{address}#{change['date']}-{change['kind']}-{change['to'] or change.get('count')}",
        "link": f"{inputs.base_url}{address}",
        "updated": f"{change['date']}T00:00:00Z",
        "summary": told,
    }


def sitemap(base_url: str, addresses: Iterable[str]) -> bytes:
    """sitemap.xml of absolute URLs in the order of their addresses, without dates."""
    base = escape(base_url)
    lines = [f"  <url>\n    <loc>{base}{escape(address)}</loc>\n  </url>\n" for address in sorted(addresses)]
    return f'{_HEAD}<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{"".join(lines)}</urlset>\n'.encode()


def robots(base_url: str) -> bytes:
    """robots.txt: everything may be read, and where the sitemap is."""
    return f"User-agent: *\nAllow: /\nSitemap: {base_url}sitemap.xml\n".encode()


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text


def encoded(root: ElementTree.Element) -> bytes:
    """The document's bytes."""
    text = ElementTree.tostring(root, encoding="unicode")
    return f"{_HEAD}{text}\n".encode()
