"""What is installed with fitcheck: every licence allows it, and the known-good set fits what is declared."""

from __future__ import annotations

import importlib.metadata as metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# permissive, or copyleft of files only (MPL): all of them let an Apache-2.0 program depend on them
ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla Public|Zlib|CC0|BSL-1\.0|CNRI|HPND|Unlicense"
)
FORBIDDEN = re.compile(r"\b(?:A?GPL|LGPL|SSPL|BUSL|Proprietary|Commons Clause|NonCommercial)", re.IGNORECASE)


def declared(extras: tuple[str, ...] = ("results", "html", "site", "bench", "mcp")) -> Iterator[Requirement]:
    """What the base install and these extras ask for, fitcheck's own extras aside."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return (one for one in map(Requirement, lines) if one.name != PROJECT["name"])


def installed() -> dict[str, metadata.Distribution]:
    """Every distribution that the declared ones bring along, by its name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [one.name for one in declared()]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that this machine lacks
        asked = map(Requirement, found[name].requires or [])
        waiting += [one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def licence(distribution: metadata.Distribution) -> str:
    def stated(field: str) -> list[str]:
        return distribution.metadata.get_all(field) or []

    classified = [c for c in stated("Classifier") if c.startswith("License ::")]
    return "; ".join(stated("License-Expression") or classified) or "".join(stated("License")).strip()[:200]


def test_every_licence_is_one_that_allows_it() -> None:
    found = installed()
    assert len(found) > 20
    said = {name: licence(one) for name, one in found.items()}
    # NVIDIA's libraries come with torch's CUDA builds under NVIDIA's own terms, and are no part of fitcheck
    judged = {name: text for name, text in said.items() if not name.startswith("nvidia-") or name == "nvidia-ml-py"}
    assert {name: text for name, text in judged.items() if not ALLOWED.search(text) or FORBIDDEN.search(text)} == {}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("requirement", list(declared()), ids=lambda one: one.name)
def test_the_known_good_set_is_allowed(requirement: Requirement) -> None:
    assert requirement.specifier.contains(constraints()[canonicalize_name(requirement.name)], prereleases=True)
    assert requirement.specifier, "a floor is declared"
