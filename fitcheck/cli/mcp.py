"""``fitcheck mcp``: check, runs, plan and compare for assistants and editors, over the Model Context Protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mcp.server import MCPServer

INSTRUCTIONS = (
    "Says whether a generative model (language, image, video) runs on a machine, in which quant tier and offload mode, "
    "how fast, and how we know. A machine is named by its cards ('RTX 4070', '2x RTX 3090', 'M3 Max 64GB', 'none'); "
    "without one the machine this server runs on is meant. Bytes are integers, seconds and rates floats with low, best "
    "and high; null is unknown."
)

# one name alone is understood as well as a list of them
Names = list[str] | str
Value = str | int | float | bool


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck mcp``."""

    @app.command()
    def mcp(
        offline: Annotated[
            bool, typer.Option("--offline", help="Use what was fetched before and no network, whatever is asked.")
        ] = False,
    ) -> None:
        """Offer check, runs, plan and compare to a program over standard input and output (Model Context Protocol)."""
        server(offline=offline).run("stdio")


def server(*, offline: bool = False) -> MCPServer[Any]:
    """The server with its four tools. Raises MissingExtraError where the protocol's library is not installed."""
    from fitcheck import __version__
    from fitcheck.errors import MissingExtraError, extra

    try:
        from mcp.server import MCPServer
    except ImportError as error:
        raise MissingExtraError(f"fitcheck mcp needs {error.name or 'mcp'}; {extra('mcp')}.") from error
    found: MCPServer[Any] = MCPServer("fitcheck", instructions=INSTRUCTIONS, version=__version__, log_level="ERROR")
    tools = Tools(offline)
    for tool in (tools.check, tools.runs, tools.plan, tools.compare):
        found.add_tool(tool, structured_output=False)
    return found


