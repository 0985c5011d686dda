"""One deadline over a whole exchange: no single wait of it may be long, and all of them together may not either.

httpx limits the wait for each read, so a server that sends one byte now and then is never too slow for it. The
connections' reads and writes are where the time of an exchange passes, whatever it is spent on (a status line, early
hints, headers, a body), so that is where the clock is looked at.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

SocketOptions = Iterable[Any]
_LEAST = 0.01


class DeadlineError(Exception):
    """The exchange took longer than it may."""


class Deadline:
    """When the exchange of the current thread has to be over; threads do not share it."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Everything inside the block is over in so many seconds, or ends in DeadlineError."""
        before = getattr(self._local, "end", None)
        self._local.end = time.monotonic() + seconds
        try:
            yield
        finally:
            self._local.end = before

    def left(self) -> float | None:
        """Seconds until the deadline, None without one. Raises DeadlineError when it has passed."""
        end: float | None = getattr(self._local, "end", None)
        if end is None:
            return None
        left = end - time.monotonic()
        if left <= 0:
            raise DeadlineError
        return left

    def shortened(self, timeout: float | None) -> float | None:
        """``timeout`` in seconds, or what is left where that is less. Raises DeadlineError when nothing is."""
        left = self.left()
        return timeout if left is None else max(_LEAST, min(left, left if timeout is None else timeout))


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        timeout = self._deadline.shortened(timeout)
        try:
            return self._stream.read(max_bytes, timeout)
        except httpcore.ReadTimeout:
            self._deadline.left()
            raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.shortened(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.shortened(timeout))
        return _Stream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Connects as httpcore does, within the deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._sockets, self._deadline = httpcore.SyncBackend(), deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.NetworkStream:
        timeout = self._deadline.shortened(timeout)
        stream = self._sockets.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._deadline)

    def sleep(self, seconds: float) -> None:
        self._sockets.sleep(seconds)


def limit(client: httpx.Client, deadline: Deadline) -> httpx.Client:
    """``client``, with ``deadline`` over all its connections, those through the environment's proxies too.

    httpx has no public way to set httpcore's network backend; a test holds that this one reaches it.
    """
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            transport._pool._network_backend = _Backend(deadline)  # type: ignore[attr-defined]
    return client
