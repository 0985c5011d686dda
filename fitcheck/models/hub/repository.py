"""Repositories and single files on the hub, as sets of model files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard, TypeVar
from urllib.parse import quote, unquote, urlsplit

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import FileError, ModelError, NetworkError
from fitcheck.models.files import MODEL_SUFFIXES
from fitcheck.models.hub.cache import DiskCache
from fitcheck.models.hub.remote import Address, RemoteFile
from fitcheck.models.hub.transport import MAX_CONNECTIONS, Transport, origin
from fitcheck.models.source import ByteSource

_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_DIGEST = re.compile(r"[0-9a-zA-Z:_-]{1,200}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_PAGES = 100
_MAX_FILES = 20_000
_HUB_HOSTS = {"huggingface.co", "www.huggingface.co", "hf.co"}
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class HubName:
    """``org/repo[@revision][:file]`` taken apart."""

    repository: str
    revision: str = "main"
    file: str | None = None

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{self.repository}{revision}" + (f":{self.file}" if self.file else "")


def parse_hub_name(text: str) -> HubName | None:
    """The parts of ``org/repo``, ``org/repo@revision``, ``org/repo:file``; None when it is nothing of the kind.

    Raises InputError for a repository with an unusable revision or file.
    """
    left, colon, file = text.partition(":")
    repository, at, revision = left.partition("@")
    if not _REPOSITORY.fullmatch(repository) or repository.endswith((".gguf", ".safetensors", ".json")):
        return None
    if (at and not _is_path(revision)) or (colon and not _is_path(file)):
        raise ModelError(
            f"{text[:200]!r}: the revision or file is not usable; write org/repo@revision:folder/file.gguf."
        )
    return HubName(repository, revision or "main", file or None)


def parse_hub_url(url: str, endpoint: str) -> HubName | None:
    """The hub file or repository that an address of its web site names; None for any other address."""
    parts = urlsplit(url)
    if origin(url) != origin(endpoint) and (parts.hostname or "").lower() not in _HUB_HOSTS:
        return None
    prefix = urlsplit(endpoint).path if origin(url) == origin(endpoint) else ""
    steps = [unquote(step) for step in parts.path.removeprefix(prefix).strip("/").split("/")]
    repository = "/".join(steps[:2])
    if not _REPOSITORY.fullmatch(repository):
        return None
    if len(steps) == 2:
        return HubName(repository)
    if steps[2] in ("resolve", "blob", "raw") and len(steps) > 4 and _is_path("/".join(steps[3:])):
        return HubName(repository, steps[3], "/".join(steps[4:]))
    if steps[2] == "tree" and len(steps) > 3 and _is_path("/".join(steps[3:])):
        return HubName(repository, "/".join(steps[3:]))
    return None


def _is_path(text: str) -> bool:
    """Whether ``text`` is a relative path that stays inside its repository and can be printed."""
    steps = text.split("/")
    return bool(text) and text.isprintable() and len(text) <= 1024 and not {"", ".", ".."} & set(steps)


class _Remote:
    """What repositories and bare URLs share: a transport, a cache, and work spread over a few connections."""

    def __init__(self, transport: Transport, cache: DiskCache) -> None:
        self._transport, self._cache = transport, cache

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
            return list(pool.map(work, items))

    def local_path(self, path: str) -> Path | None:
        return None


class HubRepository(_Remote):
    """The model files of a repository at one commit.

    Two requests find out the commit and its files; with the same commit again the list comes from the cache. Raises
    InputError for a repository that cannot be read.
    """

    def __init__(self, transport: Transport, cache: DiskCache, name: HubName) -> None:
        super().__init__(transport, cache)
        self._where = name
        self.name = str(HubName(name.repository, name.revision))
        self.commit = self._find_commit()
        self._hashes: dict[str, str] = {}
        self.sizes: Mapping[str, int | None] = self._list()

    def open(self, path: str) -> AbstractContextManager[ByteSource]:
        """The file at the repository's commit, read by ranges. Raises FileError when the list lacks it."""
        if path not in self.sizes:
            raise FileError(f"{self.name}: it holds no file {path!r}; look at its list of files.")
        where = self._where.repository
        url = f"{self._endpoint}/{where}/resolve/{self.commit}/{quote(path)}"
        key = ("file", self._endpoint, where, path, self._hashes[path])
        label = f"{self.name}:{path}"
        return RemoteFile(self._transport, self._cache, Address(label, url, key, self.sizes[path], self._hashes[path]))

    @property
    def _endpoint(self) -> str:
        return self._transport.settings.endpoint

    @property
    def _api(self) -> str:
        return f"{self._endpoint}/api/models/{self._where.repository}"

    def _find_commit(self) -> str:
        """The commit that the revision stands for now; offline, the one it stood for last time."""
        revision = self._where.revision
        if _COMMIT.fullmatch(revision):
            return revision
        key = ("commit", self._endpoint, self._where.repository, revision)
        if self._transport.settings.offline:
            saved = self._cache.load(key)
            if saved is None or not _COMMIT.fullmatch(saved.decode(errors="replace")):
                raise NetworkError(f"{self.name}: it is not in the cache; run this once without --offline.")
            return saved.decode()
        answer, _ = self._transport.get_json(f"{self._api}/revision/{quote(revision, safe='')}?expand[]=sha", self.name)
        commit = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise NetworkError(f"{self.name}: the hub's answer names no commit; check HF_ENDPOINT.")
        self._cache.store(key, commit.encode())
        return commit

    def _list(self) -> dict[str, int | None]:
        key = ("list", self._endpoint, self._where.repository, self.commit)
        rows = _saved_rows(self._cache.load(key))
        if rows is None:
            rows = self._fetch_rows()
            self._cache.store(key, json.dumps(rows).encode())
        self._hashes = {path: digest for path, _, digest in rows}
        return {path: size for path, size, _ in rows}

    def _fetch_rows(self) -> list[tuple[str, int, str]]:
        """(path, size in bytes, hash of the contents) of every model file, over all pages of the listing."""
        if self._transport.settings.offline:
            raise NetworkError(f"{self.name}: its list of files is not in the cache; run this once without --offline.")
        rows: list[tuple[str, int, str]] = []
        url: str | None = f"{self._api}/tree/{self.commit}?recursive=true"
        for _ in range(_MAX_PAGES):
            if url is None:
                return rows
            if origin(url) != origin(self._endpoint):
                raise NetworkError(f"{self.name}: the hub's listing goes on at another server, which is refused.")
            page, url = self._transport.get_json(url, self.name)
            if not isinstance(page, list):
                raise NetworkError(f"{self.name}: the hub's answer is not a list of files; check HF_ENDPOINT.")
            rows += [row for row in map(_row, page) if row is not None]
            if len(rows) > _MAX_FILES:
                break
        raise NetworkError(f"{self.name}: the repository's listing does not end; name one file as {self.name}:FILE.")


