"""What the tests of SenseNova share: a model's own shape behind the protocol that every family has."""

from __future__ import annotations

from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.model import Model


def shape_of(model: Model) -> SenseNovaArchitecture:
    """The architecture of a catalog model of the family."""
    assert isinstance(model.architecture, SenseNovaArchitecture)
    return model.architecture
