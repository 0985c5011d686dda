"""The page about one model on one card, the only one of the site whose document may stay on disk: its words are kept
in the manifest, so that an unchanged page and the lists need none.

``plan`` has the pages that are drawn from tables of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fitcheck.pages import view, words
from fitcheck.pages.formats import VERDICTS, write
from fitcheck.pages.site_inputs import Inputs, digest, digest_json
from fitcheck.pages.site_plan import Page
from fitcheck.pages.view import Crumb
from fitcheck.runtimes.torch_platform import minimum_compute_capability
from fitcheck.speed.rates import bfloat16_compute_capability
from fitcheck.units import GIB


def check_page(
    inputs: Inputs,
    summary: Mapping[str, Any],
    near: Sequence[Mapping[str, Any]],
    document: Mapping[str, Any] | None,
    document_key: str,
    texts: Mapping[str, Any],
) -> Page:
    """The page about one model on one card. ``texts`` are its title, description, lead and preview."""
    key = digest([inputs.pages, inputs.base_url, document_key, digest_json(list(near))])
    return Page(
        summary["address"],
        "check.html",
        texts["title"],
        texts["description"],
        document,
        texts["preview"],
        key,
        section="check/",
        crumbs=(
            Crumb("Models", "check/"),
            Crumb(summary["model_name"], f"check/{summary['model']}/"),
            Crumb(summary["name"], None),
        ),
        values={"lead": texts["lead"], "neighbours": list(near), **capabilities()},
    )


def capabilities() -> dict[str, str]:
    """NVIDIA compute capabilities that the page's words name, like "7.5": PyTorch's least, and bfloat16's first."""
    return {
        "minimum_capability": "{}.{}".format(*minimum_compute_capability()),
        "bfloat16_capability": "{}.{}".format(*bfloat16_compute_capability()),
    }


def texts_of(document: Mapping[str, Any], way_out: str | None) -> dict[str, Any]:
    """The words of a check page, kept in the manifest so that lists need no document."""
    report = document["report"]
    cell, machine = report["cells"][view.focus(report)], report["machine"]
    runs = cell["verdict"] in view.RUNS
    lead = words.lead(document, way_out)
    time, usable = write(cell["seconds"], "seconds_span"), machine["usable_vram"]["best"]
    lines = (
        (
            f"{cell['tier']} files, mode {cell['mode']}" + ("" if cell["published"] else " (not published yet)"),
            f"{write(cell['card']['best'], 'gib')} of {write(usable, 'gib')} card memory, "
            f"{write(cell['host']['best'], 'gib')} of system memory",
            f"{time} {words.unit_of(report['workload']['task'])} ({cell['evidence']['level']})",
        )
        if runs
        else (lead, cell["reason"])
    )
    share = cell["card"]["best"] / usable if usable else None
    preview = {
        "eyebrow": f"{machine['name']} · {machine['memory'] // GIB} GB",
        "title": report["model"]["name"],
        "word": VERDICTS[cell["verdict"]],
        "verdict": cell["verdict"],
        "lines": lines,
        "share": None if share is None else min(1.0, share),
        "limit": None if share is None or share <= 1 else 1 / share,
    }
    return {
        "title": words.title(document, way_out),
        "description": words.description(document, way_out),
        "lead": lead,
        "preview": preview,
    }
