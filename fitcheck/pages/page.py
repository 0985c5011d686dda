"""One page to its files: HTML, the JSON twin, the picture of its link preview."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.models.model import Model
from fitcheck.pages import entry, site_plan
from fitcheck.pages.charts import share
from fitcheck.pages.charts.scatter import scatter
from fitcheck.pages.formats import rounded
from fitcheck.pages.render import nearer, policy, render, shorter
from fitcheck.pages.site_inputs import LOCAL_URL
from fitcheck.pages.view import Crumb

# what stands around the part of a page that says something of other cards
NEAR = ("<!--near-->", "<!--/near-->")


@dataclass(frozen=True)
class Head:
    """What the frame around every page needs. ``style`` and ``script`` are set on a page that stands alone; without
    them it is of a site, and ``canonical`` is set where that has an address."""

    title: str
    description: str
    policy: str
    canonical: str | None = None
    image: str | None = None
    section: str | None = None
    crumbs: tuple[Crumb, ...] = ()
    style: str = ""
    script: str = ""
    feed: str = ""
    twin: bool = True
    facts: Markup | None = None

    @property
    def site(self) -> bool:
        """Whether other pages stand around this one."""
        return not self.style


def encode(document: Any) -> bytes:
    """UTF-8 JSON on one line. Raises ValueError for NaN and infinity, which JSON does not have."""
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


def files_of(page: site_plan.Page, base_url: str) -> dict[str, bytes]:
    """Bytes by path, relative to the site's root."""
    published = base_url != LOCAL_URL
    twin = page.twin or published
    image = page.address if page.picture else f"{page.section}"
    head = Head(
        title=page.title,
        description=page.description,
        policy=policy(),
        canonical=base_url + page.address if published else None,
        image=f"{base_url}{image}share.png",
        section=page.section,
        crumbs=page.crumbs,
        feed=page.feed,
        twin=twin,
        facts=structured(page.facts) if published else None,
    )
    # of a page that is drawn from more than its twin, the twin is made where it is written
    document = rounded(page.document) if twin or page.wide is None else {}
    values: dict[str, Any] = {"near": near_html(page), **page.values}
    if page.template == "accuracy.html":
        values["scatter"] = scatter([row for group in document["groups"] for row in group["rows"]])
    whole = render(page.template, page.wide or document, page=head, root=root_of(page), **values)
    html = shorter(nearer(whole, page.address))
    made = {f"{page.address}index.html": html.encode()}
    if twin:
        made[f"{page.address}index.json"] = encode(document)
    if page.picture and published:
        preview = share.Preview(**{**page.preview, "lines": tuple(page.preview["lines"])})
        made[f"{page.address}share.png"] = share.draw(preview)
    return made


def with_neighbours(model: Model, card: Card, near: Sequence[Mapping[str, Any]], html: bytes) -> bytes:
    """The page about ``model`` on ``card`` as it stands, with other neighbours."""
    first, rest = html.split(NEAR[0].encode(), 1)
    last = rest.split(NEAR[1].encode(), 1)[1]
    return first + _neighbours(near, str(model.tasks[0]), card.slug).encode() + last


def near_html(page: site_plan.Page) -> Markup:
    """The part of a page that says something of other cards; empty where it says nothing."""
    return _neighbours(page.near, page.values["task"], page.values["here"]) if page.near else Markup("")


def _neighbours(near: Sequence[Mapping[str, Any]], task: str, here: str) -> Markup:
    html = shorter(render("near.html", {"near": list(near), "task": task, "here": here}))
    return Markup(f"{NEAR[0]}{html}{NEAR[1]}")  # noqa: S704 - a template made it


def root_of(page: site_plan.Page) -> str:
    """The way from a page to the site's root."""
    return "../" * page.depth or "./"


def structured(facts: tuple[Any, ...]) -> Markup:
    """JSON-LD blocks; nothing in them can end the element they stand in."""
    blocks = [json.dumps(one, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c") for one in facts]
    return Markup("".join(f'<script type="application/ld+json">{block}</script>' for block in blocks))  # noqa: S704


def missing_page(base_url: str) -> str:
    """404.html: it is shown at any address, so its links start at the site's root. It asks for a card as the start
    does; the script adds the line that answers what the address asked."""
    head = Head("There is no such page", "This address leads nowhere on this site.", policy())
    return render("missing.html", entry.choices(), page=head, root=urlsplit(base_url).path or "/")
