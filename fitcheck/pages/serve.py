"""The built site on this machine's loopback address, for looking at it."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fitcheck.errors import InputError


class _Handler(SimpleHTTPRequestHandler):
    """Files as they are; quiet, and never cached, so that a rebuilt page shows at once."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


def server_for(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of ``folder`` on 127.0.0.1; port 0 takes a free one. Raises InputError for no site or a taken port."""
    if not (folder / "index.html").is_file():
        raise InputError(f"--out: there is no site in {folder}; run `fitcheck site build` first.")
    handler = partial(_Handler, directory=str(folder))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise InputError(f"--port: {port} cannot be used ({error.strerror or error}); give another.") from error
