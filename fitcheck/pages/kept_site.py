"""The site as the last build left it: its manifest, and what of it is still as it was written.

``manifest.json`` holds the hash of every file but those of pages about one model on one card, whose hashes stand in
their model's ``pairs.json``; the key of every list with those of its pages; and the verdicts that the last build told.
Nothing in it is believed that is not of the kind that a build writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fitcheck.hardware.card import Card
from fitcheck.models.model import Model
from fitcheck.pages import pairs
from fitcheck.pages.check_page import paths_of
from fitcheck.pages.file_memory import FileMemory
from fitcheck.pages.formats import WORDS
from fitcheck.pages.pairs import PairRow, PairsFile
from fitcheck.pages.site_folder import MANIFEST, hash_file, read
from fitcheck.pages.site_inputs import LOCAL_URL, Inputs

SCHEMA = "fitcheck.site/4"
# the group of files whose hashes the manifest has itself
OWN = ""
_BROKEN = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)


class KeptSite:
    """A site that stands in ``root``. With ``memory`` a file is not read again that the machine knows to be as it
    was."""

    def __init__(self, root: Path, manifest: Mapping[str, Any], memory: FileMemory | None = None) -> None:
        self.root = root
        self.manifest = manifest
        self.files: dict[str, str] = manifest.get("files", {})
        self.parts: dict[str, str] = manifest.get("parts", {})
        self.lists: dict[str, Any] = manifest.get("lists", {})
        self._pages = {address: key for one in self.lists.values() for address, key in one["pages"].items()}
        self._memory = memory
        self._intact: dict[tuple[str, str | None], bool] = {}
        self._all_intact = memory is not None and memory.holds(
            OWN, hash_file(root / MANIFEST) or "", sorted(self.files)
        )

    def intact(self, path: str) -> bool:
        """Whether a file is there as it was written."""
        return path in self.files if self._all_intact else self._is(path, self.files.get(path))

    def _is(self, path: str, known: str | None) -> bool:
        if (path, known) not in self._intact:
            self._intact[path, known] = known is not None and hash_file(self.root / path) == known
        return self._intact[path, known]

    def list_key(self, address: str) -> str | None:
        """The key by which a page of a list was drawn."""
        return self._pages.get(address)

    def part(self, model: Model, inputs: Inputs) -> PairsFile | None:
        """The model's part, where it answers the same questions still and all of its files are as they were
        written."""
        path, known = pairs.path_of(model.slug), self.parts.get(model.slug)
        if known is None:
            return None
        try:
            found = self._opened(path, model, inputs.cards)
            if found.key != inputs.model_key(model):
                return None
            if self._memory is not None and self._memory.holds(path, known, part_paths(inputs, model)):
                return found
            return found if self._is(path, known) and self._whole(found, inputs, model) else None
        except (*_BROKEN, OSError):
            return None

    def _opened(self, path: str, model: Model, cards: Sequence[Card]) -> PairsFile:
        with (self.root / path).open("rb") as file:
            head = file.readline()

        def rest() -> bytes:
            return (self.root / path).read_bytes()[len(head) :]

        return PairsFile(model, cards, head, rest)

    def _whole(self, found: PairsFile, inputs: Inputs, model: Model) -> bool:
        return all(
            self.holds(f"check/{model.slug}/{card.slug}/", found.pair(card.slug), inputs) for card in inputs.cards
        )

    def holds(self, address: str, pair: PairRow, inputs: Inputs) -> bool:
        """Whether the files of a page about one model on one card are as its pair says."""
        paths = paths_of(address, inputs.published)
        return len(paths) == len(pair.files) and all(map(self._is, paths, pair.files))

    def pairs(self, model: Model, cards: Sequence[Card]) -> dict[str, PairRow]:
        """What was kept of the model's cards; nothing where that is not as it was written."""
        path = pairs.path_of(model.slug)
        if not self._is(path, self.parts.get(model.slug)):
            return {}
        try:
            return PairsFile.of(model, cards, (self.root / path).read_bytes()).pairs()
        except _BROKEN:
            return {}

    def list_holds(self, name: str, key: str) -> bool:
        """Whether a list is drawn by this key and its files are as they were written."""
        one = self.lists.get(name)
        return one is not None and one["key"] == key and all(map(self.intact, one["files"]))

    def gone(self, inputs: Inputs, files: Iterable[str]) -> set[str]:
        """Paths that the last build wrote and that are none of this one's, of which ``files`` belong to no model's
        part."""
        gone, grid = set(self.files) - set(files), [card.slug for card in inputs.cards]
        published = self.manifest.get("base_url") != LOCAL_URL
        if (grid, published) != (self.manifest["grid"], inputs.published):
            gone.update(_paths(self.parts, self.manifest["grid"], published))
        gone.update(_paths(self.parts.keys() - {model.slug for model in inputs.models}, grid, published))
        return gone - {path for model in inputs.models for path in part_paths(inputs, model)} if gone else gone


