"""What this machine knows of a site's files without reading them: that they are as they were when they were hashed.

A file that somebody changes has another size, another inode or a later time of change, which programs cannot set. What
is kept holds on one machine alone, so it stands in the user's cache and no part of a site; where it is lost, every file
is read. ``fitcheck site build --check`` never asks it, and finds what somebody edits while a build is running too.
"""

from __future__ import annotations

import json
import os
import time
from array import array
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.user_folders import cache_root

NAME = "sites.json"
SCHEMA = "fitcheck.sites/1"
# a file may be changed twice within one tick of a file system's clock: younger ones are read again
_SETTLED = 100_000_000
_BROKEN = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class FilesState:
    """Files as their folder tells of them: a digest of it, bytes in all, and when the last was changed (ns)."""

    digest: str
    size: int
    changed: int


def state_of(root: Path, paths: Iterable[str]) -> FilesState | None:
    """The state of regular files under ``root``; ``None`` where one is missing or a link."""
    told, size, changed, base = array("Q"), 0, 0, f"{root}{os.sep}"
    for path in paths:
        try:
            one = os.lstat(base + path)
        except (OSError, ValueError):
            return None
        if not S_ISREG(one.st_mode):
            return None
        told.extend((one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino))
        size += one.st_size
        changed = max(changed, one.st_mtime_ns, one.st_ctime_ns)
    return FilesState(sha256(told.tobytes()).hexdigest()[:24], size, changed)


class FileMemory:
    """What is known of one site's files, by groups of them. The ``hashes`` of a group name what its files hold."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Any] = _read().get(_place(root), {})
        self._kept: dict[str, tuple[str, str]] = {}
        self._sizes: dict[str, int] = {}

    @property
    def size(self) -> int:
        """Bytes of all groups that were found or kept."""
        return sum(self._sizes.values())

    def holds(self, group: str, hashes: str, paths: Iterable[str]) -> bool:
        """Whether the files of a group are as they were when ``hashes`` were theirs."""
        known = self._known.get(group)
        if not isinstance(known, list) or known[:1] != [hashes]:
            return False
        state = state_of(self._root, paths)
        if state is None or known != [hashes, state.digest]:
            return False
        self._kept[group], self._sizes[group] = (hashes, state.digest), state.size
        return True

    def keep(self, group: str, hashes: str, paths: Iterable[str]) -> None:
        """Remember files that were just written or read, unless they were found as they were."""
        if self._kept.get(group, ("",))[0] == hashes:
            return
        state = state_of(self._root, paths)
        if state is not None:
            self._sizes[group] = state.size
            if state.changed < time.time_ns() - _SETTLED:
                self._kept[group] = hashes, state.digest

    def save(self) -> None:
        """Write it down for the next build, without sites that are gone. Nothing hangs on it, so a folder that cannot
        be written is passed over."""
        known = {place: groups for place, groups in _read().items() if Path(place).is_dir()}
        content = json.dumps({"schema": SCHEMA, "sites": {**known, _place(self._root): self._kept}})
        path = cache_root() / NAME
        temporary = path.with_name(f".{NAME}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(content)
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _place(root: Path) -> str:
    return str(root.resolve())


def _read() -> dict[str, dict[str, Any]]:
    """By folder of a site what is known of it; nothing where that cannot be read."""
    try:
        data = json.loads((cache_root() / NAME).read_bytes())
        found = data["sites"] if data["schema"] == SCHEMA else {}
        return {str(place): groups for place, groups in found.items() if isinstance(groups, dict)}
    except _BROKEN:
        return {}
