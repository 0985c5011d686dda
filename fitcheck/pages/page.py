"""One page to its files: HTML, the JSON twin, the picture of its link preview."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fitcheck.pages import site_plan
from fitcheck.pages.charts import share
from fitcheck.pages.charts.scatter import scatter
from fitcheck.pages.render import policy, render
from fitcheck.pages.view import Crumb


@dataclass(frozen=True)
class Head:
    """What the frame around every page needs. ``style`` and ``script`` are set on a page that stands alone."""

    title: str
    description: str
    policy: str
    canonical: str | None = None
    image: str | None = None
    section: str | None = None
    crumbs: tuple[Crumb, ...] = ()
    style: str = ""
    script: str = ""


def encode(document: Any) -> bytes:
    """UTF-8 JSON on one line. Raises ValueError for NaN and infinity, which JSON does not have."""
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


def files_of(page: site_plan.Page, base_url: str) -> dict[str, bytes]:
    """Bytes by path, relative to the site's root."""
    assert page.document is not None
    head = Head(
        title=page.title,
        description=page.description,
        policy=policy(),
        canonical=base_url + page.address,
        image=f"{base_url}{page.address}share.png",
        section=page.section,
        crumbs=page.crumbs,
    )
    values = {"neighbours": [], **page.values}
    if page.template == "accuracy.html":
        values["scatter"] = scatter(page.document["rows"])
    html = render(page.template, page.document, page=head, root="../" * page.depth or "./", **values)
    preview = share.Preview(**{**page.preview, "lines": tuple(page.preview["lines"])})
    names = dict(zip(("html", "json", "png"), page.files, strict=True))
    return {names["html"]: html.encode(), names["json"]: encode(page.document), names["png"]: share.draw(preview)}