def _paths(models: Iterable[str], cards: Sequence[str], published: bool) -> Iterator[str]:
    for model in models:
        yield pairs.path_of(model)
        for card in cards:
            yield from paths_of(f"check/{model}/{card}/", published)


def part_paths(inputs: Inputs, model: Model) -> Iterator[str]:
    """Every file of a model's part of the site."""
    return _paths([model.slug], [card.slug for card in inputs.cards], inputs.published)


def kept_site(root: Path, memory: FileMemory | None = None) -> KeptSite:
    """The site as it stands in ``root``; an empty one where there is none that can be believed."""
    manifest = manifest_of(root)
    return KeptSite(root, manifest if _is_sound(manifest) else {}, memory)


def manifest_of(root: Path) -> dict[str, Any]:
    """The manifest in ``root`` as it was read, of whatever schema; empty where there is none."""
    content = read(root / MANIFEST)
    if content is None:
        return {}
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def older_files(root: Path) -> set[str]:
    """Paths that a manifest of any schema lists, though of an older one nothing else is believed."""
    data = manifest_of(root)
    files = data.get("files")
    of_a_site = str(data.get("schema")).startswith(SCHEMA.partition("/")[0])
    return set(files) if of_a_site and isinstance(files, dict) else set()


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether the parts of a manifest are of the kinds that a build writes."""
    dicts = [manifest.get(name) for name in ("files", "parts", "lists", "verdicts", "running")]
    sequences = [manifest.get(name) for name in ("log", "grid")]
    if manifest.get("schema") != SCHEMA or not _all(dict, dicts) or not _all(list, sequences):
        return False
    lists, grid = manifest["lists"].values(), manifest["grid"]
    return (
        _all(str, [*manifest["files"].values(), *manifest["parts"].values(), *grid])
        and _all(dict, [*lists, *manifest["log"]])
        and all(map(_is_list, lists))
        and all(_is_verdicts(one, len(grid)) for one in manifest["verdicts"].values())
    )


def _is_verdicts(letters: Any, count: int) -> bool:
    return isinstance(letters, str) and len(letters) == count and WORDS.keys() >= set(letters)


def _all(kind: type, values: Sequence[Any]) -> bool:
    return all(isinstance(value, kind) for value in values)


def _is_list(one: dict[str, Any]) -> bool:
    pages, files = one.get("pages"), one.get("files")
    if not isinstance(one.get("key"), str) or not isinstance(pages, dict) or not isinstance(files, list):
        return False
    return _all(str, [*pages.values(), *files])


def said_of(root: Path) -> dict[str, str]:
    """What the site in ``root`` was built for: its ``base_url``, and the words that chose ``models`` and ``cards``."""
    manifest = kept_site(root).manifest
    return {name: manifest[name] for name in ("base_url", "models", "cards") if isinstance(manifest.get(name), str)}
