"""The build: documents, then pages, then the manifest. What has not changed is neither computed nor written again.

``manifest.json`` holds for every page the key of what it was made from and the sha256 of its files. A page is skipped
when its key is the same and its files are as they were written; lists are drawn from the JSON twins of the pages about
one model on one card. The manifest is written last: a build that was killed is repeated, never trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fitcheck.errors import OptionError
from fitcheck.hardware.card import Card
from fitcheck.models import catalog
from fitcheck.pages import card_pages, compare_pages, entry, feed, record_pages, regressions, site_plan, whats_new
from fitcheck.pages.check_page import check_page
from fitcheck.pages.document import check_document, summary, twin_of
from fitcheck.pages.formats import rounded
from fitcheck.pages.other_sizes import tiers_shown
from fitcheck.pages.page import files_of, missing_page, with_neighbours
from fitcheck.pages.render import static
from fitcheck.pages.site_folder import hash_file, read, remove, sweep, write
from fitcheck.pages.site_inputs import Inputs, digest, digest_json
from fitcheck.pages.view import neighbours
from fitcheck.records import run_index
from fitcheck.records.run_index import Index
from fitcheck.verdict.accuracy import AccuracyRow
from fitcheck.verdict.known_records import concerning
from fitcheck.verdict.usual_machine import ask

MANIFEST = "manifest.json"
SCHEMA = "fitcheck.site/2"
STATIC = ("site.css", "site.js", "icon.svg")
# below this many changed pages a pool of processes costs more than it saves
_POOL_FROM = 24


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
class _Job:
    """A document to compute, small enough to send to a worker: the model by its slug, because its tables are large."""

    model: str
    card: Card
    records: list[dict[str, Any]]
    index: Index
    accuracy: tuple[AccuracyRow, ...]


def compute(job: _Job) -> dict[str, Any]:
    """The document of one model on one card."""
    model = catalog.get(job.model)
    return check_document(ask(model, job.card, job.index, tiers_shown(model)), job.records, job.accuracy)


def _draw(page: site_plan.Page, base_url: str) -> dict[str, bytes]:
    return files_of(page, base_url)


class Old:
    """The site as it stands: its manifest, and whether files are still as they were written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = _manifest(root)
        self.pages: dict[str, Any] = self.manifest.get("pages", {})
        self.files: dict[str, str] = self.manifest.get("files", {})
        self._intact: dict[str, bool] = {}

    def intact(self, path: str) -> bool:
        """Whether a file is there as it was written."""
        if path not in self._intact:
            known = self.files.get(path)
            self._intact[path] = known is not None and hash_file(self.root / path) == known
        return self._intact[path]

    def twin(self, address: str, key: str, published: bool) -> dict[str, Any] | None:
        """The JSON twin of a page about one model on one card, where it still answers the same question."""
        known = self.manifest.get("checks", {}).get(address)
        names = ("index.json", "index.html", *(("share.png",) if published else ()))
        if known is None or known["key"] != key or not all(self.intact(f"{address}{name}") for name in names):
            return None
        found: dict[str, Any] = json.loads((self.root / f"{address}index.json").read_bytes())
        return found

    def holds(self, page: site_plan.Page, published: bool) -> bool:
        """Whether the page stands there and nothing it is made of has changed."""
        entry = self.pages.get(page.address)
        return entry is not None and entry["key"] == page.key and all(map(self.intact, page.files(published)))


def build(inputs: Inputs, out: Path, jobs: int | None = None) -> BuildOutcome:
    """Make ``out`` the site of ``inputs``. Raises InputError for a folder that holds something else."""
    _refuse_foreign(out)
    old = Old(out)
    try:
        return _build(inputs, out, old, jobs)
    except (KeyError, TypeError, ValueError, AttributeError):
        if not old.manifest:
            raise
        # the manifest is of the right kind and not what was written: everything is made anew
        return _build(inputs, out, Old(Path(os.devnull)), jobs)


def _build(inputs: Inputs, out: Path, old: Old, jobs: int | None) -> BuildOutcome:
    outcome = BuildOutcome()

    def keep(path: str, content: bytes) -> None:
        outcome.written += write(out, path, content)

    manifest, files = assemble(inputs, old, outcome, jobs, keep)
    for path in sorted(set(old.files) - set(files)):
        remove(out, path)
        outcome.removed += 1
    sweep(out)
    keep(MANIFEST, manifest)
    outcome.size = sum((out / path).stat().st_size for path in files) + len(manifest)
    return outcome


