"""One model's part of a site: its page on each card, computed where its key has changed, drawn where anything has.

A part is made by one process from beginning to end, because what a model's pages share (its tables, its replays) is
kept there, and because a page names the cards next to its own: documents never leave the process, rows of lists do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.models.model import Model
from fitcheck.pages import pairs
from fitcheck.pages.check_page import NearRow, check_page, near_pages, page_key, paths_of
from fitcheck.pages.digests import digest, digest_json
from fitcheck.pages.document import check_document
from fitcheck.pages.other_sizes import tiers_shown
from fitcheck.pages.page import files_of, with_neighbours
from fitcheck.pages.pairs import KeptPairs, PairRow
from fitcheck.pages.site_folder import hash_bytes, hash_file
from fitcheck.pages.site_inputs import Inputs
from fitcheck.records.run_index import Index
from fitcheck.verdict.usual_machine import ask

_BROKEN = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)
# below this many models a pool of processes costs more than it saves
_POOL_FROM = 2
# pages whose keys and hashes one process looks through in about a second
_LARGE = 3000


class Sink(Protocol):
    """Where files go. ``put`` says whether what stood there differed."""

    def put(self, path: str, content: bytes) -> bool:
        """Take the bytes of a file."""


@dataclass(frozen=True)
class PageQuestion:
    """A model on a card: ``key`` changes with anything that its answer hangs on."""

    model: Model
    card: Card
    key: str
    records: list[dict[str, Any]]
    index: Index
    accuracy: tuple[Any, ...]

    @property
    def address(self) -> str:
        """Where the page stands."""
        return f"check/{self.model.slug}/{self.card.slug}/"

    def document(self) -> dict[str, Any]:
        """The whole answer: what the page is drawn from."""
        asked = ask(self.model, self.card, self.index, tiers_shown(self.model))
        return check_document(asked, self.records, self.accuracy)


def questions(inputs: Inputs, model: Model) -> Iterator[PageQuestion]:
    """The question of each page about the model."""
    for card in inputs.cards:
        own, accuracy = inputs.records_of(card.slug, model.slug), inputs.accuracy_of(model, card.slug)
        # records of other models and cards count through what they lend this one
        index, lent = inputs.lent(card, model)
        asked = [inputs.engine, inputs.base_url, model.slug, card.slug]
        key = digest([*asked, digest_json(own), lent, repr(accuracy)])
        yield PageQuestion(model, card, key, own, index, accuracy)


class Old:
    """The site as it stands: its manifest, and whether files are still as they were written."""

    def __init__(self, root: Path, manifest: Mapping[str, Any]) -> None:
        self.root = root
        self.manifest = manifest
        self.pages: dict[str, Any] = self.manifest.get("pages", {})
        self.files: dict[str, str] = self.manifest.get("files", {})
        self._intact: dict[str, bool] = {}

    def intact(self, path: str) -> bool:
        """Whether a file is there as it was written."""
        if path not in self._intact:
            known = self.files.get(path)
            self._intact[path] = known is not None and hash_file(self.root / path) == known
        return self._intact[path]

    def pairs(self, model: Model, cards: Sequence[Card]) -> KeptPairs:
        """What was kept of the model's cards; nothing where that is not as it was written."""
        path = pairs.path_of(model.slug)
        if not self.intact(path):
            return KeptPairs()
        try:
            return pairs.decode((self.root / path).read_bytes(), model, cards)
        except _BROKEN:
            return KeptPairs()

    def pair(self, asked: PageQuestion, known: KeptPairs, published: bool) -> PairRow | None:
        """What is kept of a page, where it still answers the same question and its files are whole."""
        found = known.rows.get(asked.card.slug)
        if found is None or found.key != asked.key or not all(map(self.intact, paths_of(asked.address, published))):
            return None
        return found


@dataclass
class ModelPart:
    """What became of one model: the row of each card for lists, keys of pages and hashes of files."""

    pairs: dict[str, PairRow] = field(default_factory=dict)
    pages: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    computed: int = 0
    drawn: int = 0
    changed: list[str] = field(default_factory=list)


def make(slug: str, inputs: Inputs, old: Old, sink: Sink) -> ModelPart:
    """Compute, draw and hand over what is not there as it should be."""
    model = next(one for one in inputs.models if one.slug == slug)
    part, documents = ModelPart(), {}
    known = old.pairs(model, inputs.cards)
    asked = list(questions(inputs, model))
    for one in asked:
        pair = old.pair(one, known, inputs.published)
        if pair is None:
            document = documents[one.card.slug] = one.document()
            pair = pairs.pair_of(one.key, document)
            part.computed += 1
        part.pairs[one.card.slug] = pair
    near = near_pages([pair.row for pair in part.pairs.values()])
    for one in asked:
        _page(one, near[one.card.slug], documents.pop(one.card.slug, None), inputs, old, part, sink)
    if part.computed or not known.whole:
        _put(part, sink, pairs.path_of(slug), pairs.encode(part.pairs))
    else:  # as it was written, which ``old`` has looked at
        part.files[pairs.path_of(slug)] = old.files[pairs.path_of(slug)]
    return part


def _page(
    asked: PageQuestion,
    near: list[NearRow],
    document: Mapping[str, Any] | None,
    inputs: Inputs,
    old: Old,
    part: ModelPart,
    sink: Sink,
) -> None:
    key, own = page_key(inputs, asked.key, near)
    before = old.pages.get(asked.address)
    paths = paths_of(asked.address, inputs.published)
    part.pages[asked.address] = {"key": key, "own": own}
    if document is None and before is not None and before["own"] == own:
        part.files.update({path: old.files[path] for path in paths})
        if before["key"] != key:
            name, said = paths[0], [one.said for one in near]
            _put(part, sink, name, with_neighbours(asked.model, asked.card, said, (old.root / name).read_bytes()))
            part.drawn += 1
        return
    page = check_page(inputs, document or asked.document(), near, key, own)
    for path, content in files_of(page, inputs.base_url).items():
        _put(part, sink, path, content)
    part.drawn += 1


def _put(part: ModelPart, sink: Sink, path: str, content: bytes) -> None:
    part.files[path] = hash_bytes(content)
    if sink.put(path, content):
        part.changed.append(path)


def make_all(inputs: Inputs, old: Old, sink: Sink, jobs: int | None) -> dict[str, ModelPart]:
    """The part of every model, in as many processes as there are cores, in the order of the models."""
    slugs = [model.slug for model in inputs.models]
    workers = min(jobs or os.cpu_count() or 1, 8, len(slugs))
    if workers < _POOL_FROM or not _is_much(inputs, old):
        return {slug: make(slug, inputs, old, sink) for slug in slugs}
    with ProcessPoolExecutor(workers, initializer=_share, initargs=(inputs, old, sink)) as pool:
        return dict(zip(slugs, pool.map(_make_shared, slugs), strict=True))


def _is_much(inputs: Inputs, old: Old) -> bool:
    """Whether the work is worth other processes: a site of which little is kept, or a large one."""
    kept = all(pairs.path_of(model.slug) in old.files for model in inputs.models)
    many = len(inputs.models) * len(inputs.cards) > _LARGE
    return many or not kept or old.manifest.get("engine") != inputs.engine


_SHARED: list[Callable[[str], ModelPart]] = []


def _share(inputs: Inputs, old: Old, sink: Sink) -> None:
    _SHARED[:] = [partial(make, inputs=inputs, old=old, sink=sink)]


def _make_shared(slug: str) -> ModelPart:
    return _SHARED[0](slug)
