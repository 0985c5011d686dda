"""What programs ask of a card and of the software around it, against what is there.

Pure: the rules stand in ``data/software.json``, each with its sources; nothing is looked up, and what no rule speaks of
is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine

Version = tuple[int, ...]
ALWAYS = "any"
_NUMBERS = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,5}")
_SYSTEMS = {"Linux in WSL": "WSL", "Linux": "Linux", "Windows": "Windows", "macOS": "macOS"}


class Compatibility(StrEnum):
    """How a component stands, from best to worst. ``choice``: with the named ones and not with every other;
    ``fallback``: another, slower way is taken."""

    OK = "ok"
    CHOICE = "choice"
    UNKNOWN = "unknown"
    FALLBACK = "fallback"
    FAILS = "fails"

    @property
    def binds(self) -> bool:
        """Whether a reader should hear of it unasked."""
        return self not in (Compatibility.OK, Compatibility.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Setup:
    """The software of a machine, ``None`` where it is not known. ``torch`` is PyTorch's version, ``wheel`` the build
    ("cu130", "rocm6.4", "xpu", "cpu"), ``python`` the version that runs it, ``arm`` whether the processor is one."""

    system: str | None = None
    system_version: str | None = None
    driver: str | None = None
    torch: str | None = None
    wheel: str | None = None
    python: str | None = None
    arm: bool | None = None


@dataclass(frozen=True, slots=True)
class SoftwareRow:
    """One row: what is asked at the least, what this project ran, and what is there. ``words`` say what follows,
    ``sources`` where the rule is from."""

    name: str
    minimum: str
    tested: str
    yours: str
    status: Compatibility
    words: str
    sources: tuple[dict[str, str], ...] = ()

    @property
    def binds(self) -> bool:
        """Whether an answer should speak of it: not where a good fallback is taken by itself."""
        return self.status is Compatibility.FAILS or (self.status.binds and self.name not in _data()["quiet"])

    @property
    def sentence(self) -> str:
        """SoftwareRow, what it takes and what follows, for a line of text."""
        have = f", here {self.yours}" if self.yours not in ("", "unknown") else ""
        return f"{self.name}: {self.minimum}{have} ({self.words})"


def version(text: str) -> Version:
    """The leading numbers of a version: ``"580.95.05"`` -> (580, 95, 5); empty where there are none."""
    found = _NUMBERS.search(text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def torch_build(text: str) -> tuple[str, str | None]:
    """PyTorch's version and build: ``"2.11.0+cu130"`` -> ("2.11.0", "cu130"); the build is None where none is told."""
    number, _, build = text.partition("+")
    return number, build.split(".g", 1)[0] or None


def setup_of(machine: Machine) -> Setup:
    """What a machine tells of its software without a look at any program."""
    text = machine.operating_system or ""
    system = next((name for start, name in _SYSTEMS.items() if text.startswith(start)), None)
    number = version(text) if system in ("Windows", "macOS") else ()
    return Setup(system, ".".join(map(str, number)) or None, machine.driver)


def gfx_of(card: Card) -> str | None:
    """The name by which AMD's compilers know the chip; None where it is not known here."""
    found: str | None = _data()["gfx"].get(card.chip) if card.vendor == "AMD" else None
    return found


def chips_of(gfx: str) -> tuple[str, ...]:
    """The chips that AMD's compilers know by that name, like "gfx1151"; none where it is not known here."""
    return tuple(chip for chip, name in _data()["gfx"].items() if name == gfx)


def compatibility(card: Card, setup: Setup, stacks: Iterable[str]) -> tuple[SoftwareRow, ...]:
    """A row for each component that ``stacks`` ("torch", "bf16", "ggml", …) depend on, in the order of the rules."""
    facts, wanted = _facts(card, setup), {*stacks, ALWAYS}
    rules = [rule for rule in _data()["rules"] if rule["stack"] in wanted]
    names = dict.fromkeys((rule["stack"], rule["component"]) for rule in rules)
    rows = []
    for stack, name in names:
        ours = [rule for rule in rules if (rule["stack"], rule["component"]) == (stack, name)]
        rule = next((rule for rule in ours if _holds(rule["when"], facts)), None)
        if rule is not None:
            rows.append(_row(rule, facts))
        elif stack != ALWAYS:
            rows.append(
                SoftwareRow(name, "unknown", "", "unknown", Compatibility.UNKNOWN, f"not known here for {card.name}")
            )
    return _first_of_each(rows)


def _first_of_each(rows: Iterable[SoftwareRow]) -> tuple[SoftwareRow, ...]:
    """One row a component: the gravest, where several programs ask for it; what is not known adds nothing to it."""
    found: dict[str, SoftwareRow] = {}
    for row in rows:
        if row.name not in found or _gravity(row) > _gravity(found[row.name]):
            found[row.name] = row
    return tuple(found.values())


def _gravity(row: SoftwareRow) -> int:
    return -1 if row.status is Compatibility.UNKNOWN else list(Compatibility).index(row.status)


