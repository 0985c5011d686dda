"""The pages under ``/regressions/``: every series with a history, and a page for each with a picture of every metric.

What they show is computed in ``fitcheck.verdict.histories``; the overview's JSON twin holds all of it, from which an
unchanged site is drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.pages import feed, promises, view
from fitcheck.pages.digests import digest, digest_json
from fitcheck.pages.formats import rounded, write
from fitcheck.pages.kept_site import KeptSite
from fitcheck.pages.metric_names import metric_name
from fitcheck.pages.site_inputs import Inputs
from fitcheck.pages.site_plan import LIST_SCHEMA, Page, made, plain
from fitcheck.pages.view import Crumb
from fitcheck.units import format_timestamp

ADDRESS = "regressions/"
TWIN, PROMISES = f"{ADDRESS}index.json", f"{ADDRESS}promises.json"
# pictures of a page: metrics that changed or missed what is expected have theirs in any case
MOST_PICTURES = 12
MOST_ENTRIES = 50


def key_of(inputs: Inputs) -> str:
    """What the histories hang on."""
    return digest([inputs.engine, inputs.recorded_key, digest_json(_plain(asdict(inputs.kept)))])


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


@dataclass(frozen=True)
class SiteHistories:
    """``found`` is the document of all histories, ``promises`` the file of what the estimator says of each record, and
    ``keys`` what both hang on: as a whole, and of the series alone."""

    found: Mapping[str, Any]
    promises: bytes
    keys: Mapping[str, str]


def histories_of(inputs: Inputs, old: KeptSite) -> SiteHistories:
    """The histories: read from the overview's twin where that is still true, else those of ``old`` where a record
    changed no history, else computed."""
    before = old.manifest.get("histories")
    keys = before if isinstance(before, dict) else {}
    kept = old.root / TWIN if old.intact(TWIN) and old.intact(PROMISES) else None
    whole = key_of(inputs)
    if kept is not None and keys.get("whole") == whole and isinstance(keys.get("series"), str):
        return SiteHistories(_twin(kept), (old.root / PROMISES).read_bytes(), keys)
    from fitcheck.verdict.histories import Histories

    ids = [str(record.get("id")) for record in inputs.records]
    told = {} if kept is None else promises.decode((old.root / PROMISES).read_bytes(), inputs.engine, ids)
    fresh = Histories(inputs.records, inputs.kept, told)
    series = digest([inputs.engine, fresh.key])
    if kept is not None and keys.get("series") == series:
        found = fresh.renewed(_twin(kept))
    else:
        # as the twin gives it back, so that a fresh build and an incremental one write equal bytes
        found = rounded(json.loads(json.dumps(fresh.document())))
    return SiteHistories(found, promises.encode(fresh.said(), inputs.engine), {"whole": whole, "series": series})


class HistoriesAtNeed:
    """The histories, read or worked out where a page asks for them. ``key`` is what they hang on."""

    def __init__(self, inputs: Inputs, old: KeptSite) -> None:
        self._inputs, self._old = inputs, old
        self.key = key_of(inputs)

    @cached_property
    def found(self) -> SiteHistories:
        """The histories themselves."""
        return histories_of(self._inputs, self._old)

    @property
    def keys(self) -> Mapping[str, str]:
        """What the manifest keeps of them."""
        before = self._old.manifest.get("histories")
        if isinstance(before, dict) and before.get("whole") == self.key and "found" not in vars(self):
            return before
        return self.found.keys


def _twin(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())["histories"]
    return found


def regression_pages(inputs: Inputs, found: Mapping[str, Any]) -> Iterator[Page]:
    """The overview and a page for each series."""
    count, changes = len(found["series"]), len(found["entries"])
    yield made(
        inputs,
        ADDRESS,
        "regressions.html",
        "Regressions: what became slower or hungrier, since when and by how much",
        f"{changes} changes in {count} series of measurements that were made more than once, with what is expected.",
        document={"schema": LIST_SCHEMA, "address": ADDRESS, "histories": dict(found)},
        feed=f"{ADDRESS}feed.xml",
        preview=plain("fitcheck", "Regressions", f"{changes} changes in {count} series"),
        section=ADDRESS,
        twin=True,
        values={"latest": [latest(one) for one in found["series"]]},
    )
    places = {record["id"]: view.place_of(record) for record in inputs.records}
    for one in found["series"]:
        yield _series_page(inputs, one, places)


def _series_page(inputs: Inputs, one: Mapping[str, Any], places: Mapping[str, str]) -> Page:
    title = view.visible(one["title"])
    changes = sum(len(track["changes"]) for track in one["tracks"])
    drawn = pictures(one["tracks"])
    return made(
        inputs,
        f"{ADDRESS}{one['id']}/",
        "history.html",
        f"History of {title[:120]} ({one['id']})",
        f"{one['runs']} runs, {changes} changes: seconds and memory over versions, with what the estimator expects.",
        document={"schema": LIST_SCHEMA, "address": f"{ADDRESS}{one['id']}/", **one},
        preview=plain("History", title[:80], f"{one['runs']} runs, {changes} changes"),
        picture=False,
        feed=f"{ADDRESS}feed.xml",
        section=ADDRESS,
        crumbs=(Crumb("Regressions", ADDRESS), Crumb(one["id"], None)),
        values={"drawn": drawn, "runs": runs_of(one["tracks"], places)},
    )


def latest(one: Mapping[str, Any]) -> dict[str, Any]:
    """The newest change of a series (``None`` for each part without any) and the metrics that missed what is
    expected."""
    changes = [
        (track["points"][change["index"]]["created"], change["judgement"]["verdict"], track["metric"])
        for track in one["tracks"]
        for change in track["changes"]
    ]
    created, verdict, metric = max(changes, default=(None, None, None), key=lambda change: change[0])
    missed = [track["metric"] for track in one["tracks"] if track.get("expected", {}).get("missed")]
    return {"created": created, "verdict": verdict, "metric": metric, "missed": missed}


def pictures(tracks: list[dict[str, Any]]) -> list[int]:
    """The indices of the tracks that are drawn, in order."""
    told = [i for i, one in enumerate(tracks) if one["changes"] or one.get("expected", {}).get("missed")]
    rest = [i for i, one in enumerate(tracks) if i not in told and len(one["points"]) > 1]
    return sorted([*told, *rest[: max(MOST_PICTURES - len(told), 0)]])


def runs_of(tracks: list[dict[str, Any]], places: Mapping[str, str], most: int = 40) -> list[dict[str, Any]]:
    """The newest runs of a series, newest first: id, the day, where the site has it."""
    found = {point["id"]: point["created"] for track in tracks for point in track["points"]}
    newest = sorted(found, key=lambda name: (-found[name], name))[:most]
    return [{"id": name, "created": found[name], "page": places.get(name)} for name in newest]


def atom(inputs: Inputs, found: Mapping[str, Any]) -> bytes:
    """RFC 4287: every change as an entry, the newest first. Dates are those of records."""
    entries = [_entry(inputs, one) for one in found["entries"][:MOST_ENTRIES]]
    return feed.atom(inputs, ADDRESS, "fitcheck: regressions and improvements", entries)


def _headline(one: Mapping[str, Any]) -> str:
    change = "" if one["ratio"] is None else f" {write(one['ratio'], 'change')}"
    return f"{one['verdict']}: {one['series_title']}, {metric_name(one['metric'])}{change}"


def _entry(inputs: Inputs, one: Mapping[str, Any]) -> dict[str, str]:
    link = f"{inputs.base_url}{ADDRESS}{one['series']}/#{view.anchor(one['metric'])}"
    return {
        "title": _headline(one),
        "id": f"{link}-{one['id'].rpartition('/')[2][:16]}",
        "link": link,
        "updated": format_timestamp(one["updated"]),
        "summary": f"{one['text']} ({write(one['updated'], 'date')})",
    }
