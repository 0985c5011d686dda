"""``fitcheck models``: the catalog."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
            typer.Argument(metavar="[FILTER]", help="Words that must all occur, like 'qwen3 30b' or 'video'."),
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """The models that fitcheck knows by name, or those that match a filter, with their tiers."""
        from rich.table import Table

        from fitcheck.cli.consoles import console
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
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("model", "parameters", "licence", "tasks", "tiers (GB on disk)"):
            table.add_column(name)
        for model in found:
            tiers = ", ".join(
                f"{tier.name} {tier.disk_bytes / 1e9:.1f}{'' if tier.published else ' unpublished'}"
                for tier in model.tiers
            )
            parameters = f"{model.tiers[0].tensors.elements / 1e9:.2f} B"
            table.add_row(model.slug, parameters, model.licence, ", ".join(map(str, model.tasks)), tiers)
        console().print(table)


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
