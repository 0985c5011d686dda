"""``fitcheck doctor``: what of this machine stands in the way of running models, with consequences and remedies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.printable import json_text, one_line

if TYPE_CHECKING:
    from fitcheck.hardware.software import SoftwareRow
    from fitcheck.verdict.examination import FindingLevel, MachineFinding, Seen
    from fitcheck.verdict.report import Report

LIMITED, IN_THE_WAY = 3, 4
_COLUMNS = ("component", "minimum", "tested", "yours", "status")


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck doctor``. Exit code: 0 nothing limits, 3 something does, 4 something stands in the way."""

    @app.command()
    def doctor(
        model: Annotated[
            str | None,
            typer.Argument(metavar="MODEL", help="A model as for `fitcheck check`: then for this model in particular."),
        ] = None,
        tier: Annotated[str | None, typer.Option("--tier", "-t", help="The tier of the model.")] = None,
        python: Annotated[
            str | None,
            typer.Option("--python", help="The Python of the program that runs models; default: fitcheck's own."),
        ] = None,
        quick: Annotated[
            bool, typer.Option("--quick", help="No copies over the link and no read from the disk.")
        ] = False,
        offline: Annotated[bool, typer.Option("--offline", help="Use what was fetched before and no network.")] = False,
        json_: Annotated[bool, typer.Option("--json", help="As JSON (docs/json.md).")] = False,
    ) -> None:
        """Driver, PyTorch wheel, link, memory held by others, limits, swap and disk of this machine, each with what
        follows and what to do. Exit code: 0 nothing limits, 3 something does, 4 something stands in the way."""
        from fitcheck.verdict.examination import examine, software, to_json, worst

        report, refused = _report(model, tier, offline=offline)
        seen = look(report, python=python, quick=quick)
        findings = (*examine(seen, report), *([_refusal(model or "", refused)] if refused else []))
        rows = software(seen, report)
        if json_:
            print(json_text(to_json(findings, rows)))
        else:
            _show(findings, rows)
        raise typer.Exit(_code(worst(findings, rows)))


def look(report: Report | None, *, python: str | None, quick: bool) -> Seen:
    """Detection of everything that the findings are made from. Raises OptionError for a Python that does not answer."""
    import platform

    from fitcheck.hardware.detect import disk, environment, limits, link_load, survey
    from fitcheck.hardware.detect.detected_machine import machine_from
    from fitcheck.hardware.detect.system_memory import model_cache
    from fitcheck.verdict.examination import Seen

    local = None if report is None else report.best.tier.local_path
    place = Path(local) if local is not None else model_cache()
    found = survey(place if place.is_dir() else place.parent)
    raw = tuple(found.gpus)
    nvidia = [one.vendor == "NVIDIA" and one.mig is None for one in raw]
    loads = tuple(None if quick or not own else link_load.find(at) for at, own in enumerate(nvidia))
    limit = found.host.readings.value("cgroup_limit")
    total = found.host.readings.value("ram_total")
    return Seen(
        machine=machine_from(found, platform.system()),
        raw=raw,
        limits=limits.find(),
        environment=environment.find(python),
        disk=disk.FoundDisk(disk.file_system(place, Path("/proc/mounts")), tried=False) if quick else disk.find(place),
        links=loads,
        container_limit=limit if limit is not None and (total is None or limit < total) else None,
        arm=platform.machine().lower() in ("aarch64", "arm64"),
    )


def _report(model: str | None, tier: str | None, *, offline: bool) -> tuple[Report | None, str]:
    """The report of the named model on this machine; where it needs a card and there is none, why not. Raises
    InputError for names that cannot be."""
    from fitcheck.cli.options import Question, answer
    from fitcheck.errors import CardError

    if model is None:
        return None, ""
    try:
        return answer(Question(model=model, tier=tier, offline=offline)), ""
    except CardError as problem:
        return None, str(problem)


def _refusal(model: str, why: str) -> MachineFinding:
    from fitcheck.verdict.examination import FindingLevel, MachineFinding

    return MachineFinding(model, FindingLevel.FAILS, why)


def _code(level: FindingLevel) -> int:
    return {"fails": IN_THE_WAY, "limits": LIMITED}.get(str(level), 0)


def _show(findings: tuple[MachineFinding, ...], rows: tuple[SoftwareRow, ...]) -> None:
    """Findings as lines, software as a table; what of it binds is said in words below."""
    from fitcheck.cli.listing import show

    wide = max(len(one.name) for one in findings)
    for one in findings:
        print(_padded(str(one.level), 7), _padded(one.name, wide), one_line(one.found))
        for label, text in (("so", one.consequence), ("do", one.remedy)):
            if text:
                print(f"{'':{7 + wide}}   {label}: {one_line(text)}")
    if not rows:
        return
    print()
    show(_COLUMNS, [(row.name, row.minimum, row.tested, row.yours, str(row.status)) for row in rows])
    for row in rows:
        if row.binds:
            print(f"· {one_line(row.name)}: {one_line(row.words)}")


def _padded(text: str, width: int) -> str:
    return f"{one_line(text):{width}}"
