"""Which hub, with which token, from which cache: read from the environment as huggingface_hub reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from urllib.parse import urlsplit

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError, NetworkError
from fitcheck.models.source import open_regular
from fitcheck.user_folders import cache_root

DEFAULT_ENDPOINT = "https://huggingface.co"
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_ENDPOINT = re.compile(
    r"https?://(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?(?:/[\w.~%-]{0,200}){0,20}",
    re.ASCII | re.IGNORECASE,
)
_YES = {"1", "on", "yes", "true"}


@dataclass(frozen=True, slots=True)
class HubSettings:
    """How to reach the hub. Waits and timeouts in seconds; ``cache`` None keeps nothing on disk."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    cache: Path | None = None
    attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 20.0
    timeout: float = 10.0
    request_limit: float = 90.0

    @classmethod
    def from_environment(cls, *, offline: bool = False, environment: Mapping[str, str] | None = None) -> HubSettings:
        """Settings from HF_ENDPOINT, HF_TOKEN (or the saved token file), HF_HUB_OFFLINE and the user's cache folder.

        Raises InputError for an endpoint or token that cannot be one; the token is never quoted.
        """
        env = os.environ if environment is None else environment
        endpoint = env.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT
        if not _is_endpoint(endpoint):
            raise NetworkError("HF_ENDPOINT is not an address like https://huggingface.co; correct it or unset it.")
        return cls(
            endpoint=endpoint,
            token=_token(env),
            offline=offline or env.get("HF_HUB_OFFLINE", "").lower() in _YES,
            cache=cache_root(env),
        )


def _is_endpoint(text: str) -> bool:
    """Whether ``text`` is scheme, host, port and folder of a web address, and nothing more."""
    if not _ENDPOINT.fullmatch(text):
        return False
    try:
        parts = urlsplit(text)
        return ".." not in (parts.hostname or "..") and (parts.port is None or parts.port > 0)
    except ValueError:  # a port beyond 65535, or brackets around what is no address
        return False


def _token(env: Mapping[str, str]) -> str | None:
    if env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").lower() in _YES:
        return None
    token = env.get("HF_TOKEN", env.get("HUGGING_FACE_HUB_TOKEN", "")).strip()
    where = "HF_TOKEN"
    if not token:
        where = "the saved hub token"
        try:
            home = env.get("HF_HOME") or f"{env.get('XDG_CACHE_HOME') or Path.home() / '.cache'}/huggingface"
            file = Path(env.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
            with open_regular(file, "a file with a token") as opened:
                token = opened.read(8192).decode("ascii", errors="replace").strip()
        except (OSError, RuntimeError, InputError):  # no such file, no file at all, or a user without a home
            return None
    if not token:
        return None
    if not _TOKEN.fullmatch(token):
        raise NetworkError(f"{where} holds characters that no hub token has; log in again or unset it.")
    return token
