"""Every list of the site with the key of all that it is made of: where that is as it was, nobody asks for its pages.

A list is a page, or the parts of one, or files that programs read. Its key is made of digests (of rows, records, the
log), so that to know that it is current takes no row; the key of each of its pages then says which must be drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

from fitcheck.dataclass_later import dataclass
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
from fitcheck.pages.card_pages import Running
from fitcheck.pages.digests import digest, digest_json
from fitcheck.pages.page import missing_page
from fitcheck.pages.render import static
from fitcheck.pages.site_inputs import Inputs
from fitcheck.pages.site_plan import Page
from fitcheck.pages.site_rows import SiteRows

STATIC = ("site.css", "site.js", "icon.svg")
# the list of all addresses, which is made when all others are known
MAP = "sitemap"

Made = Page | tuple[str, bytes]
Log = list[Mapping[str, Any]]


@dataclass(frozen=True)
class SiteList:
    """``make`` gives the pages of a list, and path and bytes of its other files."""

    name: str
    key: str
    make: Callable[[], Iterable[Made]]


def _listed(inputs: Inputs, name: str, parts: Iterable[str], make: Callable[[], Iterable[Made]]) -> SiteList:
    return SiteList(name, digest([inputs.place, name, *parts]), make)


@dataclass(frozen=True)
class RecordLists:
    """The lists that no answer is needed for: of records, of how numbers are made, and files that are always there."""

    inputs: Inputs
    histories: regressions.HistoriesAtNeed

    def all(self) -> Iterator[SiteList]:
        """Every such list."""
        inputs, records = self.inputs, self.inputs.recorded_key
        yield _listed(inputs, "fixed", [], self._fixed)
        yield _listed(inputs, "results/", [records], lambda: record_pages.result_pages(inputs))
        yield _listed(inputs, "accuracy/", [records, repr(inputs.accuracy)], self._accuracy)
        yield _listed(inputs, regressions.ADDRESS, [self.histories.key], self._regressions)

    def _fixed(self) -> Iterator[Made]:
        """What hangs on nothing but the estimator and the address."""
        inputs = self.inputs
        yield record_pages.method_page(inputs)
        for name in STATIC:
            yield f"static/{name}", static(name).encode()
        yield entry.PATH, entry.index(inputs.cards, inputs.models)
        yield "404.html", missing_page(inputs.base_url).encode()
        if inputs.published:
            yield "robots.txt", feed.robots(inputs.base_url)

    def _accuracy(self) -> Iterator[Made]:
        inputs = self.inputs
        yield record_pages.accuracy_page(inputs)
        yield kept_accuracy.PATH, kept_accuracy.encode(inputs.recorded)
        yield kept_figures.PATH, kept_figures.encode(inputs.engine, inputs.figures)

    def _regressions(self) -> Iterator[Made]:
        told = self.histories.found
        yield from regressions.regression_pages(self.inputs, told.found)
        yield f"{regressions.ADDRESS}feed.xml", regressions.atom(self.inputs, told.found)
        yield regressions.PROMISES, told.promises


@dataclass(frozen=True)
class SiteLists:
    """The lists of answers. ``running`` is what fits on each card (``card_pages.counts``)."""

    inputs: Inputs
    rows: SiteRows
    running: Running
    log: Log

    def all(self) -> Iterator[SiteList]:
        """Every such list but the map of the site."""
        yield from self._of_models()
        yield from self._of_cards()
        yield from self._of_pairs()
        yield from self._of_all()

    def _list(self, name: str, parts: Iterable[str], make: Callable[[], Iterable[Made]]) -> SiteList:
        return _listed(self.inputs, name, parts, make)

    @cached_property
    def _verdicts(self) -> str:
        return digest_json(self.rows.letters)

    def _of_models(self) -> Iterator[SiteList]:
        for model in self.inputs.models:
            make = partial(self._model, model.slug)
            yield self._list(f"check/{model.slug}/", [self.rows.facts(model.slug).rows], make)

    def _model(self, slug: str) -> Iterator[Made]:
        model = next(one for one in self.inputs.models if one.slug == slug)
        return site_plan.model_pages(self.inputs, model, self.rows.of_model(slug))

    def _of_cards(self) -> Iterator[SiteList]:
        near = card_pages.near_of(self.inputs, self.running)
        for card in self.inputs.cards:
            parts = self.rows.column(card.slug), digest_json(near[card.slug]), self._measured(card.slug)
            yield self._list(f"cards/{card.slug}/", parts, partial(self._card, card.slug, near[card.slug]))

    def _card(self, slug: str, near: card_pages.Near) -> Iterator[Made]:
        card = next(one for one in self.inputs.cards if one.slug == slug)
        return card_pages.card_pages(self.inputs, self.rows, card, self.running, near, self._served)

    @cached_property
    def _served(self) -> card_pages.Served:
        return card_pages.served_by(self.inputs.models)

    def _measured(self, card: str) -> str:
        return digest_json(self.inputs.records_of(card))

    def _of_pairs(self) -> Iterator[SiteList]:
        for pair in compare_pages.pairs_of(self.inputs):
            columns = [self.rows.column(card) for card in (pair.first, pair.second)]
            make = partial(compare_pages.pair_pages, self.inputs, self.rows, pair)
            yield self._list(pair.address, columns, make)

    def _of_all(self) -> Iterator[SiteList]:
        inputs, rows, verdicts = self.inputs, self.rows, self._verdicts
        shown = site_plan.shown_card(inputs).slug
        popular = [rows.digest_of(model.slug, shown) for model in inputs.models[: site_plan.POPULAR]]
        counts = digest_json([len(inputs.records_of(card.slug)) for card in inputs.cards])
        running = digest_json(self.running)
        yield self._list("home", [verdicts, *popular], lambda: [site_plan.home_page(inputs, rows, rows.verdicts)])
        yield self._list("check/", [verdicts, digest_json(self._asked)], self._table)
        yield self._list("cards/", [verdicts, counts], lambda: site_plan.cards_pages(inputs, rows.verdicts))
        yield self._list("compare/", [running], lambda: [compare_pages.compares_page(inputs, self.running)])
        yield self._list("contribute/", [rows.whole], lambda: [record_pages.contribute_page(inputs, rows)])
        yield self._list("changes/", [inputs.recorded_key, digest_json(self.log)], self._news)

    def _table(self) -> Iterator[Made]:
        yield site_plan.table_page(self.inputs, self.rows.verdicts, self._asked)

    @property
    def _asked(self) -> list[list[Any]]:
        return [one for model in self.inputs.models for one in self.rows.facts(model.slug).asked]

    def _news(self) -> Iterator[Made]:
        yield whats_new.changes_page(self.inputs, self.log)
        yield from feed.feeds(self.inputs, self.log, whats_new.names_of(self.inputs, self.log))

    def map(self, addresses: Iterable[str]) -> SiteList:
        """The map of a published site, of the addresses of its lists; without one of its own it has none."""
        inputs, of_lists = self.inputs, sorted(addresses)

        def make() -> Iterator[Made]:
            if inputs.published:
                yield "sitemap.xml", feed.sitemap(inputs.base_url, [*of_lists, *self._pages()])

        return self._list(MAP, of_lists, make)

    def _pages(self) -> Iterator[str]:
        return (f"check/{model}/{card}/" for model, card in self.rows)
