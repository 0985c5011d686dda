"""The build: each model's pages, then the lists, then the manifest. What has not changed is neither computed nor
written again.

A model's part of the site is skipped when the key of all that it hangs on is the same and its files are as they were
written; so is a list, whose key is made of digests of rows that stand beside each model's pages (``pairs.json``). The
manifest is written last: a build that was killed is repeated, never trusted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.pages import card_pages, pairs, regressions, site_plan, whats_new
from fitcheck.pages.card_pages import Running
from fitcheck.pages.file_memory import FileMemory
from fitcheck.pages.kept_site import OWN, SCHEMA, KeptSite, kept_site, older_files, part_paths
from fitcheck.pages.model_part import ModelParts, Sink, make_all
from fitcheck.pages.page import files_of
from fitcheck.pages.site_folder import MANIFEST, begin, hash_bytes, is_site, remove, sweep, write
from fitcheck.pages.site_inputs import Inputs
from fitcheck.pages.site_lists import Log, RecordLists, SiteList, SiteLists
from fitcheck.pages.site_rows import SiteRows

# below this many changed lists a pool of processes costs more than it saves
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
class Folder:
    """Where a build writes."""

    out: Path

    def put(self, path: str, content: bytes) -> bool:
        """Write a file unless it is there already."""
        return write(self.out, path, content)


@dataclass
class Site:
    """A site as it should be: ``files`` by path and ``parts`` by model with their hashes, the key, pages and files of
    each list, and the paths at which something else stood."""

    files: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    lists: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    manifest: bytes = b""


def build(inputs: Inputs, out: Path, jobs: int | None = None) -> BuildOutcome:
    """Make ``out`` the site of ``inputs``. Raises InputError for a folder that holds something else."""
    refuse_foreign(out)
    memory = FileMemory(out)
    old = kept_site(out, memory)
    try:
        return _build(inputs, out, old, old, jobs, memory)
    except (KeyError, TypeError, ValueError, AttributeError):
        if not old.manifest:
            raise
        # the manifest is of the right kind and not what was written: everything is made anew
        return _build(inputs, out, KeptSite(Path(os.devnull), {}), old, jobs, memory)


def _build(
    inputs: Inputs, out: Path, old: KeptSite, before: KeptSite, jobs: int | None, memory: FileMemory
) -> BuildOutcome:
    outcome = BuildOutcome()
    begin(out)
    site = assemble(inputs, old, outcome, jobs, Folder(out))
    outcome.written = len(site.changed)
    gone = before.gone(inputs, site.files) if before.manifest else older_files(out) - set(all_paths(inputs, site.files))
    outcome.removed = sum(remove(out, path) for path in sorted(gone))
    outcome.written += write(out, MANIFEST, site.manifest)
    sweep(out)
    for model in inputs.models:
        memory.keep(pairs.path_of(model.slug), site.parts[model.slug], part_paths(inputs, model))
    memory.keep(OWN, hash_bytes(site.manifest), sorted(site.files))
    memory.save()
    outcome.size = memory.size + len(site.manifest)
    return outcome


def assemble(inputs: Inputs, old: KeptSite, outcome: BuildOutcome, jobs: int | None, sink: Sink) -> Site:
    """Every file of the site goes to ``sink`` unless ``old`` has it."""
    taking, histories = _Taking(inputs, old, sink), regressions.HistoriesAtNeed(inputs, old)
    site = taking.site
    parts = make_all(inputs, old, sink, jobs, lambda: taking.take(RecordLists(inputs, histories).all(), jobs=1))
    site.parts = {model.slug: _part_hash(model.slug, parts, old) for model in inputs.models}
    site.changed += [path for part in parts.made.values() for path in part.changed]
    rows = SiteRows(inputs, parts.files)
    lists = SiteLists(inputs, rows, running_of(inputs, rows, old), log_of(inputs, rows, old))
    taking.take(lists.all(), jobs)
    addresses = [address for one in site.lists.values() for address in one["pages"]]
    taking.take([lists.map(addresses)], jobs=1)
    outcome.pages = len(rows) + len(addresses)
    outcome.documents = sum(part.computed for part in parts.made.values())
    outcome.drawn = sum(part.drawn for part in parts.made.values()) + taking.drawn
    site.manifest = manifest_of(inputs, site, lists, histories.keys)
    return site


def _part_hash(slug: str, parts: ModelParts, old: KeptSite) -> str:
    made = parts.made.get(slug)
    return old.parts[slug] if made is None else hash_bytes(made.content)


def log_of(inputs: Inputs, rows: SiteRows, old: KeptSite) -> Log:
    """What is new, with the verdicts that have changed since the last build."""
    before, log = old.manifest.get("verdicts", {}), old.manifest.get("log", [])
    after, grid = rows.letters, [card.slug for card in inputs.cards]
    was = old.manifest.get("grid", grid)
    if was == grid and before.keys() == after.keys():  # all else would come out alike
        before = {slug: letters for slug, letters in before.items() if after[slug] != letters}
        after = {slug: after[slug] for slug in before}
    return whats_new.logged(whats_new.verdicts_of(before, was), whats_new.verdicts_of(after, grid), log)


def running_of(inputs: Inputs, rows: SiteRows, old: KeptSite) -> Running:
    """What fits on each card beside each amount of memory: counted again where a row has changed."""
    found = {}
    for card in inputs.cards:
        known, column = old.manifest.get("running", {}).get(card.slug), rows.column(card.slug)
        if known is not None and known[0] == column:
            found[card.slug] = [{"ram": ram, "fits": fits} for ram, fits in known[1]]
        else:
            found[card.slug] = card_pages.counts(inputs, rows, card)
    return found


@dataclass
class _Taking:
    """Lists on their way into a site: those that ``old`` does not hold as they should be are drawn."""

    inputs: Inputs
    old: KeptSite
    sink: Sink
    site: Site = field(default_factory=Site)
    drawn: int = 0

    def take(self, lists: Iterable[SiteList], jobs: int | None) -> None:
        """Add lists to the site."""
        stale = [page for one in lists for page in self._stale_of(one)]
        self.drawn += len(stale)
        for files in _mapped(partial(files_of, base_url=self.inputs.base_url), stale, jobs):
            for path, content in files.items():
                self._put(path, content)

    def _stale_of(self, one: SiteList) -> Iterator[site_plan.Page]:
        old, site = self.old, self.site
        if old.list_holds(one.name, one.key):
            site.lists[one.name] = old.lists[one.name]
            site.files |= {path: old.files[path] for path in old.lists[one.name]["files"]}
            return
        pages, paths = dict[str, str](), list[str]()
        site.lists[one.name] = {"key": one.key, "pages": pages, "files": paths}
        for made in one.make():
            if isinstance(made, tuple):
                paths.append(made[0])
                self._put(*made)
                continue
            pages[made.address] = made.key
            own = made.files(self.inputs.published)
            paths += own
            if holds(old, made, own):
                site.files |= {path: old.files[path] for path in own}
            else:
                yield made

    def _put(self, path: str, content: bytes) -> None:
        self.site.files[path] = hash_bytes(content)
        if self.sink.put(path, content):
            self.site.changed.append(path)


def holds(old: KeptSite, page: site_plan.Page, paths: Sequence[str]) -> bool:
    """Whether the page stands there and nothing it is made of has changed."""
    return old.list_key(page.address) == page.key and all(map(old.intact, paths))


def manifest_of(inputs: Inputs, site: Site, lists: SiteLists, histories: Mapping[str, str]) -> bytes:
    """The bytes of the manifest: the same inputs give the same ones."""
    running = {
        slug: [lists.rows.column(slug), [[one["ram"], one["fits"]] for one in counts]]
        for slug, counts in lists.running.items()
    }
    manifest = {
        "schema": SCHEMA,
        "base_url": inputs.base_url,
        "engine": inputs.engine,
        "histories": dict(histories),
        "models": inputs.asked[0],
        "cards": inputs.asked[1],
        "grid": [card.slug for card in inputs.cards],
        "verdicts": lists.rows.letters,
        "running": running,
        "log": lists.log,
        "lists": site.lists,
        "parts": site.parts,
        "files": dict(sorted(site.files.items())),
    }
    encoded = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return f"{encoded}\n".encode()


def all_paths(inputs: Inputs, files: Iterable[str]) -> Iterator[str]:
    """Every file of a site, of which ``files`` belong to no model's part."""
    yield from files
    for model in inputs.models:
        yield from part_paths(inputs, model)


def _mapped(work: Callable[[Any], Any], items: list[Any], jobs: int | None) -> Iterator[Any]:
    workers = min(jobs or os.cpu_count() or 1, 8)
    if workers == 1 or len(items) < _POOL_FROM:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, items, chunksize=8)


def refuse_foreign(out: Path) -> None:
    """Raises OptionError for a folder that no build wrote: the first thing that is looked at, before any work."""
    if out.exists() and not out.is_dir():
        raise OptionError(f"--out: {out} is not a folder.")
    if out.is_dir() and any(out.iterdir()) and not is_site(out):
        raise OptionError(f"--out: {out} holds other files and no site; give an empty folder, or one built before.")
