"""A dataset hub on 127.0.0.1: the part of the Hugging Face API that a submission uses, with pull requests that keep
their files, and answers that get lost on request."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

DATASET = "fitcheck/results"
TOKEN = "hf_standin"


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class PullRequest:
    title: str
    author: str
    files: dict[str, bytes]


@dataclass
class DatasetHub:
    """``main`` are merged files. ``lose_answers`` commits are done and their answer dropped; ``fail_commits`` are
    answered with 500 before they are done."""

    main: dict[str, bytes] = field(default_factory=dict)
    pull_requests: list[PullRequest] = field(default_factory=list)
    lose_answers: int = 0
    fail_commits: int = 0
    bodies: list[bytes] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def __enter__(self) -> DatasetHub:
        hub = self

        class Handler(_Handler):
            stand_in = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def files(self, revision: str) -> dict[str, bytes]:
        if revision.startswith("refs/pr/"):
            return self.main | self.pull_requests[int(revision.removeprefix("refs/pr/")) - 1].files
        return self.main

    def everything(self) -> list[tuple[str, bytes]]:
        """Every file submitted so far, once for each pull request that holds it."""
        return [item for request in self.pull_requests for item in request.files.items()]


class _Handler(BaseHTTPRequestHandler):
    stand_in: DatasetHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _authorized(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._answer({"error": "Invalid credentials"}, 401)
        return False

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not self._authorized():
            return
        if url.path == "/api/whoami-v2":
            self._answer({"name": "ann", "type": "user", "auth": {"accessToken": {"role": "write"}}})
        elif url.path == f"/api/datasets/{DATASET}/discussions":
            asked = parse_qs(url.query)
            listed = [
                {
                    "num": number,
                    "title": request.title,
                    "author": {"name": request.author},
                    "createdAt": "2026-11-01T00:00:00.000Z",
                    "status": "open",
                    "isPullRequest": True,
                    "repo": {"name": DATASET, "type": "dataset"},
                }
                for number, request in enumerate(self.stand_in.pull_requests, 1)
                if asked.get("author", [request.author]) == [request.author]
            ]
            self._answer({"discussions": listed[::-1], "count": len(listed), "start": 0})
        elif url.path.startswith(f"/api/datasets/{DATASET}"):
            self._answer({"id": DATASET, "sha": "0" * 40, "siblings": [], "private": False, "tags": [], "downloads": 0})
        else:
            self._answer({"error": "Repository not found"}, 404)

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._authorized():
            return
        name, _, revision = unquote(url.path).removeprefix(f"/api/datasets/{DATASET}/").partition("/")
        hub = self.stand_in
        if name == "paths-info":
            files = hub.files(revision)
            wanted = parse_qs(body.decode()).get("paths", [])
            self._answer(
                [
                    {"type": "file", "path": path, "size": len(files[path]), "oid": blob_id(files[path])}
                    for path in wanted
                    if path in files
                ]
            )
        elif name == "preupload":
            asked = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            )
        elif name == "commit":
            self._commit(body, parse_qs(url.query))
        else:
            hub.unknown.append(self.path)
            self._answer({"error": "not found"}, 404)

    def _commit(self, body: bytes, query: dict[str, list[str]]) -> None:
        hub = self.stand_in
        hub.bodies.append(body)
        if hub.fail_commits > 0:
            hub.fail_commits -= 1
            self._answer({"error": "try later"}, 500)
            return
        lines = [json.loads(line) for line in body.splitlines() if line]
        header = next(line["value"] for line in lines if line["key"] == "header")
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        assert query.get("create_pr") == ["1"]
        hub.pull_requests.append(PullRequest(header["summary"], "ann", files))
        if hub.lose_answers > 0:
            hub.lose_answers -= 1
            self.close_connection = True
            self.connection.close()
            return
        number = len(hub.pull_requests)
        self._answer(
            {
                "success": True,
                "commitOid": "1" * 40,
                "commitUrl": f"{hub.address}/datasets/{DATASET}/commit/{'1' * 40}",
                "pullRequestUrl": f"{hub.address}/datasets/{DATASET}/discussions/{number}",
            }
        )
