"""HTTP as this program needs it: bounded, retried, counted, and careful about where the token goes."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import NetworkError
from fitcheck.models.hub.answers import RetryableError, check_is_data, check_range, check_status, total_size
from fitcheck.models.hub.settings import HubSettings
from fitcheck.units import KIB, MIB

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

    from fitcheck.models.hub.deadline import Deadline

MAX_CONNECTIONS = 8
_MAX_REDIRECTS = 5
_MAX_GIVEN_UP = 3
_JSON_LIMIT = 16 * MIB
_EXPIRED = {401, 403, 404, 410}
_REDIRECTS = {301, 302, 303, 307, 308}
Result = TypeVar("Result")


@dataclass(slots=True)
class Traffic:
    """What went over the network: body bytes that arrived, and requests."""

    fetched_bytes: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of a file from ``start``; ``size`` is the whole file's, when the server told it.

    ``unchanged`` is a 304 answer; ``ranged`` is False when the server ignored the range and sent from the beginning.
    """

    start: int
    data: bytes
    size: int | None
    etag: str | None
    unchanged: bool = False
    ranged: bool = True


def origin(url: str) -> tuple[str, str, int | None]:
    """(scheme, host, port): what decides whether the token may be sent along."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


class Transport:
    """One HTTP client for a whole run. Thread-safe; close it, or use it as a context manager."""

    def __init__(self, settings: HubSettings) -> None:
        self.settings = settings
        self.traffic = Traffic()
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._deadline: Deadline | None = None
        self._moved: dict[str, str] = {}
        self._given_up = 0

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; a later request opens new ones."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def get_json(self, url: str, what: str) -> tuple[Any, str | None]:
        """(parsed answer, address of the next page or None). Raises InputError naming ``what``."""

        def once() -> tuple[Any, str | None]:
            with self._answer(url, {"Accept": "application/json"}, what) as response:
                check_status(response, what, had_token=self.settings.token is not None)
                body = self._body(response, _JSON_LIMIT + 1, what)
                following = response.links.get("next", {}).get("url")
            if len(body) > _JSON_LIMIT:
                raise NetworkError(f"{what}: the hub's answer does not end within {_JSON_LIMIT // MIB} MiB; try later.")
            try:
                return json.loads(body), urljoin(url, following) if following else None
            except (ValueError, RecursionError):
                raise NetworkError(
                    f"{what}: the hub answers with something that is not its JSON, perhaps a login page; "
                    "check HF_ENDPOINT and the network."
                ) from None

        return self._retried(once, what)

    def get_range(self, url: str, start: int, length: int, what: str, *, etag: str | None = None) -> FilePart:
        """Up to ``length`` bytes from ``start``; none past the end. With ``etag`` the server may answer "unchanged".

        A server that ignores the range is read from the beginning and no further than asked. Raises InputError.
        """
        headers = {"Range": f"bytes={start}-{start + length - 1}"} | ({"If-None-Match": etag} if etag else {})

        def once() -> FilePart:
            with self._answer(url, headers, what) as response:
                told = response.headers.get("ETag")
                if response.status_code == 304 and etag:
                    return FilePart(start, b"", None, etag, unchanged=True)
                if response.status_code == 416:
                    return FilePart(start, b"", total_size(response), told)
                check_status(response, what, had_token=self.settings.token is not None)
                check_is_data(response, what)
                if response.status_code == 206:
                    check_range(response, start, what)
                    return FilePart(start, self._body(response, length, what), total_size(response), told)
                body = self._body(response, start + length, what)
                claimed = response.headers.get("Content-Length", "")
                return FilePart(0, body, int(claimed) if claimed.isdecimal() else None, told, ranged=False)

        return self._retried(once, what)

    def _http(self) -> tuple[httpx.Client, Deadline]:
        import httpx

        from fitcheck.models.hub.deadline import Deadline, limit

        with self._lock:
            if self._client is None or self._deadline is None:
                self._deadline = Deadline()
                client = httpx.Client(
                    timeout=httpx.Timeout(self.settings.timeout, pool=None),
                    limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
                    headers={"User-Agent": "fitcheck", "Accept-Encoding": "identity"},
                )
                self._client = limit(client, self._deadline)
            return self._client, self._deadline

    @contextmanager
    def _answer(self, url: str, headers: dict[str, str], what: str) -> Iterator[httpx.Response]:
        """The streamed response after redirects, whose end is remembered for the file's next part.

        The token goes to the hub's own origin and nowhere else.
        """
        place = self._moved.get(url, url)
        remembered = place != url
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(place, headers, what)
            try:
                if remembered and response.status_code in _EXPIRED:
                    place, remembered = url, False  # addresses of a hub's storage hold for a while only
                elif response.status_code in _REDIRECTS:
                    place = _redirected(place, response.headers.get("Location", ""), what)
                else:
                    self._moved[url] = place
                    yield response
                    return
            finally:
                response.close()
        raise NetworkError(f"{what}: the server redirects in circles; check the address.")

    def _send(self, url: str, headers: dict[str, str], what: str) -> httpx.Response:
        sent = dict(headers)
        if self.settings.token and origin(url) == origin(self.settings.endpoint):
            sent["Authorization"] = f"Bearer {self.settings.token}"
        with self._lock:
            self.traffic.requests += 1
        with _network_problems(what):
            client, _ = self._http()
            return client.send(client.build_request("GET", url, headers=sent), stream=True)

    def _body(self, response: httpx.Response, limit: int, what: str) -> bytes:
        """At most ``limit`` bytes of the body as sent; the rest is left unread."""
        body = bytearray()
        with _network_problems(what):
            for chunk in response.iter_raw(64 * KIB):
                with self._lock:
                    self.traffic.fetched_bytes += len(chunk)
                body += chunk
                if len(body) >= limit:
                    break
        return bytes(memoryview(body)[:limit])

    def _retried(self, once: Callable[[], Result], what: str) -> Result:
        """``once``, again after failures that may pass, with growing waits or the wait that the server asks for; all
        of it within one deadline."""
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        settings = self.settings

        def wait(state: RetryCallState) -> float:
            problem = state.outcome.exception() if state.outcome else None
            asked = problem.wait if isinstance(problem, RetryableError) else None
            if asked is not None and asked > settings.longest_wait:
                raise NetworkError(f"{problem} It asks to wait {asked:.0f} s; try again then.")
            if asked is not None:
                return asked
            backoff = settings.first_wait * float(2 ** (state.attempt_number - 1))
            return min(settings.longest_wait, backoff) * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries

        # A server that failed several files for good is not waited for again for each of the others.
        tries = settings.attempts if self._given_up < _MAX_GIVEN_UP else 1
        attempts = Retrying(
            stop=stop_after_attempt(tries),
            wait=wait,
            retry=retry_if_exception_type(RetryableError),
            reraise=True,
        )
        with _network_problems(what):
            deadline = self._http()[1]
        try:
            with deadline.within(settings.request_limit):
                result: Result = attempts(once)
        except RetryableError as problem:
            with self._lock:
                self._given_up += 1
            raise NetworkError(f"{problem} Tried {tries} {'times' if tries > 1 else 'time'}; try later.") from None
        return result


@contextmanager
def _network_problems(what: str) -> Iterator[None]:
    """Turns what httpx raises into sentences. Its own texts are not quoted: they may hold a header or a signed URL."""
    import httpx

    from fitcheck.models.hub.deadline import DeadlineError

    try:
        yield
    except DeadlineError:
        raise NetworkError(f"{what}: the server sends too slowly; try later.") from None
    except httpx.TimeoutException:
        raise RetryableError(f"{what}: the server does not answer in time.") from None
    except httpx.ConnectError:
        raise RetryableError(f"{what}: the server cannot be reached; check the network, or use --offline.") from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError):
        raise _bad_address(what) from None
    except httpx.TransportError:
        raise RetryableError(f"{what}: the connection broke before the answer was complete.") from None


def _bad_address(what: str) -> NetworkError:
    return NetworkError(f"{what}: this is not an address that can be fetched; check it.")


def _redirected(url: str, location: str, what: str) -> str:
    try:
        target = urljoin(url, location)
        scheme, host, _ = origin(target)
    except ValueError:
        raise _bad_address(what) from None
    if not location or scheme not in ("http", "https") or not host:
        raise NetworkError(f"{what}: the server redirects to nowhere; check the address.")
    if scheme == "http" and origin(url)[0] == "https":
        raise NetworkError(
            f"{what}: the server redirects from https to plain http, which is refused; check the address."
        )
    return target
