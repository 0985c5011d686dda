"""Dataclasses whose methods are compiled at their first call behave as the standard library's, class by class."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fitcheck
from fitcheck.dataclass_later import dataclass

Maker = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """At the top of a module, where pickle finds it."""

    size: int
    names: tuple[str, ...] = ()


@pytest.fixture(params=[dataclass, dataclasses.dataclass], ids=["later", "standard"])
def maker(request: pytest.FixtureRequest) -> Maker:
    return request.param  # type: ignore[no-any-return]


def test_defaults_factories_and_fields_that_are_not_passed(maker: Maker) -> None:
    class PlainOne:
        first: int
        second: list[int] = dataclasses.field(default_factory=list)
        third: int = dataclasses.field(default=3, init=False)
        fourth: list[int] = dataclasses.field(default_factory=list, init=False)
        fifth: int = dataclasses.field(default=5, kw_only=True)

    One: Any = maker()(PlainOne)

    one, other = One(1), One(1, fifth=6)
    assert (one.first, one.second, one.third, one.fourth, one.fifth) == (1, [], 3, [], 5)
    assert one.second is not other.second
    assert one != other
    assert One(1) == One(1, [])
    assert re.sub(r"^.*\.", "", repr(other)) == "PlainOne(first=1, second=[], third=3, fourth=[], fifth=6)"
    one.first = 2
    assert one == dataclasses.replace(other, first=2, fifth=5)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    with pytest.raises(TypeError, match="first"):
        One()


@pytest.mark.parametrize("slots", [False, True])
def test_frozen_ones_compare_hash_and_refuse(maker: Maker, slots: bool) -> None:
    class PlainOne:
        first: int
        second: str = dataclasses.field(default="", compare=False)
        third: dict[str, int] = dataclasses.field(default_factory=dict, hash=False)

    One: Any = maker(frozen=True, slots=slots)(PlainOne)

    one = One(1, "a")
    assert one == One(1, "b") != One(2, "a")
    assert hash(one) == hash(One(1, "b", {"x": 1})) == hash((1,))
    assert one != One(1, "a", {"x": 1})
    assert one.__eq__(1) is NotImplemented
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'first'"):
        one.first = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'first'"):
        del one.first
    assert one.first == 1
    assert hasattr(one, "__dict__") is not slots
    assert One.__match_args__ == ("first", "second", "third")


def test_what_a_class_writes_itself_stays(maker: Maker) -> None:
    class PlainOwn:
        first: int
        spelled: str = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "spelled", str(self.first))

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "own"

    Own: Any = maker(frozen=True)(PlainOwn)

    assert (Own(1).spelled, hash(Own(1)), repr(Own(1))) == ("1", 7, "own")
    assert Own(1) == Own(1)


def test_without_eq_each_is_its_own(maker: Maker) -> None:
    class PlainOwn:
        first: int

    Own: Any = maker(frozen=True, eq=False, slots=True)(PlainOwn)

    one = Own(1)
    assert one != Own(1)
    assert {one: 1}[one] == 1


def test_a_class_that_inherits_has_all_fields(maker: Maker) -> None:
    class PlainBase:
        first: int = 1

    Base: Any = maker(frozen=True)(PlainBase)

    class PlainLonger(Base):  # type: ignore[misc]
        second: int = 2

    Longer: Any = maker(frozen=True)(PlainLonger)

    assert (Longer(5).first, Longer(5).second) == (5, 2)
    assert Base(5) != Longer(5)
    assert Base(5) == Base(5)
    assert len({Longer(5), Longer(5, 2), Base(5)}) == 2


@pytest.mark.parametrize("slots", [False, True])
def test_an_instance_of_a_plain_subclass_is_set_and_refuses_too(maker: Maker, slots: bool) -> None:
    class PlainBase:
        first: int
        second: list[int] = dataclasses.field(default_factory=list)
        third: int = dataclasses.field(default=3, init=False)

    Base: Any = maker(frozen=True, slots=slots)(PlainBase)

    class Other(Base):  # type: ignore[misc]
        """With room for more than the fields."""

    for _ in range(2):
        base, other = Base(1), Other(2, [4])
        assert (type(base), type(other)) == (Base, Other)
        assert (other.first, other.second, other.third) == (2, [4], 3)
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'first'"):
            other.first = 5
        other.__dict__["kept"] = 1
        assert dataclasses.replace(other, first=6).second == [4]


def test_copies_and_pickles() -> None:
    one = Kept(3, ("a", "b"))
    assert pickle.loads(pickle.dumps(one)) == copy.copy(one) == copy.deepcopy(one) == one
    assert repr(one) == "Kept(size=3, names=('a', 'b'))"
    assert dataclasses.asdict(one) == {"size": 3, "names": ("a", "b")}


def test_a_method_is_compiled_once() -> None:
    @dataclass(frozen=True)
    class One:
        first: int

    before = vars(One)["__hash__"]
    assert hash(One(1)) == hash((1,))
    compiled = vars(One)["__hash__"]
    assert compiled is not before
    assert hash(One(2)) == hash((2,))
    assert vars(One)["__hash__"] is compiled


def test_every_module_takes_this_one() -> None:
    folder = Path(fitcheck.__file__).parent
    standard = re.compile(r"from dataclasses import .*\bdataclass\b|dataclasses\.dataclass\b")
    found = [path.name for path in folder.rglob("*.py") if standard.search(path.read_text("utf-8"))]
    assert found == ["dataclass_later.py"]
