"""``fitcheck site``: build the pages, check that they are current, show them locally."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from fitcheck.cli.grouped import QuickGroup
from fitcheck.cli.printable import one_line
from fitcheck.errors import MissingExtraError, RecordError, extra

site = typer.Typer(
    cls=QuickGroup,
    no_args_is_help=True,
    help="The site: a page for every model on every card; published, with a JSON twin each.",
)

Out = Annotated[Path, typer.Option(help="Folder of the site.")]


@site.command()
def build(
    out: Out = Path("reports"),
    results: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this annotation at run time
        typer.Option(help="Folder of accepted records; results/ by default, where there is one."),
    ] = None,
    cards: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this annotation at run time
        typer.Option(
            help="wanted, common, all, how many of the largest, or names separated by commas; by default those the "
            "folder holds, else wanted."
        ),
    ] = None,
    models: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this annotation at run time
        typer.Option(
            help="wanted, published, all, or names separated by commas; by default those the folder holds, else wanted."
        ),
    ] = None,
    kept: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this annotation at run time
        typer.Option(help="Pinned baselines and acknowledged changes; regressions.toml here by default."),
    ] = None,
    base_url: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this annotation at run time
        typer.Option(
            help="Where the site will stand, like https://example.org/fit/. Without it the addresses in feeds and maps "
            "are local, and pages have no canonical link, no share picture and no JSON twin."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when the folder is not the current site.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="With --check: make every page anew, in minutes, instead of a sample.")
    ] = False,
    jobs: Annotated[
        Optional[int],  # noqa: UP045 - typer reads this annotation at run time
        typer.Option(min=1, help="Processes. Default: one for each core."),
    ] = None,
) -> None:
    """Render the site. Only what has changed is computed and written; the same inputs give the same bytes."""
    try:
        from fitcheck.pages import build as builder
        from fitcheck.pages.checking import check as current
        from fitcheck.pages.kept_site import said_of
        from fitcheck.pages.site_inputs import LOCAL_URL, WANTED, gather
        from fitcheck.records.regressions.kept import NAME as KEPT
    except ImportError as error:
        raise MissingExtraError(f"fitcheck site needs {error.name}; {extra('site')}.") from error
    if results is not None and not results.is_dir():
        raise RecordError(f"--results: {results} is not a folder.")
    if not check:
        builder.refuse_foreign(out)
    said = said_of(out)
    address = base_url or said.get("base_url", LOCAL_URL)
    chosen = (said.get("cards", WANTED) if cards is None else cards, models or said.get("models", WANTED))
    pins = kept or (Path(KEPT) if Path(KEPT).is_file() else None)
    inputs = gather(results or Path("results"), chosen[0], address, chosen[1], pins, None if check and all_ else out)
    for reason in inputs.left_out[:20]:
        print(f"left out: {one_line(reason)}", file=sys.stderr)
    if len(inputs.left_out) > 20:
        print(f"left out: {len(inputs.left_out) - 20} more; see `fitcheck validate`.", file=sys.stderr)
    if check:
        outcome = current(inputs, out, everything=all_)
        for path in outcome.stale[:20]:
            print(f"stale: {one_line(path)}", file=sys.stderr)
        for path in outcome.strays[:20]:
            print(f"not of this site: {one_line(path)}", file=sys.stderr)
        if outcome.stale or outcome.strays:
            count = len(outcome.stale) + len(outcome.strays)
            print(f"fitcheck: {out} is not current ({count} files); run `fitcheck site build`.", file=sys.stderr)
            raise typer.Exit(1)
        looked = "all made anew" if all_ else f"keys and hashes of all, {outcome.drawn} made anew"
        print(f"{out} is current: {outcome.pages} pages, {looked}.", file=sys.stderr)
        return
    outcome = builder.build(inputs, out, jobs)
    print(
        f"{outcome.pages} pages, {outcome.drawn} drawn, {outcome.documents} answers computed, {outcome.written} files "
        f"written, {outcome.removed} removed, {outcome.size / 1e6:.1f} MB.",
        file=sys.stderr,
    )
    if not inputs.published:
        print(
            f"The addresses in it are local ({LOCAL_URL}): to publish it, say where with --base-url.", file=sys.stderr
        )
    print(out)


@site.command()
def serve(
    out: Out = Path("reports"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Show the built site at http://localhost:PORT/ until Ctrl-C. Only this machine can reach it."""
    from fitcheck.pages.serve import server_for

    with server_for(out, port) as server:
        print(f"http://localhost:{server.server_address[1]}/", flush=True)
        server.serve_forever()


def register(app: typer.Typer) -> None:
    """Adds the group ``fitcheck site``, whose commands stand in this module."""
    app.add_typer(site, name="site")
