"""The built site on this machine's loopback address, for looking at it."""

from __future__ import annotations

import io
import socket
import sys
import threading
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from fitcheck.errors import OptionError

_MOST_CLIENTS = 512
# names under which a browser on this machine asks; any other is a page from elsewhere that points its name here
_HOSTS = {"localhost", "127.0.0.1", ""}


class _Handler(SimpleHTTPRequestHandler):
    """Files as they are; quiet, and never cached, so that a rebuilt page shows at once."""

    timeout = 5.0  # a client that says nothing

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        if self.headers.get("Host", "").partition(":")[0].lower() not in _HOSTS:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "only this machine's own name is answered")
            return None
        if not self._is_of_the_site(Path(self.translate_path(self.path))):
            self.send_error(HTTPStatus.NOT_FOUND, "there is no such page")
            return None
        return super().send_head()

    def _is_of_the_site(self, path: Path) -> bool:
        """Whether ``path`` is a page or file of the site: not hidden, behind no link that leads out, no listing."""
        root = Path(self.directory).resolve()
        try:
            real = path.resolve()
            file = real / "index.html" if real.is_dir() else real
            inside = file.resolve().is_relative_to(root) and file.is_file()
            return inside and not any(part.startswith(".") for part in file.relative_to(root).parts)
        except (OSError, ValueError):  # a name that no file can have
            return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is not there is answered with the site's own page for that, as a static host does."""
        page = Path(self.directory) / "404.html"
        if code != HTTPStatus.NOT_FOUND or not page.is_file() or page.is_symlink():
            super().send_error(code, message, explain)
            return
        content = page.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


class _Server(ThreadingHTTPServer):
    """So many clients at a time; what comes beyond waits in the system's queue until one of them has gone."""

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(_MOST_CLIENTS)
        super().__init__(*arguments)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        self._free.acquire()
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def server_for(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of ``folder`` on 127.0.0.1; port 0 takes a free one. Raises InputError for no site or a taken port."""
    if not (folder / "index.html").is_file():
        raise OptionError(f"--out: there is no site in {folder}; run `fitcheck site build` first.")
    handler = partial(_Handler, directory=str(folder))
    try:
        return _Server(("127.0.0.1", port), handler)
    except OSError as error:
        raise OptionError(f"--port: {port} cannot be used ({error.strerror or error}); give another.") from error
