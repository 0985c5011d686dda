"""``fitcheck.dataclass`` beside the library's own, and that modules of the package use it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from dataclasses import FrozenInstanceError, asdict, astuple, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pytest

import fitcheck
from fitcheck.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """Slots, defaults, a factory and a field outside the hash."""

    size: ClassVar[int] = 2
    x: int
    y: int = 0
    tags: tuple[str, ...] = field(default_factory=tuple)
    seen: dict[str, int] = field(default_factory=dict, hash=False)
    note: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x")


@dataclass(frozen=True)
class Child:
    """No slots, a value worked out once."""

    name: str

    @cached_property
    def loud(self) -> str:
        """In capitals."""
        return self.name.upper()


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """By name alone."""

    low: int = 1
    high: int


@dataclass(slots=True)
class Open:
    """May change."""

    values: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Same:
    """Told apart by identity."""

    value: int


@dataclass(frozen=True, slots=True)
class Own:
    """Brings its own hash."""

    value: int

    def __hash__(self) -> int:
        return 7


@dataclass(frozen=True, slots=True)
class Later:
    """Sets a field itself."""

    value: int
    twice: int = field(init=False, compare=False)
    kept: int = field(default=3, init=False)
    made: dict[str, int] = field(default_factory=dict, init=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.value)


def library(cls: Any, **options: Any) -> Any:
    """The same fields as the library makes them."""
    spec = [(one.name, one.type, copy.copy(one)) for one in fields(cls)]
    return dataclasses.make_dataclass(cls.__name__, spec, **options)


def test_it_does_what_the_library_does() -> None:
    ours, theirs = Point(1, tags=("a",), note="n"), library(Point, frozen=True)(1, tags=("a",), note="n")
    assert (repr(ours), asdict(ours), astuple(ours)) == (repr(theirs), asdict(theirs), astuple(theirs))
    assert hash(ours) == hash(theirs)
    assert [one.name for one in fields(Point)] == ["x", "y", "tags", "seen", "note"]
    assert Point(1) == Point(1, note="other") != Point(2)
    assert Point(1) != Child("1")  # type: ignore[comparison-overlap]
    assert replace(Point(1), y=3) == Point(1, 3)
    assert Point(1).seen is not Point(1).seen


@pytest.mark.parametrize("one", [Point(1, seen={"a": 1}), Child("a"), Named(high=2), Open([1]), Own(1)])
def test_copies_and_pickles_are_equal(one: object) -> None:
    assert copy.copy(one) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one


def test_what_is_frozen_stays() -> None:
    for one in (Point(1), Child("a"), Same(1)):
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
            setattr(one, "x", 2)  # noqa: B010
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
            delattr(one, "x")
    changed = Open()
    changed.values = [1]
    assert changed == Open([1])


def test_own_methods_identity_and_values_worked_out_later() -> None:
    assert hash(Own(1)) == 7
    assert Same(1) != Same(1)
    assert Child("a").loud == "A"
    assert Child.__hash__ is not None
    assert Open.__hash__ is None
    with pytest.raises(AttributeError):
        object.__setattr__(Point(1), "other", 1)


@pytest.mark.parametrize(
    ("cls", "values", "named"), [(Point, (), {}), (Point, (1,), {"other": 2}), (Named, (1,), {}), (Named, (), {})]
)
def test_wrong_arguments_are_refused_the_first_time_too(cls: Any, values: Any, named: Any) -> None:
    with pytest.raises(TypeError, match=r"__init__\(\)"):
        cls(*values, **named)


def test_a_field_without_a_parameter_has_its_default_or_is_set_later() -> None:
    made = Later(2)
    assert (made.twice, made.kept, made.made, replace(Later(1), value=2)) == (4, 3, {}, made)
    assert Later(1).made is not Later(1).made
    with pytest.raises(TypeError, match="argument"):
        Later(1, 2)  # type: ignore[call-arg]


def test_what_follows_the_fields_is_called() -> None:
    with pytest.raises(ValueError, match="x"):
        Point(-1)


def test_the_package_uses_it_everywhere() -> None:
    folder = Path(fitcheck.__file__).parent
    plain = re.compile(r"^from dataclasses import .*\bdataclass\b", re.MULTILINE)
    found = [file for file in folder.rglob("*.py") if plain.search(file.read_text(encoding="utf-8"))]
    assert found == []
