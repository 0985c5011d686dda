"""The build: documents, then pages, then the manifest. What has not changed is neither computed nor written again.

``reports/manifest.json`` holds for every page the key of what it was made from and the sha256 of its files, and for
every model × card the summary that lists are drawn from. A page is skipped when its key is the same and its files are
as they were written. The manifest is written last: a build that was killed is repeated, never trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fitcheck.errors import OptionError
from fitcheck.hardware.card import Card
from fitcheck.models import catalog
from fitcheck.pages import feed, site_plan
from fitcheck.pages.charts import share
from fitcheck.pages.check_page import check_page, texts_of
from fitcheck.pages.document import check_document, summary, way_out
from fitcheck.pages.page import files_of
from fitcheck.pages.render import static
from fitcheck.pages.site_inputs import Inputs, digest, digest_json
from fitcheck.pages.view import neighbours
from fitcheck.records import run_index
from fitcheck.records.run_index import Index
from fitcheck.verdict.accuracy import AccuracyRow
from fitcheck.verdict.known_records import concerning
from fitcheck.verdict.usual_machine import ask

MANIFEST = "manifest.json"
SCHEMA = "fitcheck.site/1"
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


def _compute(job: _Job) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(document, summary, texts) of one model on one card."""
    document = check_document(ask(catalog.get(job.model), job.card, job.index), job.records, job.accuracy)
    return document, summary(document), texts_of(document, way_out(document))


def _draw(page: site_plan.Page, base_url: str) -> dict[str, bytes]:
    return files_of(page, base_url)


