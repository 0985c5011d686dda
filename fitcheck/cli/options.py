"""The options of a question: what every check takes, and what each runtime declares, as one typer command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, field, fields
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from fitcheck.cli.grouped import BARE_FILE, BARE_NUMBER, GroupedCommand
from fitcheck.cli.pcie import parse_pcie
from fitcheck.dataclass_later import dataclass
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.options import Option, declared, flag, lower
from fitcheck.units import parse_disk, parse_memory

if TYPE_CHECKING:
    from fitcheck.hardware.machine import Machine
    from fitcheck.verdict.report import Report


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """The options of one check as typed; every command that asks about a cell takes all of them. ``options`` are those
    of the runtimes that were given, by name."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A catalog model (`fitcheck models` lists them), a GGUF or safetensors file or folder, org/repo, "
            "org/repo:file.gguf or a URL.",
        ),
    ]
    gpu: Annotated[
        list[str] | None,
        typer.Option("--gpu", "-g", help="Card, like 'RTX 4070' or '2x RTX 3090'; repeatable; default: the one here."),
    ] = None
    tier: Annotated[str | None, typer.Option("--tier", "-t", help="Tiers, comma separated, like Q4_K_S,Q6_K.")] = None
    gguf: Annotated[Path | None, typer.Option("--gguf", help="A local GGUF file as the tier.")] = None
    task: Annotated[
        str | None, typer.Option("--task", help="What the model is asked to do; default: what it is made for.")
    ] = None
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="The program that runs it; default: the model's own.")
    ] = None
    ram: Annotated[
        str | None, typer.Option("--ram", help="System memory, like 32GB; default: what is usual beside such a card.")
    ] = None
    disk: Annotated[
        str | None, typer.Option("--disk", help="Free disk space, like 100GB (decimal); default: enough for the files.")
    ] = None
    vram: Annotated[
        str | None, typer.Option("--vram", help="Usable card memory, instead of what the card implies.")
    ] = None
    display: Annotated[
        bool | None, typer.Option("--display/--headless", help="Whether a screen hangs on the card.")
    ] = None
    pcie: Annotated[
        str | None, typer.Option("--pcie", help="Slot of the card, generation x lanes, like 4x16 or 3.0x4.")
    ] = None
    os: Annotated[
        str | None, typer.Option("--os", help="Operating system: linux, windows, wsl or macos; default: this one's.")
    ] = None
    min_speed: Annotated[
        float | None,
        typer.Option("--min-speed", help="Tokens a second below which text is too slow to use; default 5."),
    ] = None
    max_seconds: Annotated[
        float | None,
        typer.Option("--max-seconds", help="Seconds an image or answer above which it is too slow; images: 600."),
    ] = None
    offline: Annotated[bool, typer.Option("--offline", help="Use what was fetched before and no network.")] = False
    options: tuple[tuple[str, Any], ...] = field(default=(), metadata={"typed": False})

    @property
    def wanted(self) -> Wanted:
        """The question apart from model and machine."""
        task, runtime = (None if text is None else lower(text) for text in (self.task, self.runtime))
        return Wanted(task, split(self.tier), runtime, self.options, self.min_speed, self.max_seconds)


Declared = Mapping[str, tuple[Option, tuple[str, ...]]]


def runtime_options() -> Declared:
    """Every option that a runtime declares, with the runtimes that have it, in the registry's order."""
    return _options_of_all(registry.names())


@cache
def _options_of_all(names: tuple[str, ...]) -> Declared:
    """Kept by the names, so that a runtime that registers later is heard too."""
    return options_of((name, declared(registry.options_of(name))) for name in names)


def options_of(runtimes: Iterable[tuple[str, Mapping[str, Option]]]) -> Declared:
    """Options by name with the runtimes that have them; of one that several declare, the first declaration."""
    found: dict[str, tuple[Option, tuple[str, ...]]] = {}
    for runtime, options in runtimes:
        for name, one in options.items():
            first, owners = found.get(name, (one, ()))
            found[name] = (first, (*owners, runtime))
    return found


def takes_question(command: Callable[..., None]) -> Callable[..., None]:
    """Make ``command(question, **own)`` a typer command whose options are those of ``Question``, of the runtimes and
    its own."""
    return takes(Question, runtime_options(), command)


def takes(kind: Any, options: Declared, command: Callable[..., None]) -> Callable[..., None]:
    """Make ``command(asked, **own)`` a typer command whose options are the fields of the dataclass ``kind``, the
    runtimes' ``options`` and its own; ``asked`` is a ``kind`` whose field ``options`` holds what was given of the
    runtimes' by name."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    common = [one.name for one in fields(kind) if one.metadata.get("typed", True)]

    @wraps(command)
    def run(**values: Any) -> None:
        asked = {name: values.pop(name) for name in common}
        given = {name: value for name in options if (value := values.pop(name)) not in (None, [])}
        command(kind(**asked, options=tuple(sorted(given.items()))), **values)

    parameters = [*_common_parameters(kind), *_runtime_parameters(options)]
    parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def question_command(app: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that takes a question; its help groups options by runtime."""

    def register(command: Callable[..., None]) -> Callable[..., None]:
        return app.command(cls=GroupedCommand)(takes_question(command))

    return register


def _common_parameters(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is MISSING else one.default,
            annotation=hints[one.name],
        )
        for one in fields(kind)
        if one.metadata.get("typed", True)
    ]


def _runtime_parameters(options: Declared) -> list[inspect.Parameter]:
    """Options nobody gave stay ``None``, so that each runtime fills in its own default."""
    found = []
    for name, (one, owners) in options.items():
        kind = (list[one.type] if one.many else one.type) | None  # type: ignore[name-defined]
        flags = (flag(name), *(() if one.short is None else (one.short,)), *one.also)
        shown = typer.Option(
            *flags,
            help=one.help,
            rich_help_panel=", ".join(owners),
            show_default=False,
            metavar=None if not one.bare else BARE_FILE if one.role else BARE_NUMBER,
        )
        annotation = Annotated[kind, shown]  # type: ignore[valid-type]
        found.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return found


def split(text: str | None) -> tuple[str, ...]:
    """Comma-separated names as typed."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def machine_of(question: Question) -> Machine:
    """The machine that was asked about, or this one. Raises InputError when no card was named and none is found."""
    from fitcheck.hardware.asked import asked_machine

    return asked_machine(
        question.gpu or None,
        ram=None if question.ram is None else parse_memory(question.ram, "--ram"),
        disk=None if question.disk is None else parse_disk(question.disk, "--disk"),
        vram=None if question.vram is None else parse_memory(question.vram, "--vram"),
        display=question.display,
        pcie=(None, None) if question.pcie is None else parse_pcie(question.pcie),
        system=question.os,
    )


def answer(question: Question) -> Report:
    """The report for a question, with the records of this card that fitcheck knows; what was fetched for it is said on
    stderr. Raises InputError."""
    from fitcheck import api
    from fitcheck.cli.consoles import console

    report, fetched = api.answer(
        question.model, machine_of(question), question.wanted, gguf=question.gguf, offline=question.offline
    )
    if fetched is not None:
        text = f"Fetched {fetched[0] / 1e6:.2f} MB in {fetched[1]} requests."
        console(stderr=True).print(text, style="dim")
    return report
