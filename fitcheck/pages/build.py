"""The build: each model's pages, then the lists, then the manifest. What has not changed is neither computed nor
written again.

``manifest.json`` holds for every page the key of what it was made from and the hash of its files. A page is skipped
when its key is the same and its files are as they were written; lists are drawn from the rows that are kept beside each
model's page (``pairs.json``). The manifest is written last: a build that was killed is repeated, never trusted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.pages import (
    card_pages,
    compare_pages,
    entry,
    feed,
    kept_accuracy,
    kept_figures,
    record_pages,
    regressions,
    site_plan,
    whats_new,
)
from fitcheck.pages.model_part import ModelPart, Old, Sink, make_all
from fitcheck.pages.page import files_of, missing_page
from fitcheck.pages.render import static
from fitcheck.pages.site_folder import MANIFEST, hash_bytes, read, remove, sweep, write
from fitcheck.pages.site_inputs import Inputs

SCHEMA = "fitcheck.site/3"
STATIC = ("site.css", "site.js", "icon.svg")
# below this many changed lists a pool of processes costs more than it saves
_POOL_FROM = 24

Rows = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass
class BuildOutcome:
    """What a build did. ``stale`` and ``strays`` are filled by ``check``: files that differ, files nobody made."""

    pages: int = 0
    documents: int = 0
    drawn: int = 0
    written: int = 0
    removed: int = 0
    size: int = 0
    stale: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Folder:
    """Where a build writes."""

    out: Path

    def put(self, path: str, content: bytes) -> bool:
        """Write a file unless it is there already."""
        return write(self.out, path, content)


def build(inputs: Inputs, out: Path, jobs: int | None = None) -> BuildOutcome:
    """Make ``out`` the site of ``inputs``. Raises InputError for a folder that holds something else."""
    refuse_foreign(out)
    old, before = old_site(out), _written_before(out)
    try:
        return _build(inputs, out, old, before, jobs)
    except (KeyError, TypeError, ValueError, AttributeError):
        if not old.manifest:
            raise
        # the manifest is of the right kind and not what was written: everything is made anew
        return _build(inputs, out, Old(Path(os.devnull), {}), before, jobs)


def _build(inputs: Inputs, out: Path, old: Old, before: set[str], jobs: int | None) -> BuildOutcome:
    outcome = BuildOutcome()
    manifest, files, changed = assemble(inputs, old, outcome, jobs, Folder(out))
    outcome.written = len(changed)
    outcome.removed = sum(remove(out, path) for path in sorted(before - set(files)))
    sweep(out)
    outcome.written += write(out, MANIFEST, manifest)
    outcome.size = sum((out / path).stat().st_size for path in files) + len(manifest)
    return outcome


def assemble(
    inputs: Inputs, old: Old, outcome: BuildOutcome, jobs: int | None, sink: Sink
) -> tuple[bytes, dict[str, str], list[str]]:
    """Every file of the site goes to ``sink`` unless ``old`` has it; returns the manifest, hashes by path, and the
    paths at which something else stood."""
    parts = make_all(inputs, old, sink, jobs)
    rows = rows_of(inputs, parts)
    verdicts = verdicts_of(rows)
    log = whats_new.logged(old.manifest.get("verdicts", {}), verdicts, old.manifest.get("log", []))
    histories = regressions.histories_of(inputs, old)
    lists = list(lists_of(inputs, rows, log, histories))
    files = {path: value for part in parts.values() for path, value in part.files.items()}
    pages = {address: keys for part in parts.values() for address, keys in part.pages.items()}
    changed = [path for part in parts.values() for path in part.changed]
    stale = []
    for page in lists:
        pages[page.address] = {"key": page.key}
        if holds(old, page, inputs.published):
            files.update({path: old.files[path] for path in page.files(inputs.published)})
        else:
            stale.append(page)
    outcome.pages = len(pages)
    outcome.documents = sum(part.computed for part in parts.values())
    outcome.drawn = sum(part.drawn for part in parts.values()) + len(stale)

    def put(path: str, content: bytes) -> None:
        files[path] = hash_bytes(content)
        if sink.put(path, content):
            changed.append(path)

    for made in _mapped(partial(_draw, base_url=inputs.base_url), stale, jobs):
        for path, content in made.items():
            put(path, content)
    for path, content in singles(inputs, pages, log, rows, histories):
        put(path, content)
    manifest = {
        "schema": SCHEMA,
        "base_url": inputs.base_url,
        "engine": inputs.engine,
        "histories": dict(histories.keys),
        "models": inputs.asked[0],
        "cards": inputs.asked[1],
        "pages": pages,
        "verdicts": verdicts,
        "log": log,
        "files": dict(sorted(files.items())),
    }
    encoded = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return f"{encoded}\n".encode(), files, changed


def rows_of(inputs: Inputs, parts: Mapping[str, ModelPart]) -> Rows:
    """What lists say, by model and card, in the order of the site."""
    return {(m.slug, c.slug): parts[m.slug].pairs[c.slug].row for m in inputs.models for c in inputs.cards}


def verdicts_of(rows: Rows) -> dict[str, str]:
    """The verdict of each page about one model on one card, by its address."""
    return {row["address"]: row["verdict"] for row in rows.values()}


def holds(old: Old, page: site_plan.Page, published: bool) -> bool:
    """Whether the page stands there and nothing it is made of has changed."""
    known = old.pages.get(page.address)
    return known is not None and known["key"] == page.key and all(map(old.intact, page.files(published)))


def _draw(page: site_plan.Page, base_url: str) -> dict[str, bytes]:
    return files_of(page, base_url)


def lists_of(
    inputs: Inputs, rows: Rows, log: list[Mapping[str, Any]], histories: regressions.SiteHistories
) -> Iterator[site_plan.Page]:
    """Every page of the site but those about one model on one card."""
    yield from site_plan.list_pages(inputs, rows)
    yield from card_pages.card_pages(inputs, rows)
    yield from compare_pages.compare_pages(inputs, rows)
    yield from record_pages.result_pages(inputs, {row["address"] for row in rows.values()})
    yield from record_pages.other_pages(inputs, rows)
    yield whats_new.changes_page(inputs, log, _names(rows))
    yield from regressions.regression_pages(inputs, histories.found)


def _names(rows: Rows) -> dict[str, str]:
    return {row["address"]: f"{row['model_name']} on {row['name']}" for row in rows.values()}


def singles(
    inputs: Inputs,
    addresses: Iterable[str],
    log: list[Mapping[str, Any]],
    rows: Rows,
    histories: regressions.SiteHistories,
) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of what is no page: style, script, the index of cards, feeds, the map of the site."""
    for name in STATIC:
        yield f"static/{name}", static(name).encode()
    yield entry.PATH, entry.index(inputs.cards, inputs.models)
    yield kept_accuracy.PATH, kept_accuracy.encode(inputs.recorded)
    yield kept_figures.PATH, kept_figures.encode(inputs.engine, inputs.figures)
    yield from feed.feeds(inputs, log, _names(rows))
    yield f"{regressions.ADDRESS}feed.xml", regressions.atom(inputs, histories.found)
    yield regressions.PROMISES, histories.promises
    if inputs.published:
        yield "sitemap.xml", feed.sitemap(inputs.base_url, addresses)
        yield "robots.txt", feed.robots(inputs.base_url)
    yield "404.html", missing_page(inputs.base_url).encode()


