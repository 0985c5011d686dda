"""Whether a folder is the current site, in seconds: keys and hashes of everything, and a few pages made anew.

Every page's key is computed again from code, data and records and compared with the manifest's; every file is compared
with its hash. What keys cannot see, a change of a library or of Python, is looked for in a sample that is computed and
drawn anew; which pages it holds moves with the code, so that builds in a row look at others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fitcheck.pages import site_plan, whats_new
from fitcheck.pages.build import (
    MANIFEST,
    BuildOutcome,
    Old,
    PairEntry,
    assemble,
    compute,
    histories_of,
    pages_of,
    questions,
    singles,
)
from fitcheck.pages.charts import share
from fitcheck.pages.check_page import check_page
from fitcheck.pages.page import files_of
from fitcheck.pages.site_folder import read
from fitcheck.pages.site_inputs import Inputs

# pages made anew: of one model on one card, which are computed too, and of the others
SAMPLE, LISTS = 3, 24


def check(inputs: Inputs, out: Path, *, everything: bool = False) -> BuildOutcome:
    """Compare: ``stale`` and ``strays`` are empty when ``out`` is the site of ``inputs``. ``everything`` makes all of
    it anew in memory, in minutes."""
    outcome, old = BuildOutcome(), Old(out)
    known = _compare_all(inputs, out, old, outcome) if everything else _compare_keys(inputs, old, outcome)
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} if out.is_dir() else set()
    outcome.strays = sorted(present - known - {MANIFEST})
    return outcome


def _compare_all(inputs: Inputs, out: Path, old: Old, outcome: BuildOutcome) -> set[str]:
    made: dict[str, bytes] = {}
    fresh = Old(Path("/dev/null"))
    fresh.manifest = {name: old.manifest[name] for name in ("verdicts", "log") if name in old.manifest}
    manifest, _ = assemble(inputs, fresh, outcome, None, made.__setitem__)
    outcome.stale += [path for path, content in made.items() if _differs(out, path, content)]
    there = read(out / MANIFEST)
    if there is None or _without_hashes(there) != _without_hashes(manifest):
        outcome.stale.append(MANIFEST)
    return set(made)


def _compare_keys(inputs: Inputs, old: Old, outcome: BuildOutcome) -> set[str]:
    asked = list(questions(inputs))
    twins = {place: old.twin(address, key, inputs.published) for place, address, key, _ in asked}
    lost = [address for place, address, *_ in asked if twins[place] is None]
    if lost:
        # what lists say cannot be known without these; files that are none of this site's are told all the same
        outcome.stale += [f"{address}index.html" for address in lost]
        return set(old.files)
    entries = {place: PairEntry.of(key, twins[place] or {}) for place, _, key, _ in asked}
    verdicts = {one.twin["address"]: one.row["verdict"] for one in entries.values()}
    log = whats_new.logged(old.manifest.get("verdicts", {}), verdicts, old.manifest.get("log", []))
    histories = histories_of(inputs, old)
    pages = list(pages_of(inputs, entries, log, histories))
    outcome.pages = len(pages)
    for page in pages:
        if not old.holds(page, inputs.published):
            bad = [path for path in page.files(inputs.published) if not old.intact(path)]
            outcome.stale += bad or [f"{page.address}index.html"]
    known = {path for page in pages for path in page.files(inputs.published)}
    for path, content in singles(inputs, pages, log, entries, histories):
        known.add(path)
        if _differs(old.root, path, content):
            outcome.stale.append(path)
    gone = [path for path in old.files if path not in known]
    outcome.stale += [MANIFEST] if gone or set(known) != set(old.files) else []
    chosen = _spread([one[1] for one in asked], SAMPLE, inputs.engine)
    _sample(inputs, old, outcome, pages, {one[1]: one for one in asked if one[1] in chosen})
    return known


def _sample(
    inputs: Inputs, old: Old, outcome: BuildOutcome, pages: list[site_plan.Page], again: Mapping[str, Any]
) -> None:
    """Compute and draw a few pages anew; those that differ in any byte are stale."""
    drawn = _spread([page.address for page in pages if page.document is not None], LISTS, inputs.engine)
    for page in pages:
        if page.address in again:
            *_, key, job = again[page.address]
            page = check_page(inputs, compute(job), page.near, key, whole=True)
        elif page.address not in drawn:
            continue
        outcome.documents += page.address in again
        outcome.drawn += 1
        for path, content in files_of(page, inputs.base_url).items():
            if _differs(old.root, path, content) and path not in outcome.stale:
                outcome.stale.append(path)


def _spread(addresses: list[str], count: int, seed: str) -> set[str]:
    def place(address: str) -> str:
        return hashlib.sha256(f"{seed}{address}".encode()).hexdigest()

    return set(sorted(addresses, key=place)[:count])


_SCATTER = re.compile(rb'<svg[^>]* data-key="([0-9a-f]+)".*?</svg>', re.DOTALL)


def _differs(out: Path, path: str, content: bytes) -> bool:
    there = read(out / path)
    return there is None or comparable(path, there) != comparable(path, content)


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
