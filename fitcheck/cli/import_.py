"""``fitcheck import``: records from what other tools have already measured."""

from __future__ import annotations

import datetime
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.errors import OptionError, RecordError
from fitcheck.runtimes.registry import IMPORTERS, importer

if TYPE_CHECKING:
    from fitcheck.records.schema import AnyRecord

Tool = StrEnum("Tool", {name.upper().replace("-", "_"): name for name in IMPORTERS})  # type: ignore[misc]


class WeightsOrigin(StrEnum):
    """Where the weights of an imported measurement came from, as records say it."""

    REAL = "real"
    SYNTHETIC = "synthetic"


Text = str | None


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck import``, which writes records and prints the path of each."""

    @app.command(name="import")
    def import_(
        tool: Annotated[Tool, typer.Argument(help="What wrote the file.")],
        file: Annotated[Path, typer.Argument(help="Its output: JSON, CSV, Markdown or text.")],
        model: Annotated[Text, typer.Option(help="Model slug.")] = None,
        tier: Annotated[Text, typer.Option(help="Quant tier, like Q4_K_M.")] = None,
        weights: Annotated[
            WeightsOrigin, typer.Option(help="Whether the weights were the published ones.")
        ] = WeightsOrigin.REAL,
        repository: Annotated[Text, typer.Option(help="owner/name of the model's repository.")] = None,
        gguf: Annotated[
            Path | None,
            typer.Option(help="The model's file: its digests make the model's identity certain."),
        ] = None,
        card: Annotated[Text, typer.Option(help="The card, like 'RTX 4070'.")] = None,
        task: Annotated[Text, typer.Option(help="t2i, editing, t2v, i2v, interleave, vqa, chat or embed.")] = None,
        size: Annotated[Text, typer.Option(help="WIDTHxHEIGHT.")] = None,
        steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
        cfg: Annotated[float | None, typer.Option(min=0, help="Guidance scale.")] = None,
        mode: Annotated[Text, typer.Option(help="Offload mode, like low.")] = None,
        revision: Annotated[Text, typer.Option(help="Revision of the runtime, like pr243.")] = None,
        date: Annotated[Text, typer.Option(help="When it was measured, YYYY-MM-DD, if the file does not say.")] = None,
        submitter: Annotated[Text, typer.Option("--as", help="A public handle to be credited with.")] = None,
        out: Annotated[
            Path | None,
            typer.Option(help="Folder to write to; your own records by default."),
        ] = None,
    ) -> None:
        """Turn another tool's output into records, and say what it does not state.

        Prints the paths of the records; give them to `fitcheck submit` to share them.
        """
        from fitcheck.records import store
        from fitcheck.records.importers.common import MAX_INPUT_BYTES, Given
        from fitcheck.records.places import local_root
        from fitcheck.records.reading import read_bounded
        from fitcheck.units import parse_size

        width, height = parse_size(size, "--size") if size else (None, None)
        given = Given(
            file_time=_modified(file),
            created=_utc(date),
            model=model,
            tier=tier,
            weights=weights.value,
            repository=repository,
            card=card,
            gguf=gguf,
            task=task,
            width=width,
            height=height,
            steps=steps,
            cfg=cfg,
            mode=mode,
            revision=revision,
            submitter=submitter,
        )
        for imported in importer(tool.value)(read_bounded(file, MAX_INPUT_BYTES), str(file), given):
            path = store.write(out or local_root(), imported.record)
            print(path)
            _say_unknown(imported.record)
            if imported.missing:
                print(f"  {tool} does not state: {', '.join(imported.missing)}", file=sys.stderr)
            if imported.unmapped:
                print(f"  has no place in a record: {', '.join(imported.unmapped)}", file=sys.stderr)


def _say_unknown(record: AnyRecord) -> None:
    """That no answer counts a record of a model or a tier that is none of the catalog's, and what would name it."""
    from fitcheck.models import catalog

    model = getattr(record, "model", None)
    if model is None:
        return
    if model.slug not in catalog.slugs():
        words = f"{model.slug!r} is no model of the catalog, so no answer counts it; --model SLUG names one"
        print(f"  {words} (`fitcheck models` lists them)", file=sys.stderr)
    elif catalog.get(model.slug).tier(model.tier) is None:
        words = f"{model.tier!r} is no known tier of {model.slug}, so no answer counts it; --tier names one where it is"
        print(f"  {words} (`fitcheck models {model.slug}` lists them)", file=sys.stderr)


def _utc(date: str | None) -> int | None:
    if date is None:
        return None
    try:
        day = datetime.datetime.fromisoformat(date)
    except ValueError as error:
        raise OptionError(f"--date: {date!r} is not a date; write it like 2026-05-31.") from error
    return int(day.replace(tzinfo=day.tzinfo or datetime.UTC).timestamp())


def _modified(file: Path) -> int:
    """When the tool wrote the file, in UTC seconds: the same file imported twice gives the same record."""
    try:
        return int(file.stat().st_mtime)
    except OSError as error:
        raise RecordError(f"{file}: cannot be read ({error.strerror}).") from error