def _mapped(work: Callable[[Any], Any], items: list[Any], jobs: int | None) -> Iterator[Any]:
    workers = min(jobs or os.cpu_count() or 1, 8)
    if workers == 1 or len(items) < _POOL_FROM:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, items, chunksize=8)


def old_site(out: Path) -> Old:
    """The site as it stands in ``out``."""
    return Old(out, _manifest(out))


def _manifest(root: Path) -> dict[str, Any]:
    data = _any_manifest(root)
    return data if data.get("schema") == SCHEMA and _is_sound(data) else {}


def _any_manifest(root: Path) -> dict[str, Any]:
    """The manifest in ``root`` as it was read, of whatever schema; empty where there is none."""
    content = read(root / MANIFEST)
    if content is None:
        return {}
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _written_before(root: Path) -> set[str]:
    """Paths that the last build wrote, though its manifest be of an older schema, of which nothing else is believed."""
    data = _any_manifest(root)
    files = data.get("files")
    of_a_site = str(data.get("schema")).startswith(SCHEMA.partition("/")[0])
    return set(files) if of_a_site and isinstance(files, dict) else set()


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether the parts of a manifest are of the kinds that a build writes."""
    parts = {name: manifest.get(name) for name in ("pages", "files", "verdicts")}
    if not all(isinstance(part, dict) for part in parts.values()):
        return False
    if not all(isinstance(one, dict) and isinstance(one.get("key"), str) for one in manifest["pages"].values()):
        return False
    log = manifest.get("log")
    if not isinstance(log, list) or not all(isinstance(one, dict) for one in log):
        return False
    return all(isinstance(value, str) for name in ("files", "verdicts") for value in manifest[name].values())


def said_of(out: Path) -> dict[str, str]:
    """What the site in ``out`` was built for: its ``base_url``, and the words that chose ``models`` and ``cards``."""
    manifest = _manifest(out)
    return {name: manifest[name] for name in ("base_url", "models", "cards") if isinstance(manifest.get(name), str)}


def refuse_foreign(out: Path) -> None:
    """Raises OptionError for a folder that no build wrote: the first thing that is looked at, before any work."""
    if out.exists() and not out.is_dir():
        raise OptionError(f"--out: {out} is not a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise OptionError(f"--out: {out} holds other files and no site; give an empty folder, or one built before.")
