"""What a site is built from, read once: models, cards, accepted records, accuracy rows, and digests of all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import CardError, InputError, ModelError, OptionError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards, common_cards, find_card
from fitcheck.models import catalog
from fitcheck.models.find import slug_of
from fitcheck.models.model import Model
from fitcheck.pages import kept_accuracy, kept_figures, wanted
from fitcheck.pages.digests import digest, digest_json
from fitcheck.pages.lending import Lending
from fitcheck.records import run_index
from fitcheck.records.regressions.kept import KeptDecisions, read_kept
from fitcheck.verdict.accuracy import AccuracyRow

# where `fitcheck site serve` shows a site that nobody has said an address for
LOCAL_URL = "http://localhost:8000/"
EXAMPLE_URL = "https://fitcheck.example/"
PUBLISHED = "published"
WANTED = "wanted"
_PACKAGE = Path(__file__).parents[1]
# what a document is computed by, and what a page is drawn with; the index of records counts row by row instead
_ENGINE = (
    "units.py",
    "hardware",
    "models",
    "data_files.py",
    "memory",
    "speed",
    "runtimes",
    "verdict",
    "records",
    "pages",
)
_PAGES = ("units.py", "pages")
_MOST_DIGITS = 9
_NOT_CODE = {"results.json"}
_KINDS = {".py", ".json", ".csv", ".html", ".css", ".js", ".svg"}


@dataclass(frozen=True)
class Inputs:
    """``records`` are JSON documents by ascending id; ``base_url`` ends with a slash. ``left_out`` says of each file
    under the results why it is not on the site; ``asked`` are the words that chose models and cards; ``kept`` are
    pinned baselines and acknowledged changes. ``recorded`` is ``accuracy`` by card, with what it hangs on; ``folder`` a
    site that may have kept what is slow to work out."""

    models: tuple[Model, ...]
    cards: tuple[Card, ...]
    records: tuple[dict[str, Any], ...]
    accuracy: tuple[AccuracyRow, ...]
    base_url: str
    engine: str
    pages: str
    left_out: tuple[str, ...] = field(default=(), compare=False)
    kept: KeptDecisions = field(default_factory=KeptDecisions)
    asked: tuple[str, str] = ("", "")
    recorded: kept_accuracy.Kept = field(default_factory=dict, compare=False)
    folder: Path | None = field(default=None, compare=False)
    _by_card: dict[str, list[dict[str, Any]]] = field(default_factory=dict, compare=False, init=False)
    _by_model: dict[str, list[AccuracyRow]] = field(default_factory=dict, compare=False, init=False)

    @property
    def published(self) -> bool:
        """Whether the site has an address that others can reach, so that links, feeds and pictures of it mean
        something."""
        return self.base_url != LOCAL_URL

    def records_of(self, card: str, model: str | None = None) -> list[dict[str, Any]]:
        """Records of a card, newest first; with ``model`` those of that model alone."""
        if not self._by_card and self.records:
            for record in self.records:
                slug = (record.get("card") or {}).get("slug")
                self._by_card.setdefault(slug or "", []).append(record)
        found = self._by_card.get(card, [])
        if model is not None:
            found = [record for record in found if (record.get("model") or {}).get("slug") == model]
        return newest_first(found)

    def accuracy_of(self, model: Model, records: Sequence[Mapping[str, Any]]) -> tuple[AccuracyRow, ...]:
        """What others published about the model, and ``records`` of it."""
        here = {record["id"] for record in records}
        return tuple(row for row in self._rows_of(model) if row.origin == "published" or row.source in here)

    def _rows_of(self, model: Model) -> Sequence[AccuracyRow]:
        if not self._by_model and self.accuracy:
            for row in self.accuracy:
                self._by_model.setdefault(row.model, []).append(row)
        return self._by_model.get(model.slug, ())

    @cached_property
    def figures(self) -> kept_figures.Figures:
        """Published figures beside the runtimes' own, in sum."""
        return kept_figures.figures_of(self.engine, self.folder)

    @cached_property
    def lending(self) -> Lending:
        """Which records can say anything of a model on a card."""
        return Lending(self.records)

    @cached_property
    def place(self) -> str:
        """The digest of what every page of the site hangs on: its estimator, its address, its models and cards."""
        slugs = [[one.slug for one in part] for part in (self.models, self.cards)]
        return digest([self.engine, self.base_url, digest_json(slugs)])

    @cached_property
    def newest_fact(self) -> str:
        """The day of the newest fact about a card."""
        facts = [fact for card in self.cards for fact in (card.tensor_flops, card.launch_price_usd)]
        return max((fact.date for fact in facts if fact is not None), default="1970-01-01")

    @cached_property
    def recorded_key(self) -> str:
        """The digest of all records."""
        return digest_json(self.records)

    def model_key(self, model: Model) -> str:
        """The digest of all that the pages about a model hang on."""
        own = [record for record in self.records if (record.get("model") or {}).get("slug") == model.slug]
        rows = self._rows_of(model)
        return digest([self.place, model.slug, digest_json(own), repr(rows), self.lending.to_all(self.cards, model)])


