"""SenseNova-U1: recognized by its tensors, whatever a file is called."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from fitcheck.data_files import load
from fitcheck.errors import ModelError
from fitcheck.models.families.base import Family, Found, Listing, Recognized
from fitcheck.models.families.sensenova import catalog
from fitcheck.models.families.sensenova.architecture import (
    SenseNovaArchitecture,
    bf16,
    classify,
    is_sensenova,
    parameters,
    tensor_table,
)
from fitcheck.models.gguf import read_gguf
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import TensorTable

_DISTILLED_STEPS = 8
_FAMILY = "sensenova"
_BETWEEN = re.compile(r"[\s\-_:/]+")


class SenseNova(Family):
    """See ``fitcheck.models.families.base.Family``."""

    name = "sensenova-u1"
    tasks = catalog.TASKS

    def slugs(self) -> tuple[str, ...]:
        """The slugs of the picture models' catalog."""
        return catalog.slugs()

    def first_seen(self, slug: str) -> str | None:
        """As ``data/first_seen.json`` has it, with where that is from."""
        day: str | None = load("models.families.sensenova", "first_seen")["days"].get(slug)
        return day

    def named(self, text: str) -> Model | None:
        """By words of a slug in any order, the family's among them: ``sensenova u1 8b``. Raises ModelError listing
        several."""
        words = set(_BETWEEN.split(text.strip().lower()))
        meant = [slug for slug in self.slugs() if _FAMILY in words and words <= set(slug.split("-"))]
        if len(meant) > 1:
            raise ModelError(f"{text.strip()!r} could be {', '.join(meant)}; name one of them.")
        return self.get(meant[0]) if meant else None

    def get(self, slug: str) -> Model:
        """The model with the tiers that its catalog entry lists."""
        return catalog.get(slug)

    def listed(self) -> list[Listing]:
        """Straight from the data file: no tier's table is made for it, and all hold the same parameters."""
        return [
            Listing(one.slug, one.name, catalog.TASKS, parameters(one.architecture), seen=self.first_seen(one.slug))
            for one in catalog.entries()
        ]

    def classify(self, table: TensorTable) -> TensorTable | None:
        """By upstream's tensor names; ``None`` unless the table has the two branches."""
        return TensorTable(map(classify, table)) if is_sensenova(table) else None

    def recognize(self, found: Found) -> Recognized | None:
        """The catalog model whose shapes the first known tier has, with the tiers that have them too."""
        tiers, models = [], []
        for one in found.tiers:
            known = recognized(one.tier.tensors)
            if known is not None:
                models.append(known[0])
                steps = distilled_steps(one.candidate.files[0])
                tiers.append(replace(one.tier, tensors=known[1], distilled_steps=steps))
        if not models:
            return None
        model = models[0]
        same = tuple(tier for tier, its in zip(tiers, models, strict=True) if its is model)
        notes = (f"Recognized as {model.name} by its tensors.", *model.notes)
        return Recognized(replace(model, notes=notes), same)

    def tier_of_file(self, model: Model, path: str | Path) -> Tier:
        """The GGUF file as a tier of ``model``: the catalog's own where the tensor tables are the same, so that records
        of one are records of the other, else one named after the type that holds most of its bytes.

        Raises InputError when the file cannot be read, is of another architecture, or has other shapes than the model.
        """
        header, name = read_gguf(path), Path(path).name
        table = self.classify(header.tensors)
        if table is None:
            raise ModelError(
                f"--gguf: {name} holds a {header.architecture or 'nameless'} model, not {model.name}; "
                f"check that file by itself with `fitcheck check {name}`."
            )
        _require_shapes(model, table, name)
        same = next((tier.name for tier in model.tiers if _same(tier.tensors, table)), None)
        return Tier(
            name=same or f"{next(iter(table.bytes_by_type))} ({name})",
            tensors=table,
            format="gguf",
            file=name,
            disk_bytes=header.file_bytes or table.nbytes,
            source="the file's own tensor table",
            local_path=str(path),
            distilled_steps=distilled_steps(name),
        )


def _same(known: TensorTable, found: TensorTable) -> bool:
    """Whether both hold the same tensors in the same types. Sizes tell most tables apart without a digest."""
    return known.nbytes == found.nbytes and known.digest == found.digest


def distilled_steps(file: str) -> int | None:
    """The sampling steps that a file's name says its weights are distilled to: "…-8step-Q4_K_S.gguf"."""
    named = re.search(rf"(?<!\d){_DISTILLED_STEPS}step", file.lower())  # "18step" is another number
    return None if named is None else _DISTILLED_STEPS


@cache
def _shapes(architecture: SenseNovaArchitecture) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in tensor_table(architecture, bf16)}


def _require_shapes(model: Model, table: TensorTable, name: str) -> None:
    assert isinstance(model.architecture, SenseNovaArchitecture)
    expected, found = _shapes(model.architecture), {tensor.name: tensor.shape for tensor in table}
    wrong = next((key for key in expected if found.get(key) != expected[key]), None)
    if wrong is not None:
        raise ModelError(
            f"--gguf: {name} is a SenseNova-U1 file but not {model.name}: {wrong} should have shape "
            f"{expected[wrong]} and has {found.get(wrong, 'no entry')}; name the model that it was made from."
        )


def recognized(table: TensorTable) -> tuple[Model, TensorTable] | None:
    """The catalog model that a tensor table is of, with the table's roles and branches set; ``None`` when of none."""
    classified = FAMILY.classify(table)
    if classified is None:
        return None
    shapes = {tensor.name: tensor.shape for tensor in classified}
    for slug in catalog.slugs():
        model = catalog.get(slug)
        assert isinstance(model.architecture, SenseNovaArchitecture)
        if all(shapes.get(name) == shape for name, shape in _shapes(model.architecture).items()):
            return model, classified
    return None


FAMILY = SenseNova()
