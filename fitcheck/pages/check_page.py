"""The page about one model on one card, the only one of the site that is drawn from more than its JSON twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.pages import view, words
from fitcheck.pages.digests import digest, digest_json
from fitcheck.pages.document import twin_of, way_out
from fitcheck.pages.formats import VERDICTS, speed, write
from fitcheck.pages.neighbours import neighbours
from fitcheck.pages.site_plan import Page
from fitcheck.pages.view import Crumb
from fitcheck.units import GIB

_NEAR = ("address", "card", "name", "memory", "price", "verdict", "tier", "mode", "seconds", "pace")


def paths_of(address: str, published: bool) -> tuple[str, ...]:
    """Paths of the page at ``address`` under the site's folder: with an address of its own the site has a JSON twin and
    a picture of each too."""
    return tuple(f"{address}{name}" for name in ("index.html", *(("index.json", "share.png") if published else ())))


@dataclass(frozen=True, slots=True)
class NearRow:
    """What a page says of a card next to its own; ``digest`` changes with it."""

    said: Mapping[str, Any]
    digest: str


def near_pages(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[NearRow]]:
    """By card what its page says of the cards next to it; a card's own row is digested once for all of its
    neighbours."""
    said = {row["card"]: {name: row[name] for name in _NEAR} for row in rows}
    made = {card: NearRow(row, digest_json(row)) for card, row in said.items()}
    return {card: [made[row["card"]] for row in around] for card, around in neighbours(rows).items()}


def page_key(document_key: str, near: Sequence[NearRow]) -> str:
    """The key of a page: its document, and what it says of other cards."""
    return digest([document_key, *(one.digest for one in near)])


def check_page(document: Mapping[str, Any], near: Sequence[NearRow], key: str) -> Page:
    """The page about one model on one card, of its whole document."""
    said, report = texts_of(document), document["report"]
    return Page(
        document["address"],
        "check.html",
        said["title"],
        said["description"],
        twin_of(document),
        said["preview"],
        key,
        section="check/",
        crumbs=(
            Crumb("Models", "check/"),
            Crumb(report["model"]["name"], f"check/{report['model']['slug']}/"),
            Crumb(report["machine"]["name"], f"cards/{report['machine']['card']}/"),
        ),
        values={"lead": said["lead"], "task": report["workload"]["task"], "here": report["machine"]["card"]},
        wide=document,
        near=[one.said for one in near],
        feed=f"check/{report['model']['slug']}/feed.xml",
        facts=(_question(document, said["lead"]),),
    )


def _question(document: Mapping[str, Any], lead: str) -> dict[str, Any]:
    """schema.org's FAQPage: the question that brings people here, and its answer."""
    report = document["report"]
    return {
        "@context": "https://schema.org",
        "@type": "FAQPage",
        "mainEntity": [
            {
                "@type": "Question",
                "name": f"Does {report['model']['name']} run on {report['machine']['name']}?",
                "acceptedAnswer": {"@type": "Answer", "text": f"{lead}. {report['answer']}"},
            }
        ],
    }


def texts_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The title, description, lead and preview of a check page."""
    report, out = document["report"], way_out(document)
    cell, machine = report["cells"][view.focus(report)], report["machine"]
    lead = words.lead(document, out)
    usable = machine["usable_vram"]["best"]
    pace = view.pace(cell, report["workload"]["task"])
    time = speed({"pace": pace, "seconds": cell["seconds"]})
    made = "" if pace else f" {words.unit_of(report['workload']['task'])}"
    lines = (
        (
            f"{cell['tier']} files, {cell['mode']}" + ("" if cell["published"] else " (not published yet)"),
            f"{write(cell['card']['best'], 'gib')} of {write(usable, 'gib')} card memory, "
            f"{write(cell['host']['best'], 'gib')} of system memory",
            f"{time}{made} ({cell['evidence']['level']})",
        )
        if cell["verdict"] in view.RUNS
        else (lead, cell["reason"])
    )
    share = cell["card"]["best"] / usable if usable else None
    preview = {
        "eyebrow": f"{machine['name']} · {machine['memory'] // GIB} GB" if machine["memory"] else machine["name"],
        "title": report["model"]["name"],
        "word": VERDICTS[cell["verdict"]],
        "verdict": cell["verdict"],
        "lines": lines,
        "share": None if share is None else min(1.0, share),
        # the line stands at the end of the bar where everything fits in
        "limit": None if share is None else min(1.0, 1 / share) if share else 1.0,
    }
    return {
        "title": words.title(document, out),
        "description": words.description(document, out),
        "lead": lead,
        "preview": preview,
    }
