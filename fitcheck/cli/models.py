"""``fitcheck models``: the catalog."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fitcheck.cli.consoles import bare_table, console

if TYPE_CHECKING:
    from fitcheck.models.families.base import Listing
    from fitcheck.models.model import Model

_LONGEST_FILTER = 120


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck models``; the command raises ModelError for a filter that no model matches."""

    @app.command()
    def models(
        filter_: Annotated[
            str | None,
            typer.Argument(
                metavar="[FILTER]",
                help="Words that must all occur, like 'qwen3 30b' or 'video'; of a whole name the tiers are listed.",
            ),
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """The models that fitcheck knows by name, or those that match a filter; of a single one its tiers."""
        from fitcheck.models import catalog
        from fitcheck.models.families import registry as families

        def by_rule(model: Model) -> bool:
            return families.get(model.architecture.family).by_rule

        found = [catalog.get(slug) for slug in _matching(filter_ or "")]
        if json_:
            rows: list[dict[str, Any]] = [
                {
                    "slug": model.slug,
                    "name": model.name,
                    "parameters": model.tiers[0].tensors.elements,
                    "licence": model.licence,
                    "repository": model.repository,
                    "tasks": [str(task) for task in model.tasks],
                    "tiers": [
                        {
                            "name": tier.name,
                            "file": tier.file,
                            "repository": tier.repository,
                            "disk": tier.disk_bytes,
                            "published": tier.published,
                            # of tiers by a rule there are thousands, and to make their tables takes a minute
                            "types": None if by_rule(model) else tier.tensors.bytes_by_type,
                        }
                        for tier in model.tiers
                    ],
                }
                for model in found
            ]
            print(json.dumps(rows, indent=2))
            return
        named = [model for model in found if filter_ is not None and model.slug == filter_.strip().lower()]
        if named:
            _show_tiers(named[0])
        else:
            _show_list(found)


def _show_list(found: Sequence[Model]) -> None:
    """One row a model, with the smallest and the largest of its tiers."""
    table = bare_table("model", "parameters", "licence", "tasks", "tiers", "GB on disk")
    for model in found:
        sizes = sorted(tier.disk_bytes for tier in model.tiers)
        span = _gb(sizes[0]) if len(sizes) == 1 else f"{_gb(sizes[0])} – {_gb(sizes[-1])}"
        table.add_row(*_about(model), str(len(sizes)), span)
    console().print(table)
    print("`fitcheck models` with one of these names lists its tiers.", file=sys.stderr)


def _show_tiers(model: Model) -> None:
    """The model, and one row a tier."""
    console().print(", ".join(_about(model)))
    table = bare_table("tier", "GB on disk", "repository", "file")
    for tier in model.tiers:
        where = tier.repository or "" if tier.published else "unpublished: to be made from the original weights"
        table.add_row(tier.name, _gb(tier.disk_bytes), where, tier.file or "")
    console().print(table)


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f}"


def _about(model: Model) -> tuple[str, str, str, str]:
    parameters = f"{model.tiers[0].tensors.elements / 1e9:.2f} B"
    return model.slug, parameters, model.licence, ", ".join(map(str, model.tasks))


def _matching(text: str) -> list[str]:
    """Slugs of the models whose slug, name or tasks hold every word. Raises ModelError when none does."""
    from fitcheck.errors import ModelError
    from fitcheck.models import catalog

    words = text[:_LONGEST_FILTER].lower().split()
    found = [one.slug for one in catalog.listed() if all(word in _searched(one) for word in words)]
    if not found:
        raise ModelError(
            f"FILTER: no model matches {text[:_LONGEST_FILTER]!r}; use fewer or shorter words, like 'qwen'."
        )
    return found


def _searched(one: Listing) -> str:
    return " ".join((one.slug, one.name, *map(str, one.tasks), *(str(task.produces) for task in one.tasks))).lower()
