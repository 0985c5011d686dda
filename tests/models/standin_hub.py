"""A hub on 127.0.0.1 that speaks the Hugging Face API as fitcheck uses it, and misbehaves on request."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@dataclass(frozen=True)
class Blob:
    """A file of ``size`` bytes that starts with ``head`` and goes on with zeros."""

    head: bytes
    size: int

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.head + str(self.size).encode()).hexdigest()

    def part(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        held = self.head[start:end]
        return held + b"\0" * (max(0, end - start) - len(held))


def blob(data: bytes) -> Blob:
    return Blob(data, len(data))


@dataclass
class Request:
    path: str
    range: str | None
    authorization: str | None


@dataclass
class StandInHub:
    """Use as a context manager. ``files[repository][path]`` are served; ``misbehave`` sets how it goes wrong.

    ``redirect`` sends every file request on to another stand-in's address, as the hub does to its storage, whose signed
    addresses are refused once when ``expire_after`` requests were answered.
    """

    files: dict[str, dict[str, Blob]] = field(default_factory=dict)
    page_size: int = 1000
    token: str | None = None
    redirect: str | None = None
    delay: float = 0.0
    commit: str = COMMIT
    next_pages_at: str | None = None
    expire_after: int | None = None
    requests: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _faults: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __enter__(self) -> StandInHub:
        hub = self

        class Handler(_Handler):
            stand_in = hub

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def misbehave(self, fault: str, *, where: str = "resolve", times: int = 1 << 30) -> None:
        """The next ``times`` requests whose path contains ``where`` go wrong as ``fault`` says."""
        self._faults[where] = (fault, times)

    def fault_for(self, path: str) -> str | None:
        for where, (fault, times) in self._faults.items():
            if where in path and times > 0:
                self._faults[where] = (fault, times - 1)
                return fault
        return None

    def file_requests(self) -> list[Request]:
        return [request for request in self.requests if "/resolve/" in request.path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up in the middle is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandInHub

    def log_message(self, *_: object) -> None:
        """Quiet: tests read ``requests`` instead."""

    def do_GET(self) -> None:
        hub = self.stand_in
        hub.requests.append(Request(self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        with hub._lock:
            hub._at_once += 1
            hub.most_at_once = max(hub.most_at_once, hub._at_once)
        try:
            time.sleep(hub.delay)
            fault = hub.fault_for(self.path)
            if fault and self._go_wrong(fault):
                return
            self._route(fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with hub._lock:
                hub._at_once -= 1

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _go_wrong(self, fault: str) -> bool:
        """Answers for the faults that need no file; False for those that change how the file is sent."""
        if fault == "gated":
            self._answer(403, X_Error_Code="GatedRepo")
        elif fault == "busy":
            self._answer(429, Retry_After="0")
        elif fault == "busy for long":
            self._answer(429, Retry_After="3600")
        elif fault == "busy until":
            self._answer(503, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT")
        elif fault == "html":
            self._answer(200, HTML, Content_Type="text/html; charset=utf-8")
        elif fault == "loop":
            self._answer(302, Location=self.path)
        elif fault == "nowhere":
            self._answer(302, Location="ftp://example.org/file")
        elif fault == "silent":
            time.sleep(1.5)
            self.close_connection = True
        elif fault.isdigit():
            self._answer(int(fault))
        else:
            return False
        return True

    def _route(self, fault: str | None) -> None:
        hub, parts = self.stand_in, urlsplit(self.path)
        path = unquote(parts.path)
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._answer(401)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path):
            if match[1] not in hub.files:
                return self._answer(404, X_Error_Code="RepoNotFound")
            if match[3] not in ("main", "refs/pr/1", hub.commit):
                return self._answer(404, X_Error_Code="RevisionNotFound")
            if match[2] == "revision":
                return self._answer(
                    200, json.dumps({"_id": "1", "sha": hub.commit}).encode(), Content_Type="application/json"
                )
            return self._list(match[1], int(parse_qs(parts.query).get("cursor", ["0"])[0]))
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            found = hub.files.get(match[1], {}).get(match[3])
            if found is None:
                return self._answer(404, X_Error_Code="EntryNotFound")
            if hub.expire_after is not None:
                hub.expire_after -= 1
                if hub.expire_after == 0:
                    return self._answer(403)
            if hub.redirect:
                return self._answer(302, Location=f"{hub.redirect}{parts.path}?signature=secret-signature")
            return self._send(found, fault)
        return self._answer(404)

    def _list(self, repository: str, cursor: int) -> None:
        hub = self.stand_in
        rows = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "folder"}]
        for path, found in hub.files[repository].items():
            lfs = {"oid": found.digest, "size": found.size, "pointerSize": 135}
            rows.append({"type": "file", "oid": "1" * 40, "size": found.size, "path": path, "lfs": lfs})
        page, following = rows[cursor : cursor + hub.page_size], cursor + hub.page_size
        base = (hub.next_pages_at or hub.url) + urlsplit(self.path).path
        link = f'<{base}?recursive=true&cursor={following}>; rel="next"'
        more = {"Link": link} if following < len(rows) else {}
        self._answer(200, json.dumps(page).encode(), Content_Type="application/json", **more)

    def _send(self, found: Blob, fault: str | None) -> None:
        if self.headers.get("If-None-Match") == f'"{found.digest}"':
            return self._answer(304, ETag=f'"{found.digest}"')
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match is None or fault == "ignores range":
            return self._send_whole(found)
        start, end = int(match[1]), min(int(match[2]) + 1, found.size)
        if start >= found.size:
            return self._answer(416, Content_Range=f"bytes */{found.size}")
        if fault == "endless":
            return self._send_endless()
        if fault == "half":
            end = start + max(1, (end - start) // 2)
        elif fault == "crumbs":
            end = min(end, start + 10)
        size = found.size + 1 if fault == "wrong total" else found.size
        shown = start + 4096 if fault == "wrong part" else start
        body = found.part(start, end)
        headers = {
            "Content_Type": "application/octet-stream",
            "Content_Range": f"bytes {shown}-{shown + len(body) - 1}/{size}",
            "ETag": f'"{found.digest}"',
        }
        if fault == "closes early":
            headers["Content_Length"] = str(len(body))
            body, self.close_connection = body[: len(body) // 2], True
        elif fault == "claims less":
            headers["Content_Length"] = str(len(body) // 2)
            self.close_connection = True
        elif fault == "claims more":
            headers["Content_Length"] = str(len(body) + 1000)
            self.close_connection = True
        elif fault == "compressed":
            headers["Content_Encoding"] = "gzip"
        elif fault == "no content range":
            del headers["Content_Range"]
        return self._answer(206, body, **headers)

    def _send_whole(self, found: Blob) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(found.size))
        self.end_headers()
        for start in range(0, found.size, 1 << 16):
            self.wfile.write(found.part(start, start + (1 << 16)))

    def _send_endless(self) -> None:
        """No length, no end: a header that grows for ever."""
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        for _ in range(1 << 14):
            self.wfile.write(b"\1\0\0\0\0\0\0\0a" * 4096)
