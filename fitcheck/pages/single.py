"""One self-contained page for sending around: no site around it, no request, style and script inside by hash."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from fitcheck.errors import OptionError, RecordError
from fitcheck.pages import words
from fitcheck.pages.document import report_document, way_out
from fitcheck.pages.page import Head
from fitcheck.pages.render import compact, policy, render, static
from fitcheck.pages.site_plan import LIST_SCHEMA
from fitcheck.records.schema import AnyRecord
from fitcheck.verdict.report import Report


def write(report: Report, path: Path, command: str | None = None) -> Path:
    """Write ``report`` as one HTML file and return its path; ``command`` is named on the page as what was asked.

    Raises InputError when the file cannot be written; a file that was there is replaced whole or not at all.
    """
    return _put(path, page_of(report, command))


def write_records(records: Sequence[AnyRecord], path: Path) -> Path:
    """Write finished records of a bench run as one HTML file, in their order. Raises InputError as ``write`` does."""
    return _put(path, page_of_records(records))


def page_of(report: Report, command: str | None = None) -> str:
    """The HTML of a report's page."""
    document = report_document(report, command)
    out = way_out(document)
    return _alone(
        "check.html",
        document,
        words.title(document, out),
        words.description(document, out),
        lead=words.lead(document, out),
        near="",
    )


def page_of_records(records: Sequence[AnyRecord]) -> str:
    """The HTML of a page about measured records."""
    from fitcheck.records import store

    if not records:
        raise RecordError("--html: there is no finished record to show.")
    documents = [store.document_of(store.seal(record)) for record in records]
    document = {"schema": LIST_SCHEMA, "address": None, "records": documents, "about": None}
    name = getattr(getattr(records[0], "card", None), "name", "CPU")
    title = f"Measured on {name}: {len(documents)} record{'s' if len(documents) > 1 else ''}"
    return _alone("result.html", document, title, "Measured with fitcheck bench.")


def _alone(template: str, document: Mapping[str, object], title: str, description: str, **values: object) -> str:
    style, script = (Markup(compact(static(name))) for name in ("site.css", "site.js"))  # noqa: S704 - our own
    head = Head(
        title=title,
        description=description,
        policy=policy(inline_style=style, inline_script=script),
        style=style,
        script=script,
    )
    return render(template, document, page=head, root="", **values)


def _put(named: Path, html: str) -> Path:
    path = Path(os.path.realpath(named))  # a link stays, what it leads to is written
    if path.exists() and not path.is_file():
        raise OptionError(f"--html: {named} is not a file that can be replaced; name one, like page.html.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(html)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OptionError(f"--html: {named} cannot be written ({error.strerror or error}).") from error
    return named
