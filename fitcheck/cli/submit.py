"""``fitcheck submit``: share measurements. Saved locally first, sent exactly as ``--dry-run`` prints it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.printable import one_line
from fitcheck.errors import InputError, OptionError

if TYPE_CHECKING:
    from fitcheck.records.submit import Prepared
    from fitcheck.records.targets import Payload, Receipt

DATASET_VARIABLE = "FITCHECK_DATASET"


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck submit``; nothing is sent before every record has been checked and saved locally."""

    @app.command()
    def submit(
        files: Annotated[list[Path], typer.Argument(help="Record files, as `fitcheck bench` and `import` write them.")],
        to: Annotated[
            str, typer.Option(help="`repo`: a branch of your clone of fitcheck; `hub`: a dataset; or a folder.")
        ] = "repo",
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print exactly what would be sent, send nothing.")
        ] = False,
        submitter: Annotated[
            str | None,
            typer.Option("--as", help="A public handle to be credited with; none by default."),
        ] = None,
        clone: Annotated[Path, typer.Option(help="With --to repo: your clone.")] = Path(),
        remote: Annotated[str, typer.Option(help="With --to repo: the remote to push to.")] = "origin",
        push: Annotated[bool, typer.Option(help="With --to repo: push the branch.")] = True,
        dataset: Annotated[
            str | None,
            typer.Option(help="With --to hub: owner/name of the dataset.", envvar=DATASET_VARIABLE),
        ] = None,
        sign: Annotated[
            Path | None,
            typer.Option(help="SSH key to sign with, like ~/.ssh/id_ed25519.pub."),
        ] = None,
    ) -> None:
        """Check records and send them to the community's results.

        Each record is kept in your own folder first, so nothing is lost when the network is. Sending the same record
        again changes nothing.
        """
        from fitcheck.records.places import local_root
        from fitcheck.records.submit import prepare, save_locally

        key = sign.expanduser() if sign is not None else None
        prepared = [prepare(file, time.time(), submitter, key) for file in dict.fromkeys(files)]
        _report(prepared)
        payloads = list({payload.path: payload for item in prepared for payload in item.payloads}.values())
        if dry_run:
            mended = (
                ", once what is rejected is corrected or left out," if any(one.rejected for one in prepared) else ""
            )
            try:
                where = f"Would be sent{mended} to {_describe(to, payloads, clone, dataset, remote)}:"
            except InputError as error:
                where = f"Would be sent, once this is mended: {error}"
            _print_exactly(payloads, where)
            return
        _show_public(prepared)
        if any(item.rejected for item in prepared):
            print("Nothing was sent: correct or leave out what is rejected.", file=sys.stderr)
            raise typer.Exit(1)
        root = local_root()
        save_locally(prepared, root)
        print(f"Kept in {root}.", file=sys.stderr)
        receipt = _send(to, payloads, clone, remote, push, dataset)
        for path in receipt.sent:
            print(path)
        print(f"{len(receipt.sent)} sent to {receipt.place}, {len(receipt.kept)} there already.", file=sys.stderr)
        if receipt.next_step:
            print(f"Next: {receipt.next_step}", file=sys.stderr)


def _report(prepared: list[Prepared]) -> None:
    for item in prepared:
        for finding in item.findings:
            line = one_line(f"{item.source}: {finding.message} [{finding.code}]")
            print(f"{finding.rank.value:6}  {line}", file=sys.stderr)


def _show_public(prepared: list[Prepared]) -> None:
    """What people wrote and what names a machine, once each, as everybody will read it."""
    from fitcheck.records.privacy import public_texts
    from fitcheck.records.store import document_of

    said = {
        f"{place}: {one_line(text)}": None
        for item in prepared
        for place, text in public_texts(document_of(item.record))
    }
    if said:
        print("This text becomes public:", file=sys.stderr)
    for line in said:
        print(f"  {line}", file=sys.stderr)


def _print_exactly(payloads: list[Payload], where: str) -> None:
    """The bytes to stdout, one file after the other; where they would go to stderr."""
    print(where, file=sys.stderr)
    for payload in payloads:
        print(f"  {payload.path} ({len(payload.content)} bytes)", file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    for payload in payloads:
        sys.stdout.buffer.write(payload.content)
    sys.stdout.buffer.flush()


def _describe(to: str, payloads: list[Payload], clone: Path, dataset: str | None, remote: str) -> str:
    from fitcheck.records.targets import batch_title, repo

    if to == "repo":
        opened = repo.open_clone(clone, remote, fetch=False)
        commit = f'commit "{batch_title(payloads)}" by {repo.author(opened)}'
        return f"branch {repo.branch_of(payloads)} of {opened.root}, {commit}"
    if to == "hub":
        return f'pull request "{batch_title(payloads)}" at dataset {_dataset(dataset)}'
    return f"folder {_folder(to)}"


def _send(to: str, payloads: list[Payload], clone: Path, remote: str, push: bool, dataset: str | None) -> Receipt:
    from fitcheck.records.targets import folder, hub, repo

    if to == "repo":
        return repo.submit(payloads, repo.open_clone(clone, remote, fetch=push), push)
    if to == "hub":
        name = _dataset(dataset)
        api, account = hub.connect(name)
        return hub.submit(payloads, name, api, account)
    return folder.submit(payloads, _folder(to))


def _dataset(name: str | None) -> str:
    if not name:
        raise OptionError(f"--to hub needs --dataset owner/name (or {DATASET_VARIABLE}).")
    return name


def _folder(to: str) -> Path:
    path = Path(to).expanduser()
    if not to.strip() or not path.is_dir() or not os.access(path, os.W_OK):
        raise OptionError(f"--to: {to!r} is not `repo`, `hub` or a folder that can be written to.")
    return path
