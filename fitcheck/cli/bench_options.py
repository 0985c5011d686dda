"""The options of ``fitcheck bench run`` and ``limit``: what every cell takes, and what each runtime declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fitcheck.cli.grouped import GroupedCommand
from fitcheck.cli.options import Declared, options_of, split, takes
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.runtimes.options import Option
from fitcheck.units import parse_memory

if TYPE_CHECKING:
    from rich.console import Console

    from bench.job import Request

Out = Annotated[Path | None, typer.Option(help="Folder for the records. Default: your own record folder.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """The options of one request as typed. ``options`` are those of the runtimes that were given, by name."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A catalog model (`fitcheck models` lists them), or the GGUF file of a language model.",
        ),
    ]
    tier: Annotated[str, typer.Option(help="Quant tiers, separated by commas. Default: the model's first.")] = ""
    task: Annotated[str | None, typer.Option(help="Tasks, separated by commas. Default: the model's first.")] = None
    gguf: Annotated[
        Path | None,
        typer.Option(help="A real weights file; otherwise weights are synthetic, of true shapes and types."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of synthetic weights and noise.")] = 0
    out: Out = None
    ram: Annotated[
        str | None, typer.Option(help="System memory to reckon with, where the system shows too little, like 120GB.")
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Run although the preflight refuses.")] = False
    hang_seconds: Annotated[float, typer.Option(help="Seconds without progress after which a cell is ended.")] = 300.0
    options: tuple[tuple[str, Any], ...] = field(default=(), metadata={"typed": False})

    def request(self, **own: Any) -> Request:
        """What is asked of the bench; ``own`` are the fields of a request that only one command has."""
        from bench.job import Request
        from fitcheck.models.find import slug_of

        tasks = None if self.task is None else split(self.task)
        gguf = None if self.gguf is None else str(self.gguf)
        return Request(slug_of(self.model), split(self.tier), tasks, self.options, gguf, seed=self.seed, **own)

    @property
    def available(self) -> int | None:
        """System memory to reckon with, in bytes. Raises InputError for what is no size."""
        return None if self.ram is None else parse_memory(self.ram, "--ram")

    @property
    def patience(self) -> float:
        """Seconds after which a silent cell is ended. Raises OptionError for a time in which no process could say
        anything, and for what is no time."""
        if not 1 <= self.hang_seconds <= 86400:
            raise OptionError(
                f"--hang-seconds: {self.hang_seconds:g} is out of range; give from 1 second to 86400, a day."
            )
        return self.hang_seconds


def measured_options(search: bool) -> Declared:
    """The options that a measurement can follow, by the runtimes that the bench measures; their help says where the
    bench, or its ``search`` for the smallest card, takes another default than a question does."""
    from bench.engines import registry
    from bench.job import Request
    from fitcheck.runtimes import registry as runtimes
    from fitcheck.runtimes.options import declared

    def heard(name: str) -> dict[str, Option]:
        driver = registry.get(name)
        usual = driver.defaults(Request("", search=search))
        return {
            key: replace(one, help=f"{one.help.rstrip('.')}; here {usual[key]}.") if key in usual else one
            for key, one in declared(runtimes.get(name).options).items()
            if key not in driver.unheard
        }

    return options_of((name, heard(name)) for name in registry.names())


def cells_command(app: typer.Typer, *, search: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that takes cells to measure, or to ``search`` the smallest card of; its help groups options by
    runtime."""

    def register(command: Callable[..., None]) -> Callable[..., None]:
        return app.command(cls=GroupedCommand)(takes(Cells, measured_options(search), command))

    return register


def say_where(console: Console, paths: list[Path]) -> None:
    """Where the records went."""
    if len(paths) == 1:
        console.print(f"record: {paths[0]}", soft_wrap=True)
    elif paths:
        console.print(f"{len(paths)} records under {paths[0].parent.parent}", soft_wrap=True)
