"""What a hub's status codes and headers mean, in one sentence each."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from fitcheck.errors import FileError, NetworkError

if TYPE_CHECKING:
    import httpx

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)")


class RetryableError(Exception):
    """A failure that may pass; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, sentence: str, wait: float | None = None) -> None:
        super().__init__(sentence)
        self.wait = wait


def check_status(response: httpx.Response, what: str, *, had_token: bool) -> None:
    """Raises InputError for an answer that will not change, RetryableError for one that may."""
    status = response.status_code
    if status in (200, 206):
        return
    code = response.headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        raise NetworkError(
            f"{what}: the repository is gated; accept its terms on its page and set HF_TOKEN to that account's token."
        )
    if status in (401, 403):
        raise NetworkError(
            f"{what}: the hub refuses (HTTP {status}): "
            + (
                "the token in use may not read it; check the name and the token's rights."
                if had_token
                else "it does not exist, is private or is gated; check the name, or set HF_TOKEN."
            )
        )
    if status == 404:
        missing = {"RevisionNotFound": "revision", "EntryNotFound": "file"}.get(code, "repository or file")
        raise FileError(f"{what}: the hub knows no such {missing} (HTTP 404); check the name.")
    if status == 429:
        raise RetryableError(f"{what}: the hub limits the rate of requests (HTTP 429).", _retry_after(response))
    if status >= 500 or status == 408:
        raise RetryableError(f"{what}: the server fails (HTTP {status}).", _retry_after(response))
    raise NetworkError(f"{what}: the server answers HTTP {status}, which is no file; check the address.")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait: a number or a date (RFC 9110 §10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal() and len(text) <= 9:
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        wait = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):  # no date, or one of a year or zone that no calendar has
        return None
    return max(0.0, wait)


def check_is_data(response: httpx.Response, what: str) -> None:
    """Raises InputError for a web page or a compressed body where the file's own bytes were asked for."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise NetworkError(f"{what}: the server answers with a web page instead of the file; check the address.")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise NetworkError(
            f"{what}: the server sends the file compressed, so that parts of it cannot be read; use another."
        )


def check_range(response: httpx.Response, start: int, what: str) -> None:
    """Raises InputError when a partial answer is not the part that was asked for."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None or match[1] is None or int(match[1]) != start:
        raise NetworkError(
            f"{what}: the server sends another part of the file than was asked for; try another address."
        )


def total_size(response: httpx.Response) -> int | None:
    """The whole file's size from Content-Range, None when it is not told."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(match[3]) if match and match[3] != "*" else None
