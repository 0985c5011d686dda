"""Help that groups options by what they belong to."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

from fitcheck.runtimes.options import BARE

_WHOLE = 1000  # letters: more than any first sentence has
# of options that may be named without their value, and what such a value looks like
BARE_NUMBER, BARE_FILE = "[NUMBER]", "[RANK|FILE]"
_BARE = {BARE_NUMBER: re.compile(r"\d+"), BARE_FILE: re.compile(r"\d+(:.*)?|.*\.safetensors|[^-].*/.*")}


def _take_plain_values(parameter: Any) -> None:
    """Let nothing and text through as they are: typer builds a validator for each of some sixty options, named or not,
    which takes longer than an answer."""
    checked, kind = parameter.process_value, getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    nothing = () if getattr(parameter, "multiple", False) else None

    def called_back(ctx: Any, value: Any) -> Any:
        return value if parameter.callback is None else parameter.callback(ctx, parameter, value)

    def process_value(ctx: Any, value: Any) -> Any:
        if value is None and not parameter.required:
            return called_back(ctx, nothing)
        if value and kind is str and isinstance(value, str):
            return called_back(ctx, value)
        if value and kind == list[str] and isinstance(value, list | tuple):
            return called_back(ctx, list(value))
        return checked(ctx, value)

    parameter.process_value = process_value


class _Quick:
    """A command or group whose parameters take plain values as they are."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, the one for help among them."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in found:
            if "process_value" not in vars(one):
                _take_plain_values(one)
        return found


class QuickGroup(_Quick, TyperGroup):
    """A group of commands: each is listed with the whole of its first sentence, however many lines that takes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the section of the commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(_WHOLE)) for name, one in found if one is not None and not one.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


class QuickCommand(_Quick, TyperCommand):
    """A command that has no class of its own."""


class GroupedCommand(QuickCommand):
    """A command whose plain help has a section for each group of options, the command's own first.

    An option that may be named without its value gets the usual one where none follows.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Values put in where an option was named bare; the rest as it is."""
        bare = {
            name: value
            for one in self.get_params(ctx)
            if (value := _BARE.get(getattr(one, "metavar", None) or "")) is not None
            for name in one.opts
        }
        filled: list[str] = []
        for at, word in enumerate(args):
            filled.append(word)
            following = args[at + 1] if at + 1 < len(args) else ""
            if word in bare and not bare[word].fullmatch(following):
                filled.append(BARE)
        return super().parse_args(ctx, filled)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections; an option's group is its help panel."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None)
                groups.setdefault(f"Options of {panel}" if panel else "Options", []).append(record)
        for title, rows in groups.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
