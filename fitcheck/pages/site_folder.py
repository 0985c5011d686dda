"""Writing a site into its folder: whole files or none, inside the folder, never through a link."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from fitcheck.errors import OptionError

MANIFEST = "manifest.json"
BEGUN = ".begun.tmp"  # swept away when the manifest stands


def read(path: Path) -> bytes | None:
    """A regular file's bytes; None for what is missing, a link, a pipe or a device, which no build has written."""
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None
    except OSError:
        return None


def hash_bytes(content: bytes) -> str:
    """The first 96 bits of the sha256, in hex: enough to see that a file has changed."""
    return hashlib.sha256(content).hexdigest()[:24]


def hash_file(path: Path) -> str | None:
    """``hash_bytes`` of a regular file; None where there is none."""
    content = read(path)
    return None if content is None else hash_bytes(content)


def vouched(root: Path, name: str) -> bytes | None:
    """What a build kept under ``name``; ``None`` where the manifest does not say that it is as it was written."""
    content, manifest = read(root / name), read(root / MANIFEST)
    if content is None or manifest is None:
        return None
    try:
        known = json.loads(manifest)["files"][name]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return content if known == hash_bytes(content) else None


def write(root: Path, name: str, content: bytes) -> bool:
    """Whole or not at all, and inside ``root``; a file that is right already keeps its time stamp. Whether it was
    written. Raises OptionError."""
    path = root / name
    if read(path) == content:
        return False
    temporary = root / f".{name.replace('/', '~')}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(root.resolve()):
            raise OptionError(f"{path.parent}: is a link out of {root}; take it away, a site is written to one folder.")
        temporary.unlink(missing_ok=True)  # never through a link that somebody left there
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OptionError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return True


def begin(root: Path) -> None:
    """Leave a mark in a folder that has no manifest yet, so that a build that is stopped can be taken up again: what it
    had written would look like somebody's own files. Raises OptionError."""
    if not (root / MANIFEST).is_file():
        write(root, BEGUN, b"")


def is_site(root: Path) -> bool:
    """Whether a build wrote ``root``, or began to."""
    return (root / MANIFEST).is_file() or read(root / BEGUN) is not None


def sweep(root: Path) -> None:
    """Temporary files of a build that was killed, which stand in ``root`` itself: no later one gives them their
    names."""
    for entry in os.scandir(root):
        if entry.name.startswith(".") and entry.name.endswith(".tmp"):
            Path(entry.path).unlink(missing_ok=True)


def remove(root: Path, path: str) -> bool:
    """Take a file away, and folders that are empty then; nothing outside ``root``, whatever a manifest says. Whether
    there was one."""
    target = root / path
    try:
        if not target.resolve().is_relative_to(root.resolve()):
            return False
        target.unlink()
    except (OSError, ValueError):  # gone already, a folder, or no name of a file at all
        return False
    for folder in target.parents:
        if folder == root or not folder.is_dir() or any(folder.iterdir()):
            break
        folder.rmdir()
    return True
