"""Whether a folder is the current site, in seconds: keys and hashes of everything, and a few pages made anew.

Every page's key is computed again from code, data and records and compared with the manifest's; every file is compared
with its hash. What keys cannot see, a change of a library or of Python, is looked for in a sample that is computed and
drawn anew; which pages it holds moves with the code, so that builds in a row look at others.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import field
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.pages import pairs, site_plan
from fitcheck.pages.build import BuildOutcome, Site, all_paths, assemble, holds, log_of, manifest_of, running_of
from fitcheck.pages.charts import share
from fitcheck.pages.check_page import NearRow, check_page, near_pages, page_key
from fitcheck.pages.kept_site import KeptSite, kept_site
from fitcheck.pages.model_part import PageQuestion, kept_pair, questions
from fitcheck.pages.page import files_of
from fitcheck.pages.pairs import PairsFile
from fitcheck.pages.regressions import HistoriesAtNeed
from fitcheck.pages.site_folder import MANIFEST, read
from fitcheck.pages.site_inputs import Inputs
from fitcheck.pages.site_lists import RecordLists, SiteList, SiteLists
from fitcheck.pages.site_rows import SiteRows

# pages made anew: of one model on one card, which are computed too, and of the others
SAMPLE, LISTS = 3, 24


@dataclass(frozen=True)
class Comparing:
    """What a check makes anew is compared with what stands there."""

    out: Path

    def put(self, path: str, content: bytes) -> bool:
        """Whether there is something else."""
        return _differs(self.out, path, content)


def check(inputs: Inputs, out: Path, *, everything: bool = False) -> BuildOutcome:
    """Compare: ``stale`` and ``strays`` are empty when ``out`` is the site of ``inputs``. ``everything`` makes all of
    it anew in memory, in minutes."""
    outcome, old = BuildOutcome(), kept_site(out)
    known = _compare_all(inputs, out, old, outcome) if everything else _compare_keys(inputs, old, outcome)
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} if out.is_dir() else set()
    outcome.strays = sorted(present - known - {MANIFEST})
    return outcome


def _compare_all(inputs: Inputs, out: Path, old: KeptSite, outcome: BuildOutcome) -> set[str]:
    kept = {name: old.manifest[name] for name in ("grid", "verdicts", "log") if name in old.manifest}
    site = assemble(inputs, KeptSite(Path(os.devnull), kept), outcome, None, Comparing(out))
    outcome.stale += site.changed
    _compare_manifest(out, site.manifest, outcome)
    return set(all_paths(inputs, site.files))


def _compare_manifest(out: Path, manifest: bytes, outcome: BuildOutcome) -> None:
    there = read(out / MANIFEST)
    if there is None or _without_hashes(there) != _without_hashes(manifest):
        outcome.stale.append(MANIFEST)


@dataclass
class _Pages:
    """The pages about one model on one card as their keys say them: question and neighbours by address, each model's
    file, and pages of which nothing is known."""

    asked: dict[str, PageQuestion] = field(default_factory=dict)
    near: dict[str, list[NearRow]] = field(default_factory=dict)
    files: dict[str, PairsFile] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def _pages_kept(inputs: Inputs, old: KeptSite, outcome: BuildOutcome) -> _Pages:
    found = _Pages()
    for model in inputs.models:
        known, asked = old.pairs(model, inputs.cards), list(questions(inputs, model))
        held = {one.card.slug: pair for one in asked if (pair := kept_pair(old, known, one, inputs))}
        near = near_pages([pair.row for pair in held.values()])
        for one in asked:
            found.asked[one.address] = one
            if one.card.slug not in held:
                found.lost.append(one.address)
                continue
            found.near[one.address] = near[one.card.slug]
            if held[one.card.slug].page != page_key(one.key, near[one.card.slug]):
                outcome.stale.append(f"{one.address}index.html")
        if len(held) == len(asked):
            content = pairs.encode(inputs.model_key(model), held)
            outcome.stale += [path for path in [pairs.path_of(model.slug)] if _differs(old.root, path, content)]
            found.files[model.slug] = PairsFile.of(model, inputs.cards, content)
    return found


def _compare_keys(inputs: Inputs, old: KeptSite, outcome: BuildOutcome) -> set[str]:
    kept = _pages_kept(inputs, old, outcome)
    if kept.lost:
        # what lists say cannot be known without these; files that are none of this site's are told all the same
        outcome.stale += [f"{address}index.html" for address in kept.lost]
        return set(all_paths(inputs, old.files))
    rows = SiteRows(inputs, kept.files)
    running = running_of(inputs, rows, KeptSite(Path(os.devnull), {}))
    lists, histories = SiteLists(inputs, rows, running, log_of(inputs, rows, old)), HistoriesAtNeed(inputs, old)
    site, pages = Site(parts=old.parts), list[site_plan.Page]()
    for one in (*RecordLists(inputs, histories).all(), *lists.all()):
        pages += _compare_list(one, inputs, old, site, outcome)
    _compare_list(lists.map([page.address for page in pages]), inputs, old, site, outcome)
    outcome.pages = len(pages) + len(kept.asked)
    _compare_manifest(old.root, manifest_of(inputs, site, lists, histories.keys), outcome)
    _sample(inputs, old, outcome, pages, kept)
    return set(all_paths(inputs, site.files))


def _compare_list(
    one: SiteList, inputs: Inputs, old: KeptSite, site: Site, outcome: BuildOutcome
) -> list[site_plan.Page]:
    """The pages of a list; what of it is not there as it should be is stale."""
    pages, paths = [], []
    for made in one.make():
        if isinstance(made, tuple):
            paths.append(made[0])
            outcome.stale += [made[0]] if _differs(old.root, *made) else []
            continue
        pages.append(made)
        own = made.files(inputs.published)
        paths += own
        if not holds(old, made, own):
            outcome.stale += [path for path in own if not old.intact(path)] or [f"{made.address}index.html"]
    site.lists[one.name] = {"key": one.key, "pages": {page.address: page.key for page in pages}, "files": paths}
    site.files |= dict.fromkeys(paths, "")
    return pages


def _sample(inputs: Inputs, old: KeptSite, outcome: BuildOutcome, lists: list[site_plan.Page], kept: _Pages) -> None:
    """Compute and draw a few pages anew; those that differ in any byte are stale."""
    again = []
    for address in sorted(_spread([*kept.asked], SAMPLE, inputs.engine)):
        asked, near = kept.asked[address], kept.near[address]
        again.append(check_page(asked.document(), near, page_key(asked.key, near)))
    drawn = _spread([page.address for page in lists], LISTS, inputs.engine)
    outcome.documents += len(again)
    for page in [*again, *(page for page in lists if page.address in drawn)]:
        outcome.drawn += 1
        for path, content in files_of(page, inputs.base_url).items():
            if _differs(old.root, path, content) and path not in outcome.stale:
                outcome.stale.append(path)


def _spread(addresses: list[str], count: int, seed: str) -> set[str]:
    def place(address: str) -> str:
        return hashlib.sha256(f"{seed}{address}".encode()).hexdigest()

    return set(sorted(addresses, key=place)[:count])


def _differs(out: Path, path: str, content: bytes) -> bool:
    there = read(out / path)
    return there is None or comparable(path, there) != comparable(path, content)


def comparable(path: str, content: bytes) -> bytes:
    """Bytes without what only differs between versions of a drawing library: pictures count by what they show, and the
    hashes of files by the files."""
    if path.endswith("/pairs.json"):
        return pairs.without_hashes(content)
    return (share.key_of(content) or "").encode() if path.endswith(".png") else content


def _without_hashes(manifest: bytes) -> Any:
    try:
        data = json.loads(manifest)
        return {**data, "files": sorted(data["files"]), "parts": sorted(data["parts"])}
    except (ValueError, KeyError, TypeError):
        return None