class Tools:
    """The tools as methods: each answers with the JSON that the command of its name prints, or refuses with its
    sentence. What is kept between questions was not made for threads, so one question is answered at a time."""

    def __init__(self, offline: bool = False) -> None:
        self._offline = offline
        self._lock = Lock()

    def check(
        self,
        target: str,
        gpu: Names | None = None,
        tier: Names | None = None,
        task: str | None = None,
        runtime: str | None = None,
        ram: str | None = None,
        disk: str | None = None,
        vram: str | None = None,
        display: bool | None = None,
        os: str | None = None,
        min_speed: float | None = None,
        max_seconds: float | None = None,
        offline: bool = False,
        best_only: bool = False,
        options: dict[str, Value | list[Value]] | None = None,
    ) -> Any:
        """Will this model run on this machine, in which tier and mode, how fast? `target` is a catalog name (like
        'llama-3.1-8b' or 'flux.1-dev'), a GGUF or safetensors file, a folder, org/repo or org/repo:file.gguf. `ram`,
        `disk` and `vram` are amounts like '32GB', `os` is linux, windows, wsl or macos. `options` are those of the
        runtimes by name, like {"mode": "low"}, {"size": "1024x1024"} or {"ctx": 16384}. `best_only` leaves out all
        cells but the one that the answer speaks of."""

        def ask() -> dict[str, Any]:
            from fitcheck import api
            from fitcheck.cli.options import Question, machine_of

            question = Question(
                model=target,
                gpu=_list(gpu),
                tier=_comma(tier),
                task=task,
                runtime=runtime,
                ram=ram,
                disk=disk,
                vram=vram,
                display=display,
                os=os,
                min_speed=min_speed,
                max_seconds=max_seconds,
                options=_options(options or {}),
            )
            network = offline or self._offline
            report, _ = api.answer(target, machine_of(question), question.wanted, offline=network)
            document = report.to_json()
            return {**document, "cells": document["cells"][:1]} if best_only else document

        return self._answer(ask)

    def runs(
        self,
        gpu: Names | None = None,
        purpose: Names | None = None,
        ram: str | None = None,
        os: str | None = None,
        min_speed: float | None = None,
        max_seconds: float | None = None,
        most: int | None = None,
    ) -> Any:
        """What of the catalog runs on a machine, best rated first, and what just misses. `purpose` is any of chat,
        code, image, video, edit and vision."""

        def ask() -> dict[str, Any]:
            from fitcheck import api

            return api.runs(
                gpu or None,
                purpose=purpose or api.USUAL_PURPOSES,
                ram=ram,
                system=os,
                min_speed=min_speed,
                max_seconds=max_seconds,
                most=most,
            ).to_json()

        return self._answer(ask)

    def plan(
        self,
        target: str,
        have: Names | None = None,
        task: str | None = None,
        tier: Names | None = None,
        ram: str | None = None,
        os: str | None = None,
        budget: float | str | None = None,
        min_speed: float | None = None,
        max_seconds: float | None = None,
        offline: bool = False,
    ) -> Any:
        """What to buy for a model: least memory of each tier and mode, the cards that run it, cheapest first, and with
        `have` (the cards that are there) what to change of that machine. `budget` is in US dollars."""

        def ask() -> dict[str, Any]:
            from fitcheck import api

            return api.plan(
                target,
                have=have or None,
                task=task,
                tier=tier,
                ram=ram,
                system=os,
                budget=budget,
                min_speed=min_speed,
                max_seconds=max_seconds,
                offline=offline or self._offline,
            ).to_json()

        return self._answer(ask)

    def compare(
        self,
        targets: Names,
        gpus: Names,
        task: str | None = None,
        tier: Names | None = None,
        ram: str | None = None,
        os: str | None = None,
        min_speed: float | None = None,
        max_seconds: float | None = None,
        offline: bool = False,
    ) -> Any:
        """Cards side by side on the same models: verdict, best tier and mode, speed, what binds, price, watts. Each of
        `gpus` is one machine."""

        def ask() -> dict[str, Any]:
            from fitcheck import api

            return api.compare(
                targets,
                _list(gpus) or [],
                task=task,
                tier=tier,
                ram=ram,
                system=os,
                min_speed=min_speed,
                max_seconds=max_seconds,
                offline=offline or self._offline,
            ).to_json()

        return self._answer(ask)

    def _answer(self, ask: Callable[[], dict[str, Any]]) -> Any:
        """The document as text and as a value; a refusal is a tool error."""
        from mcp_types import CallToolResult, TextContent

        from fitcheck.cli.printable import one_line
        from fitcheck.errors import InputError

        try:
            with self._lock:
                document = ask()
        except InputError as error:
            return CallToolResult(content=[TextContent(type="text", text=one_line(str(error)))], is_error=True)
        text = json.dumps(document, ensure_ascii=False)
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=document)


def _comma(names: Names | None) -> str | None:
    return None if names is None else ",".join(_list(names) or [])


def _list(names: Names | None) -> list[str] | None:
    return [names] if isinstance(names, str) else names


def _options(given: dict[str, Value | list[Value]]) -> tuple[tuple[str, Any], ...]:
    """Options by name with the types that they are declared with. Raises OptionError for a value that is not one."""
    from fitcheck.cli.options import runtime_options

    declared = runtime_options()
    found: list[tuple[str, Any]] = []
    for typed, value in sorted(given.items()):
        name = typed.replace("-", "_")
        if name not in declared:
            found.append((name, value))
            continue
        one = declared[name][0]
        values = [_as(one.type, each, name) for each in (value if isinstance(value, list) else [value])]
        found.append((name, values if one.many else values[0] if values else None))
    return tuple(pair for pair in found if pair[1] is not None)


def _as(kind: type, value: Value, name: str) -> Any:
    from fitcheck.errors import OptionError
    from fitcheck.runtimes.options import flag

    words = {int: "a whole number", float: "a number", bool: "true or false"}
    try:
        if kind is bool and not isinstance(value, bool):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError):
        raise OptionError(f"{flag(name)}: {value!r} is not {words.get(kind, 'text')}.") from None
