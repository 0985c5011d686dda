"""However a server spends an exchange's time, the exchange ends; and no header of it ends the program."""

from __future__ import annotations

import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.errors import InputError
from fitcheck.models.hub.answers import _retry_after
from fitcheck.models.hub.settings import HubSettings
from fitcheck.models.hub.transport import Transport

Write = Callable[[bytes], object]
LIMIT = 1.0


def _drip(write: Write, start: bytes, piece: bytes) -> None:
    write(start)
    for _ in range(200):
        write(piece)
        time.sleep(0.05)


DRIPS = {
    "status": (b"H", b" "),
    "100": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 50),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"G"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nG\r\n"),
    "chunk extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
}


@contextmanager
def server(name: str) -> Iterator[str]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                self.request.recv(65536)
                _drip(self.wfile.write, *DRIPS[name])
            except OSError:
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/model.gguf"
        listening.shutdown()


@pytest.mark.parametrize("name", DRIPS)
def test_a_server_that_trickles_is_left(name: str) -> None:
    chosen = HubSettings(timeout=5.0, request_limit=LIMIT, first_wait=0.01)
    with server(name) as url, Transport(chosen) as transport:
        started = time.monotonic()
        with pytest.raises(InputError, match="too slowly"):
            transport.get_range(url, 0, 100_000, "model.gguf")
        assert time.monotonic() - started < LIMIT + 1


def test_retries_do_not_start_the_clock_again() -> None:
    chosen = HubSettings(timeout=0.3, request_limit=LIMIT, first_wait=0.2, attempts=50)
    with server("status") as url, Transport(chosen) as transport:
        started = time.monotonic()
        with pytest.raises(InputError):
            transport.get_json(url, "model")
        assert time.monotonic() - started < LIMIT + 2


def test_the_deadline_reaches_a_proxys_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    with server("headers") as url, Transport(HubSettings(timeout=5.0, request_limit=LIMIT)) as transport:
        monkeypatch.setenv("http_proxy", url.rpartition("/")[0])
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(InputError, match="too slowly"):
            transport.get_range("http://hub.example/model.gguf", 0, 100, "model.gguf")


DAY = st.integers(-(10**12), 10**12)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=40)
    | st.builds(
        "Mon, {} Jan {} {}:00:00 {}{}".format, DAY, DAY, DAY, st.sampled_from(["GMT", "+", "-", ""]), DAY | st.just("")
    )
    | st.integers().map(str)
)
def test_any_wait_that_a_server_asks_for_is_a_number_or_none(text: str) -> None:
    response = httpx.Response(429, headers=[(b"Retry-After", text.encode("utf-8", "replace"))])
    wait = _retry_after(response)
    assert wait is None or wait >= 0


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.builds("http{}://{}{}".format, st.sampled_from(["", "s"]), st.text(max_size=20), DAY))
def test_any_endpoint_is_one_or_a_sentence(text: str) -> None:
    try:
        chosen = HubSettings.from_environment(environment={"HF_ENDPOINT": text, "HF_TOKEN": "hf_x"})
    except InputError:
        return
    assert chosen.endpoint.startswith(("http://", "https://")) or not text.strip().rstrip("/")
    assert httpx.URL(chosen.endpoint + "/api").host


def test_a_token_file_that_is_a_pipe_or_endless_is_no_token(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        assert HubSettings.from_environment(environment={"HF_TOKEN_PATH": str(path)}).token is None