def assemble(
    inputs: Inputs, old: Old, outcome: BuildOutcome, jobs: int | None, keep: Callable[[str, bytes], None]
) -> tuple[bytes, dict[str, str]]:
    """Every file of the site goes to ``keep`` unless ``old`` has it; returns the manifest and sha256 by path."""
    entries = documents(inputs, old, outcome, jobs)
    verdicts = {one.twin["address"]: one.row["verdict"] for one in entries.values()}
    log = whats_new.logged(old.manifest.get("verdicts", {}), verdicts, old.manifest.get("log", []))
    histories = histories_of(inputs, old)
    pages = list(pages_of(inputs, entries, log, histories))
    outcome.pages = len(pages)
    files: dict[str, str] = {}
    changed = []
    for page in pages:
        if old.holds(page, inputs.published):
            files.update({path: old.files[path] for path in page.files(inputs.published)})
        elif page.document is None:
            files.update({path: old.files[path] for path in page.files(inputs.published)})
            name = f"{page.address}index.html"
            html = with_neighbours(page, (old.root / name).read_bytes())
            files[name] = hashlib.sha256(html).hexdigest()
            keep(name, html)
            outcome.drawn += 1
        else:
            changed.append(page)
    outcome.drawn += len(changed)
    for made in _mapped(partial(_draw, base_url=inputs.base_url), changed, jobs):
        for path, content in made.items():
            files[path] = hashlib.sha256(content).hexdigest()
            keep(path, content)
    for path, content in singles(inputs, pages, log, entries, histories):
        files[path] = hashlib.sha256(content).hexdigest()
        if not old.intact(path) or old.files[path] != files[path]:
            keep(path, content)
    manifest = {
        "schema": SCHEMA,
        "base_url": inputs.base_url,
        "histories": regressions.key_of(inputs),
        "models": inputs.asked[0],
        "cards": inputs.asked[1],
        "pages": {page.address: {"key": page.key} | ({"own": page.own} if page.own else {}) for page in pages},
        "checks": {one.twin["address"]: {"key": one.key} for one in entries.values()},
        "verdicts": verdicts,
        "log": log,
        "files": dict(sorted(files.items())),
    }
    return (json.dumps(manifest, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n").encode(), files


def histories_of(inputs: Inputs, old: Old) -> dict[str, Any]:
    """The histories of all series, read from the folder where what they hang on is unchanged."""
    twin = f"{regressions.ADDRESS}index.json"
    same = old.manifest.get("histories") == regressions.key_of(inputs) and old.intact(twin)
    return regressions.histories(inputs, old.root / twin if same else None)


@dataclass(frozen=True)
class PairEntry:
    """A model on a card: ``document`` where it was computed now, of ``twin`` always what a list needs."""

    key: str
    twin: Mapping[str, Any]
    row: Mapping[str, Any]
    document: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, key: str, twin: Mapping[str, Any], document: Mapping[str, Any] | None = None) -> PairEntry:
        """The entry of a document or of its twin."""
        return cls(key, twin, {**summary(twin), "by_memory": twin["by_memory"]}, document)


def documents(inputs: Inputs, old: Old, outcome: BuildOutcome, jobs: int | None) -> dict[tuple[str, str], PairEntry]:
    """What every list needs of every model × card; the document too where it was computed now."""
    entries: dict[tuple[str, str], PairEntry] = {}
    todo: list[tuple[tuple[str, str], str, _Job]] = []
    for place, address, key, job in questions(inputs):
        twin = old.twin(address, key, inputs.published)
        if twin is None:
            todo.append((place, key, job))
        else:
            entries[place] = PairEntry.of(key, twin)
    outcome.documents = len(todo)
    if len(todo) >= _POOL_FROM:
        for model in inputs.models:  # tables are made here once; the workers inherit them
            ask(model, inputs.cards[0], tiers=tiers_shown(model)).report(advise=False)
    for (place, key, _), document in zip(todo, _mapped(compute, [job for *_, job in todo], jobs), strict=True):
        entries[place] = PairEntry.of(key, rounded(twin_of(document)), document)
    return {(m.slug, c.slug): entries[m.slug, c.slug] for m in inputs.models for c in inputs.cards}


def questions(inputs: Inputs) -> Iterator[tuple[tuple[str, str], str, str, _Job]]:
    """(Model and card, address, key, job) of every page about one model on one card."""
    everything = run_index.build(inputs.records)
    for model in inputs.models:
        for card in inputs.cards:
            own, index = inputs.records_of(card.slug, model.slug), concerning(everything, card, model)
            accuracy = inputs.accuracy_of(model, card.slug)
            # records of other models and cards count through what they lend this one
            lent = sorted(one.id for part in (index.rows, index.links) for one in part)
            asked = [inputs.engine, inputs.base_url, model.slug, card.slug]
            key = digest([*asked, digest_json(own), repr(lent), repr(accuracy)])
            job = _Job(model.slug, card, own, index, accuracy)
            yield (model.slug, card.slug), f"check/{model.slug}/{card.slug}/", key, job


def pages_of(
    inputs: Inputs,
    entries: Mapping[tuple[str, str], PairEntry],
    log: list[Mapping[str, Any]],
    histories: Mapping[str, Any],
) -> Iterator[site_plan.Page]:
    """Every page of the site; those about one model on one card first."""
    rows = {place: one.row for place, one in entries.items()}
    for model in inputs.models:
        own = [rows[model.slug, card.slug] for card in inputs.cards]
        for card in inputs.cards:
            one = entries[model.slug, card.slug]
            whole = one.document is not None
            yield check_page(inputs, one.document or one.twin, neighbours(own, card.slug), one.key, whole=whole)
    yield from site_plan.list_pages(inputs, rows)
    yield from card_pages.card_pages(inputs, rows)
    yield from compare_pages.compare_pages(inputs, rows)
    yield from record_pages.result_pages(inputs, {row["address"] for row in rows.values()})
    yield from record_pages.other_pages(inputs, rows)
    yield whats_new.changes_page(inputs, log, _names(rows))
    yield from regressions.regression_pages(inputs, histories)


def _names(rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, str]:
    return {row["address"]: f"{row['model_name']} on {row['name']}" for row in rows.values()}


def singles(
    inputs: Inputs,
    pages: Iterable[site_plan.Page],
    log: list[Mapping[str, Any]],
    entries: Mapping[tuple[str, str], PairEntry],
    histories: Mapping[str, Any],
) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of what is no page: style, script, the index of cards, feeds, the map of the site."""
    for name in STATIC:
        yield f"static/{name}", static(name).encode()
    yield entry.PATH, entry.index(inputs.cards, inputs.models)
    names = _names({place: one.row for place, one in entries.items()})
    yield from feed.feeds(inputs, log, names)
    yield f"{regressions.ADDRESS}feed.xml", regressions.atom(inputs, histories)
    yield "sitemap.xml", feed.sitemap(inputs.base_url, [page.address for page in pages])
    yield "robots.txt", feed.robots(inputs.base_url)
    yield "404.html", missing_page(inputs.base_url).encode()


def _mapped(work: Callable[[Any], Any], items: list[Any], jobs: int | None) -> Iterator[Any]:
    workers = min(jobs or os.cpu_count() or 1, 8)
    if workers == 1 or len(items) < _POOL_FROM:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, items, chunksize=8)


def _manifest(root: Path) -> dict[str, Any]:
    content = read(root / MANIFEST)
    if content is None:
        return {}
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) and data.get("schema") == SCHEMA and _is_sound(data) else {}


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether the parts of a manifest are of the kinds that a build writes."""
    parts = {name: manifest.get(name) for name in ("pages", "files", "checks", "verdicts")}
    if not all(isinstance(part, dict) for part in parts.values()):
        return False
    entries = [*manifest["pages"].values(), *manifest["checks"].values()]
    if not all(isinstance(entry, dict) and isinstance(entry.get("key"), str) for entry in entries):
        return False
    log = manifest.get("log")
    if not isinstance(log, list) or not all(isinstance(one, dict) for one in log):
        return False
    return all(isinstance(value, str) for name in ("files", "verdicts") for value in manifest[name].values())


def said_of(out: Path) -> dict[str, str]:
    """What the site in ``out`` was built for: its ``base_url``, and the words that chose ``models`` and ``cards``."""
    manifest = _manifest(out)
    return {name: manifest[name] for name in ("base_url", "models", "cards") if isinstance(manifest.get(name), str)}


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OptionError(f"--out: {out} is not a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise OptionError(f"--out: {out} holds other files and no site; give an empty folder, or one built before.")
