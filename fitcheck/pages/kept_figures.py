"""Published figures beside the runtimes' own, in sum, kept beside the accuracy page: to ask for all of them takes
seconds, and they hang on nothing but the estimator."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from fitcheck.pages.formats import rounded
from fitcheck.pages.site_folder import vouched
from fitcheck.verdict.accuracy_summary import figures_in_sum, published_figures

PATH = "accuracy/figures.json"
SCHEMA = "fitcheck.figures/1"
_SUM = ("quantity", "rows", "median", "worst", "covered", "fitted", "width")
_FURTHEST = ("source", "name", "unit", "predicted", "published")
_BROKEN = (ValueError, KeyError, TypeError, RecursionError)

Figures = list[dict[str, Any]]


def figures_of(engine: str, out: Path | None) -> Figures:
    """A row for each quantity; of the site in ``out`` where the same estimator wrote them."""
    content = None if out is None else vouched(out, PATH)
    if content is not None:
        try:
            kept = json.loads(content)
            if (kept["schema"], kept["engine"]) == (SCHEMA, engine):
                return [{**{name: row[name] for name in _SUM}, "furthest": row["furthest"]} for row in kept["rows"]]
        except _BROKEN:
            pass
    return _worked_out(engine)


@lru_cache(maxsize=2)
def _worked_out(engine: str) -> Figures:
    found = []
    for one, furthest in figures_in_sum(published_figures()):
        row, far = asdict(one), asdict(furthest)
        found.append({**{name: row[name] for name in _SUM}, "furthest": {name: far[name] for name in _FURTHEST}})
    whole: Figures = rounded(found)
    return whole


def encode(engine: str, rows: Figures) -> bytes:
    """UTF-8 JSON on one line."""
    document = {"schema": SCHEMA, "engine": engine, "rows": rows}
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
