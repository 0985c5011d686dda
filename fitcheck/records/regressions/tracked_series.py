"""Which records belong together: one ask is one series, and what runs it in a record is its state.

A series is over *versions* (runtime revision or build, torch, driver…). *Conditions* (machine, power limit, protocol)
are no part of the ask either, but they are no progress: a change of one is named beside a change of version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from fitcheck.dataclass_later import dataclass
from fitcheck.models.workload import Task
from fitcheck.records.schema import AnyRecord, LlmRecord, ModelRef, WorkloadSizes
from fitcheck.records.sizes import USED
from fitcheck.records.store import NO_CARD

Values = tuple[tuple[str, str], ...]

_RUNTIME_VERSIONS = ("revision", "commit", "version")
# what builds state or not, and do when nothing is said
_USUAL_SETTINGS = {"cpu_moe_layers": 0, "mmap": True, "kv_offload": True}
_PROTOCOL_CONDITIONS = ("name", "version", "warmup", "fresh_process", "metering_hz")
_CARD_CONDITIONS = ("memory", "power_limit_watts", "pcie_generation_max", "pcie_width_max", "mig", "display")


@dataclass(frozen=True, slots=True)
class Series:
    """One ask. ``parts`` are (name, value) pairs in order; equal parts make equal series."""

    parts: Values

    @property
    def id(self) -> str:
        """Twelve hex digits that name the series in files and links."""
        return hashlib.sha256(json.dumps(self.parts, separators=(",", ":")).encode()).hexdigest()[:12]

    def get(self, name: str) -> str | None:
        """The value of one part of the ask, like ``card``; ``None`` where the ask does not have it."""
        return dict(self.parts).get(name)

    @property
    def card(self) -> str:
        """The card's name, or ``NO_CARD`` for what ran without one."""
        return self.get("card") or NO_CARD

    @property
    def workload(self) -> str:
        """What was run, whatever ran it: the noise of time is learnt for each card and workload."""
        return " ".join(value for name, value in self.parts if name == "kind" or name.startswith("workload."))

    @property
    def placement(self) -> str:
        """The program and how it places weights: what decides whether its memory is the same in each run."""
        named = [self.get(name) or "-" for name in ("runtime", "runtime.mode", "runtime.policy", "cards")]
        return " ".join([*named, *(f"{name}={value}" for name, value in self.parts if name.startswith("settings."))])

    @property
    def title(self) -> str:
        """The series for people: what and where, then the settings that have a value."""
        first = [self.get(name) for name in ("model", "tier", "runtime", "runtime.mode", "runtime.policy")]
        first = first if any(first) else [f"{self.get('kind') or ''} rates".strip()]
        size = "x".join(filter(None, (self.get("workload.width"), self.get("workload.height"))))
        last = [self.get("workload.task"), size, _capped(self.get("cap")), f"on {self.card}"]
        return " ".join(filter(None, (*first, *last))) or self.id

    def differences(self, other: Series) -> dict[str, tuple[str | None, str | None]]:
        """Name -> (here, there) of the parts that are not equal."""
        return changes(self.parts, other.parts)


def _capped(cap: str | None) -> str | None:
    return None if cap is None else f"cap {int(cap.split()[0]) / 2**30:.1f} GiB"


def series_of(record: AnyRecord, across: Sequence[str] = ()) -> Series:
    """The series of a record. ``across`` names parts to leave out (``runtime.policy``), so that runs which differ in
    them are compared; ``state_of`` counts them among the versions then."""
    return Series(tuple((name, value) for name, value in _ask(record) if name not in across))


def _ask(record: AnyRecord) -> Iterable[tuple[str, str]]:
    yield "kind", record.kind
    card = record.card
    yield "card", card.slug if card else NO_CARD
    if card is not None and card.count > 1:
        yield "cards", str(card.count)
    yield from _model(getattr(record, "model", None))
    runtime = getattr(record, "runtime", None)
    if runtime is not None:
        yield "runtime", runtime.name
        yield from _named("runtime", runtime.model_dump(exclude={"name", *_RUNTIME_VERSIONS}))
    yield from _sizes(getattr(record, "workload", None))
    if isinstance(record, LlmRecord):
        stated = record.settings.model_dump()
        yield from _named("settings", {name: one for name, one in stated.items() if _USUAL_SETTINGS.get(name) != one})
        # what the longest test fills decides how much is reserved
        longest = max((rate.depth + rate.prompt_tokens + rate.new_tokens for rate in record.rates or ()), default=0)
        yield from _named("tests", {"longest": longest or None})
    protocol = record.protocol
    for name, cap in (("cap", protocol.cap), ("host_cap", protocol.host_cap)):
        if cap is not None:
            yield name, f"{cap.bytes} {cap.enforced_by}"
    if protocol.steps_run is not None:
        yield "steps_run", str(protocol.steps_run)


