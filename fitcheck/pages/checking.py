"""Whether a folder is the current site, in seconds: keys and hashes of everything, and a few pages made anew.

Every page's key is computed again from code, data and records and compared with the manifest's; every file is compared
with its hash. What keys cannot see, a change of a library or of Python, is looked for in a sample that is computed and
drawn anew; which pages it holds moves with the code, so that builds in a row look at others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.pages import pairs, regressions, site_plan, whats_new
from fitcheck.pages.build import BuildOutcome, assemble, holds, lists_of, old_site, singles, verdicts_of
from fitcheck.pages.charts import share
from fitcheck.pages.check_page import NearRow, check_page, near_pages, page_key, paths_of
from fitcheck.pages.model_part import Old, PageQuestion, questions
from fitcheck.pages.page import files_of
from fitcheck.pages.site_folder import MANIFEST, read
from fitcheck.pages.site_inputs import Inputs

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
    outcome, old = BuildOutcome(), old_site(out)
    known = _compare_all(inputs, out, old, outcome) if everything else _compare_keys(inputs, old, outcome)
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} if out.is_dir() else set()
    outcome.strays = sorted(present - known - {MANIFEST})
    return outcome


def _compare_all(inputs: Inputs, out: Path, old: Old, outcome: BuildOutcome) -> set[str]:
    kept = {name: old.manifest[name] for name in ("verdicts", "log") if name in old.manifest}
    manifest, files, changed = assemble(inputs, Old(Path("/dev/null"), kept), outcome, None, Comparing(out))
    outcome.stale += changed
    there = read(out / MANIFEST)
    if there is None or _without_hashes(there) != _without_hashes(manifest):
        outcome.stale.append(MANIFEST)
    return set(files)


@dataclass(frozen=True)
class _Pages:
    """The pages about one model on one card as their keys say them: question, row and neighbours by address."""

    asked: dict[str, PageQuestion]
    rows: dict[tuple[str, str], Mapping[str, Any]]
    near: dict[str, list[NearRow]]
    lost: list[str]


def _pages_kept(inputs: Inputs, old: Old) -> _Pages:
    found = _Pages({}, {}, {}, [])
    for model in inputs.models:
        known = old.pairs(model, inputs.cards)
        asked = list(questions(inputs, model))
        for one in asked:
            pair = old.pair(one, known, inputs.published)
            found.asked[one.address] = one
            if pair is None:
                found.lost.append(one.address)
            else:
                found.rows[model.slug, one.card.slug] = pair.row
        rows = [found.rows[model.slug, one.card.slug] for one in asked if (model.slug, one.card.slug) in found.rows]
        near = near_pages(rows)
        found.near.update({one.address: near.get(one.card.slug, []) for one in asked})
    return found


def _compare_keys(inputs: Inputs, old: Old, outcome: BuildOutcome) -> set[str]:
    kept = _pages_kept(inputs, old)
    if kept.lost:
        # what lists say cannot be known without these; files that are none of this site's are told all the same
        outcome.stale += [f"{address}index.html" for address in kept.lost]
        return set(old.files)
    log = whats_new.logged(old.manifest.get("verdicts", {}), verdicts_of(kept.rows), old.manifest.get("log", []))
    histories = regressions.histories_of(inputs, old)
    lists = list(lists_of(inputs, kept.rows, log, histories))
    outcome.pages = len(lists) + len(kept.asked)
    for address, one in kept.asked.items():
        if old.pages.get(address, {}).get("key") != page_key(inputs, one.key, kept.near[address])[0]:
            outcome.stale.append(f"{address}index.html")
    for page in lists:
        if not holds(old, page, inputs.published):
            bad = [path for path in page.files(inputs.published) if not old.intact(path)]
            outcome.stale += bad or [f"{page.address}index.html"]
    known = {path for address in kept.asked for path in paths_of(address, inputs.published)}
    known |= {path for page in lists for path in page.files(inputs.published)}
    known |= {pairs.path_of(model.slug) for model in inputs.models}
    addresses = [*kept.asked, *(page.address for page in lists)]
    for path, content in singles(inputs, addresses, log, kept.rows, histories):
        known.add(path)
        if _differs(old.root, path, content):
            outcome.stale.append(path)
    outcome.stale += [MANIFEST] if known != set(old.files) else []
    _sample(inputs, old, outcome, lists, kept)
    return known


def _sample(inputs: Inputs, old: Old, outcome: BuildOutcome, lists: list[site_plan.Page], kept: _Pages) -> None:
    """Compute and draw a few pages anew; those that differ in any byte are stale."""
    again = []
    for address in sorted(_spread([*kept.asked], SAMPLE, inputs.engine)):
        asked, near = kept.asked[address], kept.near[address]
        again.append(check_page(inputs, asked.document(), near, *page_key(inputs, asked.key, near)))
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
    """Bytes without what only differs between versions of a drawing library: pictures count by what they show."""
    return (share.key_of(content) or "").encode() if path.endswith(".png") else content


def _without_hashes(manifest: bytes) -> Any:
    try:
        data = json.loads(manifest)
        return {**data, "files": sorted(data["files"])}
    except (ValueError, KeyError, TypeError):
        return None
