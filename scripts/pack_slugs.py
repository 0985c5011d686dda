"""Writes which family has which catalog model, so that a look-up by name imports one family: ``python
scripts/pack_slugs.py``, after a catalog's names changed."""

from __future__ import annotations

import json

from fitcheck.data_files import path_of
from fitcheck.models.families import registry


def slugs_by_family() -> dict[str, list[str]]:
    """Every slug of the catalog, in lower case as they are looked up."""
    return {name: sorted(registry.get(name).slugs()) for name in registry.MODULES if registry.get(name).slugs()}


if __name__ == "__main__":
    path_of("models.families", "slugs.json").write_text(json.dumps(slugs_by_family(), indent=1) + "\n", "utf-8")
