"""Data classes whose methods are made when they are first called.

``dataclasses.dataclass`` compiles up to seven methods for every class while its module is imported, a millisecond each
time: a quarter of a cold ``fitcheck check``, for methods of which most are never called. This ``dataclass`` lets the
library collect the fields, so that ``fields``, ``replace`` and ``asdict`` know the class, and compiles the methods that
somebody calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from reprlib import recursive_repr
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, slots=False, kw_only=False):
        """As ``dataclasses.dataclass``, for the arguments that this project uses."""

        def made(plain):
            return _completed(plain, frozen=frozen, eq=eq, slots=slots, kw_only=kw_only)

        return made if cls is None else made(cls)


def _completed(plain: type, *, frozen: bool, eq: bool, slots: bool, kw_only: bool) -> type:
    """The class with its fields known to ``dataclasses`` and its methods in place, but for those that it has itself."""
    import dataclasses

    own = frozenset(vars(plain))
    cls: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(plain)
    made: dict[str, Any] = {"__init__": _later(cls, "__init__", _init_source), "__repr__": _repr}
    if eq:
        made["__eq__"] = _later(cls, "__eq__", _eq_source)
        made["__hash__"] = _later(cls, "__hash__", _hash_source) if frozen else None
    if frozen:
        made |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        if slots:  # a copy or a pickle would set its slots one by one
            made |= {"__getstate__": _state, "__setstate__": _restore}
    for name, method in made.items():
        if name not in own:
            setattr(cls, name, method)
    return cls  # type: ignore[no-any-return]


def _later(cls: Any, name: str, source_of: Callable[[Any, dict[str, Any]], str]) -> Callable[..., Any]:
    """What stands in for a method until it is first called, and is then replaced by what its source compiles to."""

    def stand_in(*values: Any, **named: Any) -> Any:
        known: dict[str, Any] = {}
        exec(source_of(cls, known), known)  # noqa: S102 - of names of fields
        made: Callable[..., Any] = known[name]
        made.__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, made)
        return made(*values, **named)

    return stand_in


def _init_source(cls: Any, known: dict[str, Any]) -> str:
    """``__init__`` with a parameter for each field, and in ``known`` what it names."""
    known |= {"_set": object.__setattr__, "_missing": MISSING}
    plain: list[str] = []
    by_name: list[str] = []
    body: list[str] = []
    for one in fields(cls):
        value, parameter = one.name, one.name
        if one.default_factory is not MISSING:
            known[f"_make_{one.name}"] = one.default_factory
            parameter += "=_missing"
            value = (
                f"_make_{one.name}() if {one.name} is _missing else {one.name}" if one.init else f"_make_{one.name}()"
            )
        elif one.default is not MISSING:
            known[f"_default_{one.name}"] = one.default
            parameter += f"=_default_{one.name}"
            value = one.name if one.init else f"_default_{one.name}"
        elif not one.init:  # what follows the fields sets it
            continue
        if one.init:
            (by_name if one.kw_only else plain).append(parameter)
        slot = getattr(cls, one.name, None)
        if cls.__setattr__ is object.__setattr__:
            body.append(f"self.{one.name} = {value}")
        elif isinstance(slot, MemberDescriptorType):  # half the time of going through the object
            known[f"_set_{one.name}"] = slot.__set__
            body.append(f"_set_{one.name}(self, {value})")
        else:
            body.append(f"_set(self, {one.name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join(["self", *plain, *(["*", *by_name] if by_name else [])])
    return f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"])


def _eq_source(cls: Any, _known: dict[str, Any]) -> str:
    """Instances of one class are equal when their fields are."""
    names = [one.name for one in fields(cls) if one.compare]
    return (
        "def __eq__(self, other):\n if other.__class__ is self.__class__:\n"
        f"  return {_values('self', names)} == {_values('other', names)}\n return NotImplemented"
    )


def _hash_source(cls: Any, _known: dict[str, Any]) -> str:
    names = [one.name for one in fields(cls) if (one.compare if one.hash is None else one.hash)]
    return f"def __hash__(self):\n return hash({_values('self', names)})"


def _values(thing: str, names: list[str]) -> str:
    return "(" + "".join(f"{thing}.{name}, " for name in names) + ")"


@recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{self.__class__.__qualname__}({shown})"


def _refuse_to_set(_self: Any, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for one, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)
