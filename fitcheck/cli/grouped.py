"""Help that groups options by what they belong to."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from fitcheck.runtimes.options import BARE

BARE_METAVAR = "[NUMBER]"  # of options that may be named without their value


class GroupedCommand(TyperCommand):
    """A command whose plain help has a section for each group of options, the command's own first.

    An option that may be named without its value gets the usual one where no number follows.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Values put in where an option was named bare; the rest as it is."""
        bare = {
            name for one in self.get_params(ctx) if getattr(one, "metavar", None) == BARE_METAVAR for name in one.opts
        }
        filled: list[str] = []
        for at, word in enumerate(args):
            filled.append(word)
            following = args[at + 1] if at + 1 < len(args) else ""
            if word in bare and not following.isdecimal():
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
