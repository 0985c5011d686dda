"""``dataclass`` as the standard library's, whose methods are compiled when they are first called.

The standard one writes up to six methods a class as text and compiles them while the module is imported. A check of a
language model imports 149 such classes and calls 143 of their 871 methods; compiling the others took a quarter of the
whole answer. Frozen instances are set up quicker, too. Fields, slots, defaults and ``replace`` are still the standard
library's own. What differs: instances of a subclass of a frozen class are frozen too, whatever the subclass is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

Method = Callable[..., Any]
Text = tuple[str, dict[str, Any]]  # of a method, and what it reads by name
_SELF = "self"  # no field is called so


def _later_dataclass(
    cls: type | None = None,
    /,
    *,
    eq: bool = True,
    frozen: bool = False,
    slots: bool = False,
    kw_only: bool = False,
) -> Any:
    """A dataclass of these parameters, which mean what they mean to ``dataclasses.dataclass``."""

    def made(cls: type) -> type:
        own = frozenset(vars(cls))
        found: type = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
        methods: dict[str, Any] = {
            "__init__": _compiled_later(found, "__init__", _frozen_init_text if frozen else _init_text),
            "__repr__": _represented,
        }
        if eq:
            methods["__eq__"] = _compiled_later(found, "__eq__", _eq_text)
            if vars(found).get("__hash__") is None:
                methods["__hash__"] = _compiled_later(found, "__hash__", _hash_text) if frozen else None
        if frozen:
            methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        if frozen and slots:
            methods |= {"__getstate__": _state, "__setstate__": _put_state}
        for name, method in methods.items():
            if name not in own or name == "__hash__":
                setattr(found, name, method)
        return found

    return made if cls is None else made(cls)


def _compiled_later(owner: type, name: str, text_of: Callable[[type], Text]) -> Method:
    """A method that at its first call compiles the text, takes its own place with that and calls it."""

    def first(self: object, *args: object, **named: object) -> Any:
        text, names = text_of(owner)
        exec(text, names)  # noqa: S102 - of names of fields alone
        method: Method = names[name]
        method.__qualname__ = f"{owner.__qualname__}.{name}"
        if vars(owner)[name] is first:
            setattr(owner, name, method)
        return method(self, *args, **named)

    return first


def _frozen_init_text(owner: type) -> Text:
    """Fields are set while the instance is of a class of the same layout that lets them be set: through
    ``object.__setattr__`` each takes as long as five of them do so, and half a million are set in one command."""
    parameters, prepared, fields, names = _passed(owner)
    names |= {"_own": owner, "_open": _open_like(owner), "_class": _SET_CLASS, "_of_another": _setting(fields)}
    openly = ["_class(self, _open)", *(f"self.{name} = {name}" for name in fields), "_class(self, _own)"]
    branches = ["if self.__class__ is _own:", *map(_indented, openly), "else: _of_another(self, locals())"]
    return _function("__init__", parameters, [*prepared, *branches, *_finish(owner)]), names


def _init_text(owner: type) -> Text:
    parameters, prepared, fields, names = _passed(owner)
    body = [*prepared, *(f"self.{name} = {name}" for name in fields), *_finish(owner)]
    return _function("__init__", parameters, body or ["pass"]), names


def _setting(fields: list[str]) -> Callable[[object, dict[str, Any]], None]:
    """What sets the fields of an instance of a subclass, whose layout may be another one."""

    def of_another(self: object, values: dict[str, Any]) -> None:
        for name in fields:
            object.__setattr__(self, name, values[name])

    return of_another


_SET_CLASS = vars(object)["__class__"].__set__


def _open_like(owner: type) -> type:
    """A class whose instances differ from those of ``owner`` in that their fields can be set."""
    own = {name: vars(owner)[name] for name in ("__slots__", "__orig_bases__") if name in vars(owner)}
    return type(owner)(owner.__name__, owner.__bases__, {**own, "__setattr__": object.__setattr__})


def _finish(owner: type) -> list[str]:
    return ["self.__post_init__()"] if hasattr(owner, "__post_init__") else []


def _passed(owner: type) -> tuple[str, list[str], list[str], dict[str, Any]]:
    """Parameters of ``__init__``, lines that give every field a value of its name, the fields, and what is read by
    name."""
    names: dict[str, Any] = {"_MISSING": dataclasses.MISSING}
    plain: list[str] = [_SELF]
    named: list[str] = []
    prepared: list[str] = []
    fields: list[str] = []
    for one in dataclasses.fields(owner):
        default = value = ""
        if one.default_factory is not dataclasses.MISSING:
            names[f"_made_{one.name}"] = one.default_factory
            default, value = "=_MISSING", f"{one.name} = _made_{one.name}()"
        elif one.default is not dataclasses.MISSING:
            names[f"_default_{one.name}"] = one.default
            default = f"=_default_{one.name}"
        if one.init:
            (named if one.kw_only else plain).append(f"{one.name}{default}")
            prepared += [f"if {one.name} is _MISSING: {value}"] if value else []
        elif default:
            prepared.append(value or f"{one.name} {default}")
        else:
            continue  # set by __post_init__
        fields.append(one.name)
    return ", ".join([*plain, *(["*", *named] if named else [])]), prepared, fields, names


def _indented(line: str) -> str:
    return f"    {line}"


def _eq_text(owner: type) -> Text:
    compared = [one.name for one in dataclasses.fields(owner) if one.compare]
    alike = f"{_together(_SELF, compared)} == {_together('other', compared)}"
    return _function(
        "__eq__", "self, other", [f"return {alike} if other.__class__ is self.__class__ else NotImplemented"]
    ), {}


def _hash_text(owner: type) -> Text:
    counted = [one.name for one in dataclasses.fields(owner) if (one.compare if one.hash is None else one.hash)]
    return _function("__hash__", _SELF, [f"return hash({_together(_SELF, counted)})"]), {}


def _function(name: str, parameters: str, body: list[str]) -> str:
    return "\n    ".join([f"def {name}({parameters}):", *body])


def _together(owner: str, names: list[str]) -> str:
    """A tuple of attributes, as text."""
    return f"({''.join(f'{owner}.{name},' for name in names)})"


@recursive_repr()
def _represented(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in dataclasses.fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in dataclasses.fields(self)]


def _put_state(self: Any, state: list[Any]) -> None:
    for one, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


if TYPE_CHECKING:  # a type checker knows the standard one best
    from dataclasses import dataclass
else:
    dataclass = _later_dataclass
__all__ = ["dataclass"]
