"""``fitcheck inspect``: what a model file holds, from its header alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from fitcheck.models.candidates import Candidate
    from fitcheck.models.inspection import Inspection, Share
    from fitcheck.models.resolve import Resolved

MOST_TIERS = 40
SCHEMA = "fitcheck.inspect/1"


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck inspect``; a repository of many tiers is read up to ``MOST_TIERS`` of them."""

    @app.command()
    def inspect(
        target: Annotated[
            str,
            typer.Argument(
                metavar="TARGET", help="A file, a folder, org/repo, org/repo:file.gguf, org/repo@revision or a URL."
            ),
        ],
        tier: Annotated[str | None, typer.Option(help="One quant tier of a repository or folder.")] = None,
        offline: Annotated[bool, typer.Option("--offline", help="Use what was fetched before and no network.")] = False,
        json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """What a model really holds: architecture, quant types, bytes by role, and whether its name is true.

        Only headers are read; of a remote file a few megabytes at most are fetched.
        """
        from fitcheck.cli.consoles import console
        from fitcheck.models.resolve import resolve

        with resolve(target, offline=offline) as found:
            chosen = [found.candidate(tier)] if tier else list(found.candidates[:MOST_TIERS])
            left_out = 0 if tier else len(found.candidates) - len(chosen)
            inspections, problems = _inspect(found, chosen)
            if json_:
                _print_json(found, inspections, problems, left_out)
                return
            out, notes = console(), console(stderr=True)
            if len(chosen) == 1:
                _print_one(out, found, inspections[0])
            else:
                _print_tiers(out, found, inspections)
            for sentence in problems:
                notes.print(sentence)
            if left_out:
                notes.print(f"{left_out} more tiers were not read; name one with --tier.")
            _print_traffic(notes, found)


def _inspect(found: Resolved, chosen: list[Candidate]) -> tuple[list[Inspection], list[str]]:
    """Inspections of what can be read, and a sentence for each that cannot. One alone must be readable."""
    from fitcheck.errors import InputError
    from fitcheck.models.inspection import inspect_header

    found.preload(chosen)
    inspections: list[Inspection] = []
    problems: list[InputError] = []
    for candidate in chosen:
        try:
            config = None if candidate.format == "gguf" else found.config() or found.pipeline
            header = found.header(candidate)
            inspections.append(inspect_header(candidate.name, candidate.files, header, config))
        except InputError as problem:
            if len(chosen) == 1:
                raise
            problems.append(problem)
    if not inspections:
        raise problems[0]
    return inspections, [str(problem) for problem in problems]


def _print_one(out: Console, found: Resolved, seen: Inspection) -> None:
    from rich.table import Table

    from fitcheck.units import format_gb

    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("model", _plain(found.name))
    if found.revision:
        facts.add_row("revision", found.revision)
    facts.add_row("file", _plain(seen.files[0]) + (f" and {len(seen.files) - 1} more" if len(seen.files) > 1 else ""))
    facts.add_row("format", seen.format)
    facts.add_row("architecture", _plain(seen.architecture or "unknown: the file does not say"))
    facts.add_row("parameters", f"{seen.parameters:,}")
    if seen.file_bytes is not None:
        facts.add_row("size on disk", f"{format_gb(seen.file_bytes)} ({seen.file_bytes:,} bytes)")
    if seen.bits_per_weight is not None:
        facts.add_row("bits per weight", f"{seen.bits_per_weight:.2f}")
    facts.add_row("tensor table", f"sha256 {seen.digest}")
    for key, value in seen.facts.items():
        facts.add_row(_plain(key), _plain(str(value)[:300]))
    if found.projectors:
        facts.add_row("projectors", _plain(", ".join(found.projectors)))
    out.print(facts)
    _print_shares(out, "type", seen.by_type, seen.tensor_bytes, with_types=False)
    _print_shares(out, "role", seen.by_role, seen.tensor_bytes)
    if seen.by_branch:
        _print_shares(out, "part", seen.by_branch, seen.tensor_bytes)
    if seen.unquantized:
        _print_shares(out, "kept unquantized", seen.unquantized, seen.tensor_bytes)
    for sentence in seen.mismatches:
        out.print(f"\nName against content: {sentence}.", style="yellow")


def _print_shares(out: Console, what: str, shares: Mapping[str, Share], total: int, *, with_types: bool = True) -> None:
    from fitcheck.cli.consoles import bare_table
    from fitcheck.units import format_gb

    table = bare_table()
    table.add_column(what, no_wrap=True)
    for name in ("tensors", "parameters", "GB", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    if with_types:
        table.add_column("types (GB)")
    for name, share in shares.items():
        cells = [
            _plain(name),
            f"{share.tensors:,}",
            f"{share.elements:,}",
            format_gb(share.nbytes, 3).removesuffix(" GB"),
            f"{share.nbytes / total:.1%}" if total else "",
        ]
        if with_types:
            cells.append(", ".join(f"{kind} {nbytes / 1e9:.3f}" for kind, nbytes in share.types.items()))
        table.add_row(*cells)
    out.print()
    out.print(table)


def _print_tiers(out: Console, found: Resolved, inspections: list[Inspection]) -> None:
    from fitcheck.cli.consoles import bare_table

    out.print(f"{found.name}: {len(found.candidates)} tiers, architecture "
              f"{inspections[0].architecture or 'unknown'}\n")  # fmt: skip
    table = bare_table()
    table.add_column("tier", no_wrap=True)
    for name in ("GB", "bits a weight", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("types by bytes")
    table.add_column("name against content", overflow="fold")
    for seen in inspections:
        shares = [f"{kind} {share.nbytes / max(1, seen.tensor_bytes):.0%}" for kind, share in seen.by_type.items()]
        table.add_row(
            _plain(seen.tier),
            f"{(seen.file_bytes or seen.tensor_bytes) / 1e9:.2f}",
            f"{seen.bits_per_weight:.2f}" if seen.bits_per_weight is not None else "",
            f"{seen.parameters:,}",
            ", ".join(shares[:4]),
            _plain("; ".join(seen.mismatches)),
        )
    out.print(table)


def _plain(text: str) -> str:
    """Text from a file, made safe to print: no terminal escapes."""

    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _print_traffic(notes: Console, found: Resolved) -> None:
    if found.traffic is not None:
        fetched, requests = found.traffic.fetched_bytes, found.traffic.requests
        notes.print(f"Fetched {fetched / 1e6:.2f} MB in {requests} requests.")


def _print_json(found: Resolved, inspections: list[Inspection], problems: list[str], left_out: int) -> None:
    import json
    from dataclasses import asdict

    traffic = found.traffic
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "target": found.name,
        "kind": found.kind,
        "repository": found.repository,
        "revision": found.revision,
        "projectors": list(found.projectors),
        "tiers": [asdict(seen) | {"bits_per_weight": seen.bits_per_weight} for seen in inspections],
        "problems": problems,
        "tiers_not_read": left_out,
        "fetched": None if traffic is None else {"bytes": traffic.fetched_bytes, "requests": traffic.requests},
    }
    print(json.dumps(document, indent=2))
