"""Data classes whose methods are made when they are first called.

``dataclasses.dataclass`` compiles up to seven methods for every class while its module is imported, a millisecond each
time: a quarter of a cold ``fitcheck check``, for methods of which most are never called. This ``dataclass`` lets the
library collect the fields, so that ``fields``, ``replace`` and ``asdict`` know the class, compiles ``__init__`` for the
first instance, and compares, hashes and prints by the names of the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from operator import attrgetter
from reprlib import recursive_repr
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
    made: dict[str, Any] = {"__init__": _init_of(cls), "__repr__": _repr}
    if eq:
        made |= _compared(cls, hashed=frozen)
    if frozen:
        made |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        if slots:  # a copy or a pickle would set its slots one by one
            made |= {"__getstate__": _state, "__setstate__": _restore}
    for name, method in made.items():
        if name not in own:
            setattr(cls, name, method)
    return cls  # type: ignore[no-any-return]


def _init_of(cls: Any) -> Callable[..., None]:
    """What takes the place of ``__init__`` until there is a first instance."""

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        cls.__init__ = made = _compiled_init(cls)
        made(self, *values, **named)

    return __init__


def _compiled_init(cls: Any) -> Callable[..., None]:
    """``__init__`` with a parameter for each field, as the library writes it."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    plain: list[str] = []
    by_name: list[str] = []
    body: list[str] = []
    for one in fields(cls):
        value, parameter = one.name, one.name
        if one.default_factory is not MISSING:
            known[f"_make_{one.name}"] = one.default_factory
            parameter += "=_missing"
            value = f"_make_{one.name}() if {one.name} is _missing else {one.name}"
        elif one.default is not MISSING:
            known[f"_default_{one.name}"] = one.default
            parameter += f"=_default_{one.name}"
        (by_name if one.kw_only else plain).append(parameter)
        body.append(f"_set(self, {one.name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join(["self", *plain, *(["*", *by_name] if by_name else [])])
    exec(f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"]), known)  # noqa: S102 - of names of fields
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _compared(cls: Any, *, hashed: bool) -> dict[str, Any]:
    """Instances of one class are equal when their fields are; those that cannot be changed are hashed by them too."""
    compared = tuple(one.name for one in fields(cls) if one.compare)
    by_hash = tuple(one.name for one in fields(cls) if (one.compare if one.hash is None else one.hash))
    values = _values_of(compared)
    hash_values = values if by_hash == compared else _values_of(by_hash)

    def __eq__(self: Any, other: object) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(hash_values(self))

    return {"__eq__": __eq__, "__hash__": __hash__ if hashed else None}


def _values_of(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """The values of these attributes, one after the other."""
    return attrgetter(*names) if names else lambda _: ()


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