def newest_first(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records by ``created``, the latest first; those of one second by ascending id."""
    return sorted(records, key=lambda record: (-record["created"], record["id"]))


def gather(
    results: Path | None,
    cards: str = "common",
    base_url: str = LOCAL_URL,
    models: str = PUBLISHED,
    kept: Path | None = None,
    out: Path | None = None,
) -> Inputs:
    """Read everything. ``models`` are names with commas, among them ``wanted`` (those most asked for), ``published``
    (those whose tiers are files one by one) and ``all``. ``cards`` is ``wanted``, ``common``, ``all``, a number (so
    many of the largest), or names with commas. ``kept`` is a file of pinned baselines and acknowledged changes. ``out``
    is a site that may have kept what the estimator says of each record.

    Records that ``fitcheck validate`` rejects are left out, each alone. Raises InputError for unknown cards, an
    address that is none and a file of pins that cannot be used.
    """
    if not base_url.startswith(("https://", "http://")) or any(c in base_url for c in " \"'<>\n?#"):
        raise OptionError(f"--base-url: {base_url!r} is not an address; write it like {EXAMPLE_URL}.")
    named, chosen = _named(models), _chosen(cards)  # before the records, which take seconds: a slip is told at once
    records, left_out = _records(results)
    engine = digest(_sources(_ENGINE))
    recorded = kept_accuracy.rows_of(run_index.build(records), engine, kept_accuracy.known(out))
    return Inputs(
        models=named,
        cards=chosen,
        records=records,
        accuracy=tuple(row for _, rows in recorded.values() for row in rows),
        recorded=recorded,
        folder=out,
        base_url=base_url.rstrip("/") + "/",
        engine=engine,
        pages=digest(_sources(_PAGES)),
        left_out=left_out,
        kept=KeptDecisions() if kept is None else read_kept(kept),
        asked=(models, cards),
    )


def _named(models: str) -> tuple[Model, ...]:
    names = [name.strip() for name in models.split(",") if name.strip()]
    groups = {PUBLISHED: catalog.published, "all": catalog.slugs, WANTED: wanted_models}
    slugs = [slug for name in names for slug in (groups[name]() if name in groups else (name,))]
    try:
        chosen = tuple(catalog.get(slug) for slug in dict.fromkeys(map(slug_of, slugs)))
    except InputError as error:
        raise ModelError(f"--models: {error}") from error
    if not chosen:
        raise OptionError(f"--models: no model is named; give names like 'flux.1-dev', or {PUBLISHED}.")
    return chosen


def wanted_models() -> tuple[str, ...]:
    """Slugs, the most wanted first."""
    return tuple(one.slug for one in wanted.models())


def _chosen(cards: str) -> tuple[Card, ...]:
    if cards.isdecimal() and len(cards) > _MOST_DIGITS:
        raise OptionError(f"--cards: a number of {len(cards)} digits is more cards than there are; give `all`.")
    if cards == "common":
        return common_cards()
    if cards == WANTED:
        return tuple(find_card(slug) for slug in wanted.cards())
    if cards == "all" or cards.isdecimal():
        able = sorted((card for card in all_cards() if card.memory), key=lambda card: (-card.memory, card.slug))
        chosen = able if cards == "all" else able[: int(cards)]
    else:
        try:
            chosen = [find_card(name) for name in cards.split(",") if name.strip()]
        except InputError as error:
            raise CardError(str(error).replace("--gpu:", "--cards:", 1)) from error
    if not chosen:
        raise OptionError("--cards: no card is named; give names like 'RTX 4070,RTX 4090', a number, common or all.")
    return tuple(dict.fromkeys(chosen))


def _records(results: Path | None) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """(The documents that may be published, why each other file may not)."""
    if results is None or not results.is_dir():
        return (), ()
    from fitcheck.records import store
    from fitcheck.records.validate import accepted

    found, problems = accepted(results)
    documents = sorted((store.document_of(store.seal(record)) for record in found), key=lambda one: str(one["id"]))
    return tuple(documents), tuple(f"{problem.path}: {problem.finding.message}" for problem in problems)


def _sources(places: Sequence[str]) -> Iterator[bytes | str]:
    for place in places:
        root = _PACKAGE / place
        files = [root] if root.is_file() else sorted(root.rglob("*"))
        for path in files:
            if path.suffix in _KINDS and path.name not in _NOT_CODE and path.is_file():
                yield path.relative_to(_PACKAGE).as_posix()
                yield path.read_bytes()
