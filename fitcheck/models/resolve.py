"""From what was typed to tiers with real tensor tables: a file, a folder, ``org/repo``, ``org/repo:file``, a URL."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import FileError, InputError, ModelError, NetworkError
from fitcheck.models.candidates import Candidate, WeightSet, find_candidates, projectors
from fitcheck.models.files import LocalFolder, ModelFiles, read_whole
from fitcheck.models.gguf import MAGIC, GgufHeader, join_shards, parse_gguf, shard_names
from fitcheck.models.gguf_leaps import KnownLists, parse_remote_gguf
from fitcheck.models.model import Tier, begins_with
from fitcheck.models.safetensors import (
    HEADER_LIMIT,
    SafetensorsHeader,
    join_files,
    parse_index,
    parse_json_object,
    parse_safetensors,
)
from fitcheck.models.source import open_regular
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.models.tier_names import quant_label
from fitcheck.units import MIB

if TYPE_CHECKING:
    from fitcheck.models.hub import HubSettings, Traffic, Transport

_CONFIG_LIMIT = 4 * MIB
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
Header = GgufHeader | SafetensorsHeader


@dataclass
class Resolved:
    """A model found by name: its candidates, and their headers on demand.

    ``kind`` is "file", "folder", "hub" or "url"; ``repository`` and ``revision`` are set for the hub. Close it when
    done, or use it as a context manager.
    """

    name: str
    kind: str
    files: ModelFiles
    candidates: tuple[Candidate, ...]
    repository: str | None = None
    revision: str | None = None
    _transport: Transport | None = None
    _headers: dict[str, Header | InputError] = field(default_factory=dict)
    _known: KnownLists = field(default_factory=KnownLists)

    def __enter__(self) -> Resolved:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the network connections, where there are any."""
        if self._transport is not None:
            self._transport.close()

    @property
    def traffic(self) -> Traffic | None:
        """What was fetched so far; None for local files."""
        return self._transport.traffic if self._transport else None

    @property
    def projectors(self) -> tuple[str, ...]:
        """Vision or audio projector files that lie beside the language model."""
        return projectors(self.files.sizes)

    @cached_property
    def pipeline(self) -> dict[str, Any] | None:
        """model_index.json of a diffusers pipeline, None when there is none."""
        return self._json("model_index.json")

    def config(self, component: str = "") -> dict[str, Any] | None:
        """config.json of the model or of a pipeline's component, None when there is none. Raises InputError."""
        return self._json(f"{component}/config.json" if component else "config.json")

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name, in any case. Raises InputError with the nearest names."""
        for candidate in self.candidates:
            if name.lower() in (candidate.name.lower(), candidate.files[0].lower()):
                return candidate
        names = [candidate.name for candidate in self.candidates]
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:8]
        raise ModelError(f"{self.name}: there is no tier {name!r}; choose from {', '.join(near)}.")

    def candidates_named(self, name: str) -> list[Candidate]:
        """The candidate of that name, else all that begin with it, like ``Q4``. Raises InputError."""
        with suppress(ModelError):
            return [self.candidate(name)]
        return [one for one in self.candidates if begins_with(one.name, name)] or [self.candidate(name)]

    def header(self, candidate: Candidate) -> Header:
        """The header of all the candidate's files together. Raises InputError.

        A pipeline's tensors are named ``component.tensor`` and have the component as their branch.
        """
        self.preload([candidate])
        if candidate.format == "gguf":
            return join_shards([self._gguf(file) for file in candidate.files])
        parts = [self._checkpoint(weights) for weights in candidate.sets]
        if not candidate.components:
            return parts[0]
        sizes = [part.file_bytes for part in parts if part.file_bytes is not None]
        return SafetensorsHeader(
            self.name,
            {},
            TensorTable(
                Tensor(f"{weights.component}.{t.name}", t.shape, t.type, t.role, t.layer, weights.component)
                for weights, part in zip(candidate.sets, parts, strict=True)
                for t in part.tensors
            ),
            sum(sizes) if len(sizes) == len(parts) else None,
            candidate.files,
        )

    def beside(self, path: str) -> GgufHeader:
        """The header of one GGUF file that is no candidate. Raises InputError."""
        if path not in self._headers:
            self._headers[path] = self._read_one(path)
        header = self._gguf(path)
        local = self.files.local_path(path)
        return header if local is None else replace(header, name=str(local))

    def tier(self, candidate: Candidate) -> Tier:
        """The candidate as a tier with its real tensor table. Raises InputError."""
        header = self.header(candidate)
        local = self.files.local_path(candidate.files[0])
        return Tier(
            name=_tier_name(candidate, header.tensors),
            tensors=header.tensors,
            format=candidate.format,
            file=candidate.files[0],
            repository=self.repository,
            disk_bytes=header.file_bytes or candidate.disk_bytes or header.tensors.nbytes,
            source="the file's own tensor table",
            local_path=str(local) if local else None,
            components=candidate.components,
        )

    def tiers(self, candidates: Sequence[Candidate] | None = None) -> list[Tier]:
        """The tiers of all candidates, or of those given, read at once. Raises InputError when none can be read."""
        chosen = self.candidates if candidates is None else tuple(candidates)
        self.preload(chosen)
        tiers, problems = [], []
        for candidate in chosen:
            try:
                tiers.append(self.tier(candidate))
            except InputError as problem:
                problems.append(problem)
        if problems and not tiers:
            raise problems[0]
        return tiers

    def _json(self, path: str) -> dict[str, Any] | None:
        if path not in self.files.sizes:
            return None
        return parse_json_object(read_whole(self.files, path, _CONFIG_LIMIT), f"{self.files.name}: {path}")

    def preload(self, candidates: Sequence[Candidate]) -> None:
        """Reads the headers of all files that were not read yet, several at once where they are remote."""
        missing = list(dict.fromkeys(f for c in candidates for f in c.files if f not in self._headers))
        # the first file teaches how long the lists are that all files of a repository share
        for group in (missing[:1], missing[1:]):
            self._headers.update(zip(group, self.files.map(self._read_one, group), strict=True))

    def _read_one(self, path: str) -> Header | InputError:
        try:
            with self.files.open(path) as source:
                if path.endswith(".safetensors"):
                    return parse_safetensors(source)
                return parse_remote_gguf(source, self._known) if self._transport else parse_gguf(source)
        except InputError as problem:
            return problem

    def _gguf(self, path: str) -> GgufHeader:
        header = self._headers[path]
        if isinstance(header, InputError):
            raise header
        assert isinstance(header, GgufHeader)
        return header

    def _checkpoint(self, weights: WeightSet) -> SafetensorsHeader:
        headers = {}
        for file in weights.files:
            header = self._headers[file]
            if isinstance(header, InputError):
                raise header
            assert isinstance(header, SafetensorsHeader)
            headers[PurePosixPath(file).name] = header
        name = f"{self.files.name}: {weights.index or weights.files[0]}"
        if weights.index is not None:
            index = parse_index(read_whole(self.files, weights.index, HEADER_LIMIT), name)
            absent = sorted(set(index.values()) - headers.keys())
            if absent:
                raise FileError(f"{name}: the shard {absent[0]} is missing; download it into the same folder.")
            return join_files(name, {file: headers[file] for file in sorted(set(index.values()))}, index)
        if len(headers) == 1:
            return next(iter(headers.values()))
        return join_files(name, headers, {t.name: file for file, header in headers.items() for t in header.tensors})


def _tier_name(candidate: Candidate, tensors: TensorTable) -> str:
    """A GGUF tier keeps the name that its file states; a checkpoint is named after what most of its bytes are."""
    if candidate.format == "gguf":
        return candidate.name
    main = next(iter(tensors.bytes_by_type), "empty")
    return main if candidate.name in ("checkpoint", "pipeline", "model") else f"{main} ({candidate.name})"


def resolve(target: str, *, offline: bool = False, settings: HubSettings | None = None) -> Resolved:
    """What ``target`` names: a path on this machine first, then a URL, then a repository on the hub.

    Raises InputError when it names nothing that can be read. ``settings`` default to the environment's.
    """
    if not target.strip() or not target.isprintable():
        raise ModelError("the model is not named; give a file, a folder, org/repo, org/repo:file.gguf or a URL.")
    if target.startswith(("http://", "https://")):
        return _resolve_remote(target, offline, settings)
    try:
        path = Path(target).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError):  # too long a name, or a user that does not exist
        exists = False
    if exists:
        return _resolve_folder(path) if path.is_dir() else _resolve_file(path)
    from fitcheck.models.hub import parse_hub_name

    if target.startswith((".", "/", "~")) or "\\" in target or parse_hub_name(target) is None:
        raise FileError(
            f"{target}: there is no such file or folder, and it is not a hub name like org/repo or org/repo:file.gguf."
            f"{_where_known(target)}"
        )
    return _resolve_remote(target, offline, settings)


def _where_known(target: str) -> str:
    """What answers for a name of the catalog, which is no file; empty for what is none."""
    from fitcheck.models import catalog
    from fitcheck.models.families import registry

    model = catalog.known(target)
    with suppress(ModelError):  # of a name of several models nothing is said
        model = model or next((one for family in registry.every() if (one := family.named(target)) is not None), None)
    if model is None:
        return ""
    what = f"; its files lie in {model.repository}" if model.repository else ""
    return (
        f" It is {model.slug} of the catalog{what}: `fitcheck check` takes the name, `fitcheck models` lists its tiers."
    )


def _resolve_folder(path: Path) -> Resolved:
    return _with_candidates(Resolved(str(path), "folder", LocalFolder(path), ()))


def _resolve_file(path: Path) -> Resolved:
    if path.name == "model_index.json":
        return _resolve_folder(path.parent)
    if path.name.endswith(".safetensors"):
        return _resolve_checkpoint_file(path)
    if path.name.endswith(_PICKLES):
        raise FileError(
            f"{path}: this is a pickle, which can run code when read; use the model's .safetensors or .gguf."
        )
    if not path.name.endswith(".gguf"):
        with open_regular(path, "a .gguf or .safetensors file") as file:
            if file.read(4) != MAGIC:
                raise FileError(f"{path}: this is neither a .gguf nor a .safetensors file; name the model's own file.")
    return _single(Resolved(str(path), "file", LocalFolder(path.parent, shard_names(path.name)), ()), path.name)


def _resolve_checkpoint_file(path: Path) -> Resolved:
    """A file that is one of a set stands for the set."""
    folder = LocalFolder(path.parent)
    found = next((c for c in find_candidates(folder.sizes) if path.name in c.files), None)
    if found is None:
        return _single(Resolved(str(path), "file", folder, ()), path.name)
    return Resolved(str(path), "file", folder, (found,))


def _single(resolved: Resolved, file: str) -> Resolved:
    """``resolved`` with the one candidate that ``file`` belongs to."""
    is_gguf = not file.endswith(".safetensors")
    files = shard_names(file) if is_gguf else (file,)
    sizes = [resolved.files.sizes.get(name) for name in files]
    total = sum(size for size in sizes if size is not None) if None not in sizes else None
    name = (quant_label(file) if is_gguf else None) or PurePosixPath(file).stem
    resolved.candidates = (Candidate(name, "gguf" if is_gguf else "safetensors", (WeightSet(files),), total),)
    return resolved


def _with_candidates(resolved: Resolved) -> Resolved:
    components = tuple(key for key, value in (resolved.pipeline or {}).items() if isinstance(value, list))
    resolved.candidates = find_candidates(resolved.files.sizes, components)
    if not resolved.candidates:
        raise FileError(
            f"{resolved.name}: it holds no .gguf or .safetensors weights; name a repository or folder that does."
        )
    return resolved


def _resolve_remote(target: str, offline: bool, settings: HubSettings | None) -> Resolved:
    from fitcheck.models import hub

    settings = settings or hub.HubSettings.from_environment(offline=offline)
    transport, cache = hub.Transport(settings), hub.DiskCache(settings.cache)
    try:
        try:
            is_url = target.startswith(("http://", "https://"))
            where = hub.parse_hub_url(target, settings.endpoint) if is_url else hub.parse_hub_name(target)
        except ValueError:
            raise NetworkError("the address cannot be read; check it.") from None
        if where is None:
            return _resolve_url(target, transport, cache)
        repository = hub.HubRepository(transport, cache, where)
        resolved = Resolved(str(where), "hub", repository, (), where.repository, repository.commit, transport)
        return _with_candidates(resolved) if where.file is None else _hub_file(resolved, where.file)
    except BaseException:
        transport.close()
        raise


def _hub_file(resolved: Resolved, file: str) -> Resolved:
    """The one file that was asked for, by its path or, as llama.cpp allows, by its quant tier."""
    if file in resolved.files.sizes and file.endswith(".gguf"):
        return _single(resolved, file)
    candidates = find_candidates(resolved.files.sizes)
    for candidate in candidates:
        if file in candidate.files or file.lower() == candidate.name.lower():
            resolved.candidates = (candidate,)
            return resolved
    names = [path for path in resolved.files.sizes if path.endswith((".gguf", ".safetensors"))]
    near = difflib.get_close_matches(file, names, n=3, cutoff=0.3) or names[:3]
    hint = f"it has {', '.join(near)}" if near else "it holds no weights that can be read"
    raise FileError(f"{resolved.repository}: there is no file or tier {file!r}; {hint}.")


def _resolve_url(target: str, transport: Transport, cache: Any) -> Resolved:
    from fitcheck.models import hub

    file = hub.file_name_of(target)
    if not file.endswith((".gguf", ".safetensors")):
        raise FileError(f"{target.partition('?')[0]}: the address must end in .gguf or .safetensors.")
    files = shard_names(file) if file.endswith(".gguf") else (file,)
    listed = hub.UrlFiles(transport, cache, target, files)
    return _single(Resolved(target.partition("?")[0], "url", listed, (), _transport=transport), file)