class _Old:
    """The site as it stands: its manifest, and whether files are still as they were written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = _manifest(root)
        self.pages: dict[str, Any] = self.manifest.get("pages", {})
        self.files: dict[str, str] = self.manifest.get("files", {})
        self._intact: dict[str, bool] = {}

    def intact(self, path: str) -> bool:
        if path not in self._intact:
            known = self.files.get(path)
            self._intact[path] = known is not None and _hash_file(self.root / path) == known
        return self._intact[path]

    def holds(self, page: site_plan.Page) -> bool:
        entry = self.pages.get(page.address)
        return entry is not None and entry["key"] == page.key and all(self.intact(path) for path in page.files)


def build(inputs: Inputs, out: Path, jobs: int | None = None) -> BuildOutcome:
    """Make ``out`` the site of ``inputs``. Raises InputError for a folder that holds something else."""
    _refuse_foreign(out)
    old = _Old(out)
    try:
        return _build(inputs, out, old, jobs)
    except (KeyError, TypeError, ValueError, AttributeError):
        if not old.manifest:
            raise
        # the manifest is of the right kind and not what was written: everything is made anew
        return _build(inputs, out, _Old(Path(os.devnull)), jobs)


def _build(inputs: Inputs, out: Path, old: _Old, jobs: int | None) -> BuildOutcome:
    outcome = BuildOutcome()
    manifest, files = _assemble(inputs, old, outcome, jobs, lambda path, content: _write(out, path, content, outcome))
    for path in sorted(set(old.files) - set(files)):
        _remove(out, path)
        outcome.removed += 1
    _sweep(out)
    _write(out, MANIFEST, manifest, outcome)
    outcome.size = sum((out / path).stat().st_size for path in files) + len(manifest)
    return outcome


def check(inputs: Inputs, out: Path, jobs: int | None = None) -> BuildOutcome:
    """Build everything anew in memory and compare: ``stale`` and ``strays`` are empty when ``out`` is that site."""
    outcome = BuildOutcome()
    made: dict[str, bytes] = {}
    manifest, _ = _assemble(inputs, _Old(Path(os.devnull)), outcome, jobs, made.__setitem__)
    for path, content in made.items():
        there = _read(out / path)
        if there is None or comparable(path, there) != comparable(path, content):
            outcome.stale.append(path)
    there = _read(out / MANIFEST)
    if there is None or _without_hashes(there) != _without_hashes(manifest):
        outcome.stale.append(MANIFEST)
    known = set(made) | {MANIFEST}
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} if out.is_dir() else set()
    outcome.strays = sorted(present - known)
    return outcome


def _assemble(
    inputs: Inputs, old: _Old, outcome: BuildOutcome, jobs: int | None, keep: Callable[[str, bytes], None]
) -> tuple[bytes, dict[str, str]]:
    """Every file of the site goes to ``keep`` unless ``old`` has it; returns the manifest and sha256 by path."""
    entries = _documents(inputs, old, outcome, jobs)
    pages = list(_pages(inputs, entries, old))
    outcome.pages = len(pages)
    files: dict[str, str] = {}
    changed = []
    for page in pages:
        if old.holds(page):
            files.update({path: old.files[path] for path in page.files})
        else:
            changed.append(page)
    outcome.drawn = len(changed)
    for made in _mapped(partial(_draw, base_url=inputs.base_url), changed, jobs):
        for path, content in made.items():
            files[path] = hashlib.sha256(content).hexdigest()
            keep(path, content)
    for path, content in _singles(inputs, pages):
        files[path] = hashlib.sha256(content).hexdigest()
        if not old.intact(path) or old.files[path] != files[path]:
            keep(path, content)
    manifest = {
        "schema": SCHEMA,
        "base_url": inputs.base_url,
        "models": ",".join(model.slug for model in inputs.models),
        "pages": {page.address: {"key": page.key} for page in pages},
        "checks": {
            entry["summary"]["address"]: {name: entry[name] for name in ("key", "summary", "texts")}
            for entry in entries.values()
        },
        "files": dict(sorted(files.items())),
    }
    return (json.dumps(manifest, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n").encode(), files


def _documents(
    inputs: Inputs, old: _Old, outcome: BuildOutcome, jobs: int | None
) -> dict[tuple[str, str], dict[str, Any]]:
    """Summary, texts and key of every model × card; the document too where it was computed now."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    todo: list[tuple[tuple[str, str], str, _Job]] = []
    known = old.manifest.get("checks", {})
    everything = run_index.build(inputs.records)
    for model in inputs.models:
        for card in inputs.cards:
            own, index = inputs.records_of(card.slug, model.slug), concerning(everything, card, model)
            accuracy = inputs.accuracy_of(model, card.slug)
            # records of other models and cards count through what they lend this one
            lent = sorted(one.id for part in (index.rows, index.links) for one in part)
            key = digest([inputs.engine, model.slug, card.slug, digest_json(own), repr(lent), repr(accuracy)])
            address = f"check/{model.slug}/{card.slug}/"
            entry = known.get(address)
            if entry is not None and entry["key"] == key and old.intact(f"{address}index.json"):
                entries[model.slug, card.slug] = dict(entry)
            else:
                todo.append(((model.slug, card.slug), key, _Job(model.slug, card, own, index, accuracy)))
    outcome.documents = len(todo)
    if len(todo) >= _POOL_FROM:
        for model in inputs.models:  # tables are made here once; the workers inherit them
            ask(model, inputs.cards[0]).report()
    for (place, key, _), (document, row, texts) in zip(
        todo, _mapped(_compute, [job for *_, job in todo], jobs), strict=True
    ):
        entries[place] = {"key": key, "summary": _as_kept(row), "texts": _as_kept(texts), "document": document}
    return {(m.slug, c.slug): entries[m.slug, c.slug] for m in inputs.models for c in inputs.cards}


def _as_kept(value: Any) -> Any:
    """As the manifest gives it back, names in order, so that a fresh build and an incremental one write equal bytes."""
    return json.loads(json.dumps(value, sort_keys=True))


def _pages(inputs: Inputs, entries: Mapping[tuple[str, str], Mapping[str, Any]], old: _Old) -> Iterator[site_plan.Page]:
    rows = {place: entry["summary"] for place, entry in entries.items()}
    for model in inputs.models:
        own = [rows[model.slug, card.slug] for card in inputs.cards]
        for card in inputs.cards:
            entry = entries[model.slug, card.slug]
            near = neighbours(own, card.slug)
            page = check_page(inputs, entry["summary"], near, entry.get("document"), entry["key"], entry["texts"])
            if page.document is None and not old.holds(page):
                document = json.loads((old.root / f"{page.address}index.json").read_bytes())
                page = check_page(inputs, entry["summary"], near, document, entry["key"], entry["texts"])
            yield page
    yield from site_plan.list_pages(inputs, rows)
    yield from site_plan.card_pages(inputs, rows)
    yield from site_plan.result_pages(inputs, {row["address"] for row in rows.values()})
    yield from site_plan.other_pages(inputs)


