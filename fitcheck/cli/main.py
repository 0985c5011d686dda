"""The ``fitcheck`` command: registers the commands, turns errors into one sentence and an exit code."""

from __future__ import annotations

import codecs
import importlib
import io
import keyword
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from fitcheck import __version__
from fitcheck.cli import completers
from fitcheck.cli.printable import one_line
from fitcheck.errors import InputError

# One module of fitcheck.cli each, in the order of the help.
COMMANDS = (
    "check",
    "runs",
    "compare",
    "plan",
    "explain",
    "doctor",
    "mcp",
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
    "regress",
    "site",
)

EXIT_USAGE = 2
_LONGEST_LINE = 1200

# Newer typer releases carry their own copy of click; this is the base of usage errors in either.
_UsageError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fitcheck {__version__}")
        raise typer.Exit


def modules_for(arguments: Sequence[str]) -> tuple[str, ...]:
    """The modules that a command line needs: the named command's alone, so that a quick command never waits for the
    imports of another, and none for the version. All of them for the help, and for a name that is none, which is then
    compared with every name.
    """
    if list(arguments) == ["--version"]:
        return ()
    named = f"{arguments[0]}_" if arguments and keyword.iskeyword(arguments[0]) else next(iter(arguments), "")
    return (named,) if named in COMMANDS else COMMANDS