def sources() -> dict[str, dict[str, str]]:
    """Where each rule is from, by the keys that the rules name."""
    found: dict[str, dict[str, str]] = _data()["sources"]
    return found


def title(stack: str) -> str:
    """The name of a stack's program as people write it."""
    found: str = _data()["titles"].get(stack, stack)
    return found


def _facts(card: Card, setup: Setup) -> dict[str, Any]:
    arm = setup.arm if setup.arm is not None else card.slug.startswith(tuple(_data()["arm_cards"]))
    return {
        "card": card.name,
        "vendor": card.vendor,
        "capability": card.compute_capability,
        "chip": card.chip,
        "gfx": gfx_of(card),
        "architecture": card.architecture,
        "arm": arm,
        "system": setup.system,
        "system_version": version(setup.system_version or ""),
        "driver": version(setup.driver or "") if card.vendor == "NVIDIA" else (),
        "driver_text": setup.driver,
        "torch": version(setup.torch or ""),
        "torch_text": setup.torch,
        "wheel": setup.wheel,
        "python": version(setup.python or ""),
        "python_text": setup.python,
    }


def _holds(when: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    return all(_CONDITIONS[name](value, facts) for name, value in when.items())


def _within(span: Mapping[str, str], value: Version | None) -> bool:
    """Whether a version is known and lies in ``from`` … ``below``; compared to as many numbers as the span writes."""
    if not value:
        return False
    least, end = version(span.get("from", "0")), version(span.get("below", ""))
    return value[: max(len(least), 1)] >= least and (not end or value[: len(end)] < end)


def _starts(prefixes: Iterable[str], wheel: str | None) -> bool:
    return wheel is not None and wheel.startswith(tuple(prefixes))


_CONDITIONS: dict[str, Any] = {
    "vendor": lambda value, facts: facts["vendor"] in value,
    "vendors_not": lambda value, facts: facts["vendor"] not in value,
    "capability": lambda value, facts: _within(value, facts["capability"]),
    "capabilities": lambda value, facts: facts["capability"] in [version(one) for one in value],
    "gfx": lambda value, facts: facts["gfx"] in value,
    "chips": lambda value, facts: facts["chip"] in value,
    "architecture": lambda value, facts: facts["architecture"] in value,
    "system": lambda value, facts: facts["system"] in value,
    "arm": lambda value, facts: facts["arm"] is value,
    "driver": lambda value, facts: _within(value, facts["driver"]),
    "torch": lambda value, facts: _within(value, facts["torch"]),
    "wheels": lambda value, facts: _starts(value, facts["wheel"]),
}


def _lacks(needs: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether what is there is known and not enough."""
    if "wheels" in needs:
        if facts["wheel"] is None:
            return False
        kept = [one for one in needs["wheels"] if _starts([one["wheel"]], facts["wheel"])]
        return not any(not facts["torch"] or _within(one, facts["torch"]) for one in kept)
    if "driver" in needs:
        return bool(facts["driver"]) and not _within({"from": needs["driver"]}, facts["driver"])
    if "python" in needs:
        return bool(facts["python"]) and not _within(needs["python"], facts["python"])
    return bool(facts["system_version"]) and not _within({"from": needs["version"]}, facts["system_version"])


def _row(rule: Mapping[str, Any], facts: Mapping[str, Any]) -> SoftwareRow:
    needs, status = rule.get("needs"), Compatibility(rule["status"])
    if needs and _lacks(needs, facts):
        status = Compatibility.FAILS
    elif status is Compatibility.CHOICE and needs and facts["wheel"] is not None and "wheels" in needs:
        status = Compatibility.OK  # the choice has been made, and well
    name = rule["component"]
    return SoftwareRow(
        name=name,
        minimum=rule["minimum"],
        tested=_data()["tested"].get(name, ""),
        yours=_yours(rule.get("yours", "wheel" if name == "PyTorch wheel" else "card"), facts),
        status=status,
        words=rule["words"],
        sources=tuple(sources()[key] for key in rule["source"]),
    )


def _yours(kind: str, facts: Mapping[str, Any]) -> str:
    if kind == "wheel":
        build = f"+{facts['wheel']}" if facts["wheel"] else ""
        return f"{facts['torch_text']}{build}" if facts["torch_text"] else "unknown"
    if kind == "card":
        return _chip(facts)
    if kind == "system":
        number = ".".join(map(str, facts["system_version"]))
        return f"{facts['system']} {number}".strip() if facts["system"] else "unknown"
    return str(facts[f"{kind}_text"] or "unknown")


def _chip(facts: Mapping[str, Any]) -> str:
    if facts["capability"]:
        return f"compute capability {facts['capability'][0]}.{facts['capability'][1]}"
    return str(facts["gfx"] or facts["chip"] or facts["card"])


@cache
def _data() -> dict[str, Any]:
    return load("hardware", "software")