def _row(entry: Any) -> tuple[str, int, str] | None:
    """One model file of a listing; None for folders and everything that no reader wants."""
    if not isinstance(entry, dict) or entry.get("type") != "file":
        return None
    lfs = entry.get("lfs")
    path, size = entry.get("path"), entry.get("size")
    digest = lfs.get("oid") if isinstance(lfs, dict) else entry.get("oid")
    if not isinstance(path, str) or not _is_path(path) or not path.endswith(MODEL_SUFFIXES):
        return None
    if type(size) is not int or not 0 <= size < 1 << 60 or not _is_digest(digest):
        return None
    return path, size, digest


def _is_digest(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _saved_rows(saved: bytes | None) -> list[tuple[str, int, str]] | None:
    try:
        rows = [(path, size, digest) for path, size, digest in json.loads(saved or b"")]
    except (ValueError, TypeError, RecursionError):
        return None
    sound = all(isinstance(p, str) and type(s) is int and _is_digest(d) for p, s, d in rows)
    return rows if sound else None


class UrlFiles(_Remote):
    """One file at a bare address, and the shards that its name says lie beside it. Queries stay out of messages."""

    def __init__(self, transport: Transport, cache: DiskCache, url: str, names: Iterable[str]) -> None:
        super().__init__(transport, cache)
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise NetworkError("the address holds a user name or password; leave it out.")
        self._folder = url.partition("?")[0].rpartition("/")[0]
        self._query = f"?{parts.query}" if parts.query else ""
        self.sizes: Mapping[str, int | None] = dict.fromkeys(names)
        self.name = self._folder

    def open(self, path: str) -> AbstractContextManager[ByteSource]:
        """The file beside the address under the same query, read by ranges."""
        url = f"{self._folder}/{quote(path)}"
        # a signed query changes from day to day; what it points to is told by the etag
        key = ("url", url)
        return RemoteFile(self._transport, self._cache, Address(f"{self._folder}/{path}", url + self._query, key))


def file_name_of(url: str) -> str:
    """The last step of an address' path, decoded."""
    return PurePosixPath(unquote(urlsplit(url).path)).name