def application(modules: Sequence[str] = COMMANDS, *, completion: bool = True) -> typer.Typer:
    """The typer application with the commands of these modules registered, and with ``completion`` the options that
    install it in a shell."""
    from typer.core import TyperCommand

    from fitcheck.cli.grouped import QuickCommand, QuickGroup  # what they build on takes longer than a shell may wait

    app = typer.Typer(
        name="fitcheck",
        no_args_is_help=True,
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Will this generative model run on this machine, in which quant tier and offload mode, and how fast?",
    )

    @app.callback(cls=QuickGroup)
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Predict from real tensor tables, measure on real hardware, show both."""

    for name in modules:
        importlib.import_module(f"fitcheck.cli.{name}").register(app)
    for command in app.registered_commands:
        if command.cls is TyperCommand:  # which none was chosen for
            command.cls = QuickCommand
    return app


def completer(words: Sequence[str]) -> typer.Typer:
    """The application that completes a line of these words. The name of an option needs the command itself; a value or
    a model is offered by what all commands have in common, and the name of a command by the names of all."""
    found = modules_for(words)
    if words and words[-1].startswith("-"):
        return application(found)
    app = typer.Typer(name="fitcheck", rich_markup_mode=None)
    app.callback()(_nothing)
    for name in found:
        app.command(name.rstrip("_"), context_settings=_LENIENT)(_anything)
    return app


# what people type for an option of the program itself
_ASIDE = {(): ["--help"], ("help",): ["--help"], ("version",): ["--version"]}

_LENIENT = {"ignore_unknown_options": True, "allow_extra_args": True}


def _nothing() -> None:
    """So that a line with one command is a group too."""


def _anything(
    models: Annotated[list[str] | None, typer.Argument(autocompletion=completers.models)] = None,
    gpu: Annotated[list[str] | None, typer.Option("--gpu", "-g", "--have", autocompletion=completers.cards)] = None,
    tier: Annotated[str | None, typer.Option("--tier", "-t", autocompletion=completers.tiers)] = None,
    mode: Annotated[str | None, typer.Option("--mode", "-m", autocompletion=completers.modes)] = None,
    task: Annotated[str | None, typer.Option("--task", autocompletion=completers.tasks)] = None,
    system: Annotated[str | None, typer.Option("--os", autocompletion=completers.systems)] = None,
    purpose: Annotated[str | None, typer.Option("--for", autocompletion=completers.purposes)] = None,
) -> None:
    """What the values of any command look like, for completion alone."""


def _guided() -> list[str]:
    """The arguments that the first screen and its question lead to; none where nothing is asked."""
    from fitcheck.cli.guide import guided
    from fitcheck.cli.start import start

    start()
    arguments = guided(COMMANDS)
    if arguments:
        print(f"\n$ {shlex.join(['fitcheck', *arguments])}")
    return arguments


def _refuse(message: str) -> NoReturn:
    """One short line on stderr and exit code 2, whatever the names in ``message`` hold."""
    line = one_line(message)
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} … {line[-_LONGEST_LINE // 2 :]}"
    with suppress(OSError):  # where stderr takes nothing either, the exit code says it
        print(f"fitcheck: {line}", file=sys.stderr, flush=True)
    sys.exit(EXIT_USAGE)


# what a usage error says → what to type instead, after the command that it is about ("" is any)
_HINTS = (
    ("unexpected extra argument", "runs", "; name a purpose with --for, like `fitcheck runs --for chat`."),
    ("unexpected extra argument", "", "; put quotes around a value with spaces, like --gpu 'RTX 4070'."),
    ("Missing argument 'TARGET'", "", "; name a model, like `fitcheck check llama-3.1-8b --gpu 'RTX 4070'`; `fitcheck "
     "models` lists them, `fitcheck runs` says what runs here."),
    ("Missing argument 'MODEL", "", "; name a model, like llama-3.1-8b; `fitcheck models` lists them."),
    ("Missing option '--gpu'", "", "; name the machines, like --gpu 'RTX 4070' --gpu 'RTX 5070'."),
    ("No such command", "", "; `fitcheck --help` lists the commands."),
    ("No such option: --quant", "", "; quant tiers are named with --tier, like --tier Q4_K_M."),
)  # fmt: skip


def _hint(message: str, arguments: Sequence[str]) -> str:
    """What to type instead, from what the message of a usage error says; a full stop where nothing is known."""
    if message.endswith("?"):
        return ""
    command = next(iter(arguments), "")
    return next((hint for says, name, hint in _HINTS if says in message and name in ("", command)), ".")


# signs that a terminal without them shows as these; other letters become ?
_PLAIN = {"–": "-", "−": "-", "─": "-", "×": "x", "·": "*", "…": "...", "→": "->", "←": "<-", "’": "'"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Handler of codecs: the nearest signs of ASCII for what an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


def _open_streams() -> None:
    """Streams that a caller closed lead nowhere; one that lacks a letter shows a plainer one in its place."""
    codecs.register_error("plain", _plain)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _system_error(error: OSError) -> str:
    """What the system refused, and where: a full disk, a name that is too long, a folder that may not be entered."""
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}; check the path, its permissions and the free space."


def _discard_output() -> None:
    """What is still unwritten goes nowhere, so that the interpreter's end does not stumble over it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Console entry point. Bad input: one sentence on stderr and exit code 2."""
    _open_streams()
    try:
        words = completers.line()
        if words is not None:
            completer(words)([], prog_name="fitcheck", standalone_mode=False)
            return
        arguments = _ASIDE.get(tuple(sys.argv[1:]), sys.argv[1:])
        if not sys.argv[1:] and sys.stdin.isatty() and sys.stdout.isatty():
            arguments = _guided()
            if not arguments:
                return
        modules = modules_for(arguments)
        app = application(modules, completion=modules is COMMANDS)
        result = app(arguments, prog_name="fitcheck", standalone_mode=False)
        sys.stdout.flush()  # what a full disk does not take is an error, not a shrug at the interpreter's end
    except InputError as error:
        _refuse(str(error))
    except _UsageError as error:
        message = error.format_message().replace("Value error, ", "")  # type: ignore[attr-defined]
        _refuse(f"{message.rstrip('.')}{_hint(message, sys.argv[1:])}")
    except (typer.Abort, KeyboardInterrupt):
        print("fitcheck: stopped.", file=sys.stderr)
        sys.exit(130)
    except (BrokenPipeError, SystemExit) as ended:
        # libraries turn a closed pipe, the usual end of `fitcheck … | head`, into exit code 1
        if isinstance(ended, SystemExit) and not isinstance(ended.__context__, BrokenPipeError):
            raise
        _discard_output()
        sys.exit(0)
    except OSError as error:
        _refuse(_system_error(error))
    sys.exit(result if isinstance(result, int) else 0)
