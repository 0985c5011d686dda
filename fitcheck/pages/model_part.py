"""One model's part of a site: its page on each card, computed where its key has changed, drawn where anything has.

A part is made by one process from beginning to end, because what a model's pages share (its tables, its replays) is
kept there, and because a page names the cards next to its own: documents never leave the process, rows of lists do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import field, replace
from functools import partial
from typing import Any, Protocol

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.models.model import Model
from fitcheck.pages import pairs
from fitcheck.pages.check_page import NearRow, check_page, near_pages, page_key, paths_of
from fitcheck.pages.digests import digest, digest_json
from fitcheck.pages.document import check_document
from fitcheck.pages.kept_site import KeptSite
from fitcheck.pages.other_sizes import tiers_shown
from fitcheck.pages.page import files_of, with_neighbours
from fitcheck.pages.pairs import PairRow, PairsFile
from fitcheck.pages.site_folder import hash_bytes
from fitcheck.pages.site_inputs import Inputs
from fitcheck.records.run_index import Index
from fitcheck.verdict.usual_machine import ask

# below this many models a pool of processes costs more than it saves
_POOL_FROM = 2


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
    others = inputs.accuracy_of(model, ())
    unmeasured = digest_json([]), repr(others)
    for card in inputs.cards:
        own, accuracy, said = inputs.records_of(card.slug, model.slug), others, unmeasured
        if own:
            accuracy = inputs.accuracy_of(model, own)
            said = digest_json(own), repr(accuracy)
        # records of other models and cards count through what they lend this one
        index, lent = inputs.lending.to(card, model)
        key = digest([inputs.engine, inputs.base_url, model.slug, card.slug, lent, *said])
        yield PageQuestion(model, card, key, own, index, accuracy)


@dataclass
class ModelPart:
    """What became of one model: the content of its ``pairs.json``, and what was done for it."""

    content: bytes = b""
    computed: int = 0
    drawn: int = 0
    changed: list[str] = field(default_factory=list)


@dataclass
class _Making:
    """A part while it is made."""

    inputs: Inputs
    old: KeptSite
    sink: Sink
    part: ModelPart = field(default_factory=ModelPart)

    def put(self, path: str, content: bytes) -> str:
        """Hand over a file; its hash."""
        if self.sink.put(path, content):
            self.part.changed.append(path)
        return hash_bytes(content)


def make(slug: str, inputs: Inputs, old: KeptSite, sink: Sink) -> ModelPart:
    """Compute, draw and hand over what is not there as it should be."""
    model = next(one for one in inputs.models if one.slug == slug)
    making, documents = _Making(inputs, old, sink), {}
    known, found = old.pairs(model, inputs.cards), dict[str, PairRow]()
    asked = list(questions(inputs, model))
    for one in asked:
        pair = kept_pair(old, known, one, inputs)
        if pair is None:
            document = documents[one.card.slug] = one.document()
            pair = pairs.pair_of(one.key, document)
            making.part.computed += 1
        found[one.card.slug] = pair
    near = near_pages([pair.row for pair in found.values()])
    for one in asked:
        slug_ = one.card.slug
        found[slug_] = _page(making, one, near[slug_], found[slug_], documents.pop(slug_, None))
    making.part.content = pairs.encode(inputs.model_key(model), found)
    making.put(pairs.path_of(slug), making.part.content)
    return making.part


def kept_pair(old: KeptSite, known: Mapping[str, PairRow], asked: PageQuestion, inputs: Inputs) -> PairRow | None:
    """What is kept of a page, where it still answers the same question and its files are whole."""
    found = known.get(asked.card.slug)
    return found if found and found.key == asked.key and old.holds(asked.address, found, inputs) else None


def _page(
    making: _Making, asked: PageQuestion, near: list[NearRow], pair: PairRow, document: Mapping[str, Any] | None
) -> PairRow:
    """The pair with the key of its page and the hashes of its files, once they are as they should be."""
    key, base_url = page_key(asked.key, near), making.inputs.base_url
    if pair.page == key:
        return pair
    making.part.drawn += 1
    if document is None:  # the answer is the one that was drawn: other cards moved
        name = f"{asked.address}index.html"
        html = with_neighbours(
            asked.model, asked.card, [one.said for one in near], (making.old.root / name).read_bytes()
        )
        return replace(pair, page=key, files=(making.put(name, html), *pair.files[1:]))
    made = files_of(check_page(document, near, key), base_url)
    paths = paths_of(asked.address, making.inputs.published)
    hashes = {path: making.put(path, content) for path, content in made.items()}
    return replace(pair, page=key, files=tuple(hashes[path] for path in paths))


@dataclass
class ModelParts:
    """The parts of all models: their files as they are now, and what was done for those that were made."""

    files: dict[str, PairsFile] = field(default_factory=dict)
    made: dict[str, ModelPart] = field(default_factory=dict)


def make_all(
    inputs: Inputs, old: KeptSite, sink: Sink, jobs: int | None, meanwhile: Callable[[], None] = lambda: None
) -> ModelParts:
    """Every model's part, those that must be made in as many processes as there are cores; ``meanwhile`` is done in
    this one."""
    parts = ModelParts({model.slug: kept for model in inputs.models if (kept := old.part(model, inputs))})
    asked = [model for model in inputs.models if model.slug not in parts.files]
    for model, part in zip(asked, _made(asked, inputs, old, sink, jobs, meanwhile), strict=True):
        parts.made[model.slug] = part
        parts.files[model.slug] = PairsFile.of(model, inputs.cards, part.content)
    return parts


def _made(
    models: Sequence[Model],
    inputs: Inputs,
    old: KeptSite,
    sink: Sink,
    jobs: int | None,
    meanwhile: Callable[[], None],
) -> Iterator[ModelPart]:
    slugs = [model.slug for model in models]
    workers = min(jobs or os.cpu_count() or 1, 8, len(slugs))
    if workers < _POOL_FROM:
        meanwhile()
        yield from (make(slug, inputs, old, sink) for slug in slugs)
        return
    with ProcessPoolExecutor(workers, initializer=_share, initargs=(inputs, old, sink)) as pool:
        found = pool.map(_make_shared, slugs)
        meanwhile()
        yield from found


_SHARED: list[Callable[[str], ModelPart]] = []


def _share(inputs: Inputs, old: KeptSite, sink: Sink) -> None:
    _SHARED[:] = [partial(make, inputs=inputs, old=old, sink=sink)]


def _make_shared(slug: str) -> ModelPart:
    return _SHARED[0](slug)