def _singles(inputs: Inputs, pages: Iterable[site_plan.Page]) -> Iterator[tuple[str, bytes]]:
    for name in STATIC:
        yield f"static/{name}", static(name).encode()
    yield "results/feed.xml", feed.atom(inputs)
    yield "sitemap.xml", feed.sitemap(inputs.base_url, [page.address for page in pages])


def _mapped(work: Callable[[Any], Any], items: list[Any], jobs: int | None) -> Iterator[Any]:
    workers = min(jobs or os.cpu_count() or 1, 8)
    if workers == 1 or len(items) < _POOL_FROM:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, items, chunksize=8)


_SCATTER = re.compile(rb'<svg[^>]* data-key="([0-9a-f]+)".*?</svg>', re.DOTALL)


def comparable(path: str, content: bytes) -> bytes:
    """Bytes without what only differs between versions of a drawing library: pictures count by what they show."""
    if path.endswith(".png"):
        return (share.key_of(content) or "").encode()
    return _SCATTER.sub(rb"\1", content) if path.endswith(".html") else content


def _without_hashes(manifest: bytes) -> Any:
    try:
        data = json.loads(manifest)
        return {**data, "files": sorted(data["files"])}
    except (ValueError, KeyError, TypeError):
        return None


def _manifest(root: Path) -> dict[str, Any]:
    content = _read(root / MANIFEST)
    if content is None:
        return {}
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) and data.get("schema") == SCHEMA and _is_sound(data) else {}


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether the parts of a manifest are of the kinds that a build writes."""
    parts = {name: manifest.get(name) for name in ("pages", "files", "checks")}
    if not all(isinstance(part, dict) for part in parts.values()):
        return False
    entries = [*manifest["pages"].values(), *manifest["checks"].values()]
    if not all(isinstance(entry, dict) and isinstance(entry.get("key"), str) for entry in entries):
        return False
    kept = all(isinstance(e.get(n), dict) for e in manifest["checks"].values() for n in ("summary", "texts"))
    return kept and all(isinstance(digest, str) for digest in manifest["files"].values())


def base_url_of(out: Path) -> str | None:
    """The address that the site in ``out`` was built for."""
    url = _manifest(out).get("base_url")
    return url if isinstance(url, str) else None


def models_of(out: Path) -> str | None:
    """The models that the site in ``out`` was built for, separated by commas."""
    names = _manifest(out).get("models")
    return names if isinstance(names, str) else None


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OptionError(f"--out: {out} is not a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise OptionError(f"--out: {out} holds other files and no site; give an empty folder, or one built before.")


def _read(path: Path) -> bytes | None:
    """A regular file's bytes; None for what is missing, a link, a pipe or a device, which no build has written."""
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None
    except OSError:
        return None


def _hash_file(path: Path) -> str | None:
    content = _read(path)
    return None if content is None else hashlib.sha256(content).hexdigest()


def _write(root: Path, name: str, content: bytes, outcome: BuildOutcome) -> None:
    """Whole or not at all, and inside ``root``; a file that is right already keeps its time stamp."""
    path = root / name
    if _read(path) == content:
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(root.resolve()):
            raise OptionError(f"{path.parent}: is a link out of {root}; take it away, a site is written to one folder.")
        temporary.unlink(missing_ok=True)  # never through a link that somebody left there
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OptionError(f"{path}: cannot be written ({error.strerror or error}).") from error
    outcome.written += 1


def _sweep(root: Path) -> None:
    """Temporary files of a build that was killed: no later one gives them their names."""
    for folder, _, names in os.walk(root):
        for name in names:
            if name.startswith(".") and name.endswith(".tmp"):
                Path(folder, name).unlink(missing_ok=True)


def _remove(root: Path, path: str) -> None:
    target = root / path
    if not target.resolve().is_relative_to(root.resolve()):
        return  # a manifest that was tampered with
    target.unlink(missing_ok=True)
    for folder in target.parents:
        if folder == root or any(folder.iterdir()):
            break
        folder.rmdir()
