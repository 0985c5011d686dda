"""The ``fitcheck`` command: registers the commands, turns errors into one sentence and an exit code."""

from __future__ import annotations

import importlib
import keyword
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from fitcheck import __version__
from fitcheck.errors import InputError

# One module of fitcheck.cli each, in the order of the help.
COMMANDS = (
    "check",
    "explain",
    "models",
    "cards",
    "gpu",
    "inspect",
    "accuracy",
    "bench",
    "validate",
    "submit",
    "import_",
    "results",
    "site",
)

EXIT_USAGE = 2

# Newer typer releases carry their own copy of click; this is the base of usage errors in either.
_UsageError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fitcheck {__version__}")
        raise typer.Exit


def modules_for(arguments: Sequence[str]) -> tuple[str, ...]:
    """The modules that a command line needs: the named command's alone, so that a quick command never waits for the
    imports of another. All of them for the help, and for a name that is none, which is then compared with every name.
    """
    named = f"{arguments[0]}_" if arguments and keyword.iskeyword(arguments[0]) else next(iter(arguments), "")
    return (named,) if named in COMMANDS else COMMANDS


def application(modules: Sequence[str] = COMMANDS) -> typer.Typer:
    """The typer application with the commands of these modules registered."""
    app = typer.Typer(
        name="fitcheck",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Will this generative model run on this machine, in which quant tier and offload mode, and how fast?",
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Predict from real tensor tables, measure on real hardware, show both."""

    for name in modules:
        importlib.import_module(f"fitcheck.cli.{name}").register(app)
    return app


def main() -> None:
    """Console entry point. Bad input: one sentence on stderr and exit code 2."""
    try:
        result = application(modules_for(sys.argv[1:]))(standalone_mode=False)
    except InputError as error:
        print(f"fitcheck: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except _UsageError as error:
        print(f"fitcheck: {error.format_message()}", file=sys.stderr)  # type: ignore[attr-defined]
        sys.exit(EXIT_USAGE)
    except (typer.Abort, KeyboardInterrupt):
        print("fitcheck: stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe went away; the usual end of `fitcheck … | head`.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(result if isinstance(result, int) else 0)
