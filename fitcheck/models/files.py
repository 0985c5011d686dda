"""A set of model files, wherever it lies: a local folder and a hub repository look the same to the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from fitcheck.errors import FileError
from fitcheck.models.source import ByteSource, LocalFile

MODEL_SUFFIXES = (".gguf", ".safetensors", ".json")
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 4
Item = TypeVar("Item")
Result = TypeVar("Result")


class ModelFiles(Protocol):
    """Files by their path inside the set, with "/" between folders, and their sizes in bytes."""

    @property
    def name(self) -> str:
        """The place in messages: a path, or a repository's name."""

    @property
    def sizes(self) -> Mapping[str, int | None]:
        """Bytes of each file by its path; ``None`` for a size that nobody has told yet."""

    def open(self, path: str) -> AbstractContextManager[ByteSource]:
        """The file's bytes. Raises InputError when it cannot be had."""
        ...

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """``work`` on every item, in order; at once where waiting for a network makes that worthwhile."""
        ...

    def local_path(self, path: str) -> Path | None:
        """Where the file lies on this machine, None when it is remote."""
        ...


def read_whole(files: ModelFiles, path: str, limit: int) -> bytes:
    """A small file's bytes. Raises InputError when it is longer than ``limit`` bytes."""
    with files.open(path) as source:
        data = source.read(0, limit + 1)
    if len(data) > limit:
        raise FileError(f"{files.name}: {path} is larger than {limit:,} bytes, which no such file needs.")
    return data


class LocalFolder:
    """The model files of a folder, or some named files of it."""

    def __init__(self, folder: Path, only: Sequence[str] | None = None) -> None:
        self._folder = folder
        self.name = str(folder)
        self.sizes: Mapping[str, int | None] = self._list() if only is None else dict.fromkeys(only)

    def _list(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        seen = 0
        for place, folders, names in os.walk(self._folder):
            relative = Path(place).relative_to(self._folder)
            if len(relative.parts) >= _MAX_DEPTH:
                folders.clear()
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            seen += len(names)
            if seen > _MAX_ENTRIES:
                raise FileError(
                    f"{self.name}: more than {_MAX_ENTRIES:,} files are in it; name the model's own folder."
                )
            for name in sorted(names):
                path = Path(place, name)
                if name.endswith(MODEL_SUFFIXES) and path.is_file():
                    found[(relative / name).as_posix()] = path.stat().st_size
        return found

    def open(self, path: str) -> AbstractContextManager[ByteSource]:
        """The file as it lies on disk. Raises InputError when it is missing or no regular file."""
        return LocalFile(self._folder / path, "a model file")

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """One item after the other: there is no network to wait for."""
        return [work(item) for item in items]

    def local_path(self, path: str) -> Path | None:
        """The path under the folder, whether or not a file is there."""
        return self._folder / path