def _model(model: ModelRef | None) -> Iterable[tuple[str, str]]:
    if model is not None:
        yield "model", model.slug
        yield "tier", model.tier
        yield "weights", model.weights
        digest = model.tensor_digest or model.sha256
        if digest is not None:
            yield "digest", digest


def _sizes(workload: WorkloadSizes | None) -> Iterable[tuple[str, str]]:
    if workload is not None:
        yield "workload.task", workload.task
        yield from _named("workload", workload.model_dump(include=set(USED[Task(workload.task)])))


def _named(prefix: str, values: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    return ((f"{prefix}.{name}", _text(value)) for name, value in sorted(values.items()) if value is not None)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class State:
    """What ran a record besides its ask: ``versions`` of programs, ``conditions`` of machine and protocol."""

    versions: Values
    conditions: Values


def state_of(record: AnyRecord, across: Sequence[str] = ()) -> State:
    """Versions and conditions of a record; the parts of the ask named in ``across`` count as versions."""
    runtime, card = getattr(record, "runtime", None), record.card
    versions = dict(_named("", record.software.model_dump()))
    if runtime is not None:
        versions |= dict(_named("runtime", runtime.model_dump(include=set(_RUNTIME_VERSIONS))))
    if card is not None and card.driver is not None:
        versions["driver"] = card.driver
    versions |= {name: value for name, value in _ask(record) if name in across}
    conditions = dict(_named("machine", record.machine.model_dump()))
    conditions |= dict(_named("protocol", record.protocol.model_dump(include=set(_PROTOCOL_CONDITIONS))))
    if card is not None:
        conditions |= dict(_named("card", card.model_dump(include=set(_CARD_CONDITIONS))))
    return State(_plain(versions), _plain(conditions))


def _plain(values: Mapping[str, str]) -> Values:
    return tuple(sorted((name.removeprefix("."), value) for name, value in values.items()))


def changes(before: Values, after: Values) -> dict[str, tuple[str | None, str | None]]:
    """Name -> (before, after) of what is not equal; None where one side does not say."""
    old, new = dict(before), dict(after)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return {name: (old.get(name), new.get(name)) for name in names}


@dataclass(frozen=True, slots=True)
class VersionChange:
    """``name`` went from ``before`` to ``after``; each lists all values of its side. ``version`` or else condition."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    version: bool

    def __str__(self) -> str:
        return f"{self.name} {_listed(self.before)} -> {_listed(self.after)}"


def _listed(values: tuple[str, ...]) -> str:
    return "/".join(values) or "not stated"


def changed(before: Sequence[State], after: Sequence[State]) -> tuple[VersionChange, ...]:
    """What differs between two sides, versions first."""
    found = []
    for version in (True, False):
        old, new = _union(before, version), _union(after, version)
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                found.append(VersionChange(name, old.get(name, ()), new.get(name, ()), version))
    return tuple(found)


def _union(states: Sequence[State], version: bool) -> dict[str, tuple[str, ...]]:
    values: dict[str, set[str]] = {}
    for state in states:
        for name, value in state.versions if version else state.conditions:
            values.setdefault(name, set()).add(value)
    return {name: tuple(sorted(found)) for name, found in values.items()}


def causes(found: Sequence[VersionChange]) -> tuple[str, ...]:
    """What could each be the cause on its own. A runtime's revision, commit and version are one thing, and so are the
    machine's properties, and versions that went from the same value to the same (a library that is the runtime). More
    than one cause means that the change is confounded."""
    named: dict[object, str] = {}
    for change in found:
        named.setdefault((change.before, change.after) if change.version else change.name, _cause(change.name))
    return tuple(dict.fromkeys(named.values()))


def _cause(name: str) -> str:
    first, _, rest = name.partition(".")
    return first if first in ("machine", "protocol") or (first == "runtime" and rest in _RUNTIME_VERSIONS) else name
