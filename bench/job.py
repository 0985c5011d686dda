"""What is asked of the bench, and the jobs that come of it: each is everything a fresh process needs to run one cell.
No torch here: the parent builds jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from fitcheck.errors import MeasurementError, OptionError
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Placement, Settings
from fitcheck.runtimes.options import flag, names

# a job is a few hundred bytes: what is larger or deeper was not written by Job.to_json
MAX_JSON = 1 << 16
MAX_SETTINGS = 64


@dataclass(frozen=True, slots=True)
class Request:
    """The options of ``fitcheck bench run`` and ``limit``.

    ``options`` are those of the runtime that were given, by name and as typed; ``search`` says that the smallest card
    is looked for. Without ``tasks`` and ``tiers`` the model's first are taken.
    """

    target: str
    tiers: tuple[str, ...] = ()
    tasks: tuple[str, ...] | None = None
    options: Settings = ()
    gguf: str | None = None
    device: str = "cuda"
    tiny: bool = False
    seed: int = 0
    search: bool = False

    @classmethod
    def of(cls, target: str, *, tiers: tuple[str, ...] = (), tasks: tuple[str, ...] | None = None,
           gguf: str | None = None, device: str = "cuda", tiny: bool = False, seed: int = 0, search: bool = False,
           **options: Any) -> Request:  # fmt: skip
        """A request whose runtime options are given as keywords."""
        return cls(target, tiers, tasks, tuple(sorted(options.items())), gguf, device, tiny, seed, search)

    def get(self, name: str, default: Any = None) -> Any:
        """One of the runtime's options as it was given."""
        return dict(self.options).get(name, default)

    def with_defaults(self, defaults: dict[str, Any]) -> Request:
        """The same request with options that were not given."""
        return replace(self, options=tuple(sorted({**defaults, **dict(self.options)}.items())))

    def variants(self, several: tuple[str, ...]) -> Iterator[Settings]:
        """The options with one value each of those that take ``several``, comma separated, the first varying slowest.

        Raises OptionError for a list that names nothing.
        """
        lists = [(name, names(self.get(name))) for name in several if self.get(name) is not None]
        for name, values in lists:
            require_names(flag(name), values)
        rest = {name: value for name, value in self.options if name not in several}
        for chosen in product(*(values for _, values in lists)):
            yield tuple(sorted({**rest, **dict(zip((name for name, _ in lists), chosen, strict=True))}.items()))


def require_names(option: str, values: tuple[str, ...]) -> None:
    """Raises OptionError for a list that names nothing."""
    if not values:
        raise OptionError(f"{option}: names nothing to run; give one or more, separated by commas.")


@dataclass(frozen=True, slots=True)
class Job:
    """One cell on one device: an ``Ask`` of the runtimes whose model and tier are named and whose card is the bench's.

    ``gguf`` is a real weights file, otherwise weights are synthetic; ``tiny`` scales the architecture down so that the
    same code runs in seconds on a CPU and says nothing about a card.
    """

    model: str
    tier: str
    placement: Placement
    workload: Workload
    device: str = "cuda"
    gguf: str | None = None
    seed: int = 0
    tiny: bool = False

    def with_steps(self, steps: int) -> Job:
        """The same job cut short to ``steps``."""
        return replace(self, workload=self.workload.with_(steps=steps))

    def to_json(self) -> str:
        """One line; ``from_json`` gives the same job."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Raises InputError when ``text`` is not a job."""
        try:
            if not isinstance(text, str) or len(text) > MAX_JSON:
                raise ValueError(f"more than {MAX_JSON} characters, or no text")
            data = dict(json.loads(text))
            placement, workload = _placement(data.pop("placement")), workload_of(data.pop("workload"))
            return cls(placement=placement, workload=workload, **_checked(data))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise MeasurementError(f"job: not a job's JSON ({error}); write it with Job.to_json.") from error


def workload_of(data: dict[str, Any]) -> Workload:
    """A workload from its fields as JSON has them. Raises KeyError, TypeError or ValueError for what is none."""
    values = dict(data)
    values["task"] = Task(values["task"])
    values["references"] = tuple((int(width), int(height)) for width, height in values["references"])
    return Workload(**values)


def _placement(data: dict[str, Any]) -> Placement:
    if not all(isinstance(data[name], str) for name in ("runtime", "revision", "mode")):
        raise TypeError("a placement's runtime, revision and mode are texts")
    return Placement(data["runtime"], data["revision"], data["mode"], _settings(data["settings"]))


_KINDS: dict[str, tuple[type, ...]] = {
    "model": (str,), "tier": (str,), "device": (str,), "gguf": (str, type(None)), "seed": (int,), "tiny": (bool,),
}  # fmt: skip


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    for name, value in data.items():
        if not isinstance(value, _KINDS.get(name, ())):
            raise TypeError(f"{name}: {str(value)[:40]!r} is none of its values")
    return data


def _settings(pairs: list[Any]) -> Settings:
    """Pairs of a name and a plain value; lists come back as the tuples they were."""
    if len(pairs) > MAX_SETTINGS:
        raise ValueError(f"more than {MAX_SETTINGS} settings")
    return tuple((str(name), _plain(value)) for name, value in pairs)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_plain(one) for one in value)
    if value is not None and not isinstance(value, str | int | float | bool):
        raise TypeError(f"a setting cannot be {type(value).__name__}")
    return value
