"""Nothing that names a person or a machine leaves it: found by pattern in any record, and by value on this machine."""

from __future__ import annotations

import contextlib
import re

from fitcheck.records.findings import Finding, reject

_PATTERNS = (
    ("gpu-uuid", re.compile(r"\b(?:GPU|MIG)-[0-9a-fA-F]{8}-", re.ASCII), "a GPU UUID"),
    ("uuid", re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", re.ASCII), "a UUID"),
    ("home-path", re.compile(r"(?:/home/|/Users/|/root/|\\Users\\|/mnt/|/media/|/tmp/|/var/|~/)"), "a local path"),
    ("windows-path", re.compile(r"(?:\b[A-Za-z]:[\\/](?![/])|\\\\[A-Za-z0-9])", re.ASCII), "a local path"),
    ("mac-address", re.compile(r"\b(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}\b", re.ASCII), "a network address"),
    ("email", re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}\b", re.ASCII), "an e-mail address"),
    ("serial", re.compile(r"\b(?:serial|s/n)\b[ :#=]*\w*\d", re.IGNORECASE | re.ASCII), "a serial number"),
)
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IP_PATTERNS = (
    ("ip-address", re.compile(rf"\b(?:{_OCTET}\.){{3}}{_OCTET}\b", re.ASCII), "an IP address"),
    ("ip-address", re.compile(r"(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}|[0-9a-f]{1,4}::[0-9a-f]", re.I), "an IP address"),
)
# "32.0.101.6078" is a driver, "1.0.0.1" may be one: dotted fours are no addresses where a version is expected
_VERSIONS = ("software.", "card.driver", "machine.os_version", "runtime.version", "source.version")
# every string with one of these cannot match any pattern above: most strings are cleared by one search
_SUSPECT = re.compile(r"[\\/@:~]|\d\.\d+\.\d+\.|-[0-9a-fA-F]{4}-|GPU-|MIG-|serial|s/n", re.IGNORECASE)


def strings(document: dict[str, object]) -> list[tuple[str, str]]:
    """Every (place, string) in a record's document. Of keys only those that are free, the names of phases: all others
    are fixed by the schema or are storage types."""
    found, waiting = [], list[tuple[str, object]]([("", document)])
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            found.append((place, value))
        elif isinstance(value, dict):
            waiting += [(f"{place}.{key}" if place else key, inner) for key, inner in value.items()]
            if place.endswith("phases"):
                found += [(place, key) for key in value]
        elif isinstance(value, list) and value and not isinstance(value[0], float | int):
            waiting += [(place, inner) for inner in value]
    return found


def private_patterns(document: dict[str, object]) -> list[Finding]:
    """A ``reject`` for each string that looks like a path, an address, a UUID or a serial number."""
    found = []
    for place, text in strings(document):
        if not _SUSPECT.search(text):
            continue
        patterns = _PATTERNS if place.startswith(_VERSIONS) else _PATTERNS + _IP_PATTERNS
        for code, pattern, what in patterns:
            if pattern.search(text):
                found.append(reject(code, f"{place} holds {what}; take it out, records are public"))
                break
    return found


def local_identity() -> dict[str, str]:
    """Names of this machine and its user that must not be sent: value -> what it is. Short or common words are left
    out, because they would be found in any text."""
    import getpass
    import platform
    import socket

    names = {platform.node(): "this machine's name", socket.gethostname(): "this machine's name"}
    with contextlib.suppress(OSError, KeyError):  # no such account, as in some containers
        names[getpass.getuser()] = "your user name"
    common = {"root", "user", "admin", "ubuntu", "localhost", "linux", "home", "test", "runner", "desktop", "debian"}
    return {name: what for name, what in names.items() if len(name) >= 3 and name.lower() not in common}


def private_names(document: dict[str, object], identity: dict[str, str]) -> list[Finding]:
    """A ``reject`` for each string that holds a name in ``identity`` as a word. ``submitter`` is given on purpose."""
    found = []
    for name, what in identity.items():
        word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)
        for place, text in strings(document):
            if place != "submitter" and word.search(text):
                found.append(reject("private-name", f"{place} holds {what}; take it out, records are public"))
    return found
