"""How options are read and refused, at their edges."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from fitcheck.errors import OptionError
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.options import between, flag, lower, names, option, read, refuse_foreign, usual
from fitcheck.units import parse_size


@dataclass(frozen=True)
class Some:
    mode: tuple[str, ...] = option((), "Modes.", parse=names)
    sizes: tuple[tuple[int, int], ...] = option(
        (), "Sizes.", parse=lambda texts: tuple(parse_size(text, "--sizes") for text in texts), many=True
    )
    policy: str = option("plain", "A name.", parse=lower)
    steps: int = option(4, "Steps.", type=int)


def test_what_is_typed_is_parsed_and_what_is_typed_already_passes() -> None:
    found = read(Some, Wanted().with_(mode="Low, FULL,,", sizes=["64x32", "8x8"], policy="Ring", steps=9))
    assert found == Some(("low", "full"), ((64, 32), (8, 8)), "ring", 9)
    assert read(Some, Wanted().with_(mode=["Low"], sizes=[(64, 32)])) == Some(("low",), ((64, 32),))
    assert read(Some, Wanted().with_(sizes=[])).sizes == ()
    assert read(Some, Wanted().with_(another=1)) == Some()


@pytest.mark.parametrize(("value", "allowed"), [(1, False), (2, True), (5, True), (6, False), (None, True)])
def test_the_ends_of_a_range_are_in_it(value: int | None, allowed: bool) -> None:
    if allowed:
        between("toy_ahead", value, 2, 5)
    else:
        with pytest.raises(OptionError, match=f"--toy-ahead: {value} is out of range; give 2 to 5"):
            between("toy_ahead", value, 2, 5)


def test_the_usual_value_is_the_default_of_that_option() -> None:
    assert [usual(Some, name) for name in ("steps", "policy", "nothing")] == [4, "plain", None]
    assert flag("n_cpu_moe") == "--n-cpu-moe"


def test_who_else_has_an_option_is_named() -> None:
    """Only options that are given and that nobody in play has are refused."""

    @dataclass(frozen=True)
    class Other:
        ctx: int = option(1, "Context.", type=int)
        steps: int = option(1, "Steps.", type=int)

    mine, other = SimpleNamespace(name="mine", options=Some), SimpleNamespace(name="other", options=Other)
    refuse_foreign(Wanted().with_(steps=3), [mine], [mine, other], "it")
    refuse_foreign(Wanted().with_(ctx=3), [mine, other], [mine, other], "it")
    with pytest.raises(OptionError, match=r"--ctx is an option of other; it runs with mine\."):
        refuse_foreign(Wanted().with_(ctx=3), [mine], [mine, other], "it")
    third = SimpleNamespace(name="third", options=Other)
    with pytest.raises(OptionError, match=r"--ctx is an option of other, third and third;"):
        refuse_foreign(Wanted().with_(ctx=3), [mine], [mine, other, third, third], "it")
    with pytest.raises(OptionError, match=r"--none is not an option; it runs with mine or other\."):
        refuse_foreign(Wanted().with_(none=3), [mine, other], [mine, other], "it")


def test_options_that_are_read_without_their_runtime_are_the_runtimes_own() -> None:
    assert set(registry.OPTIONS) <= set(registry.names())
    for name in registry.names():
        assert registry.options_of(name) is registry.get(name).options
