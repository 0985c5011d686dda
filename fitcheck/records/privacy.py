"""Nothing that names a person or a machine leaves it: found by pattern in any record, and by value on this machine."""

from __future__ import annotations

import contextlib
import html
import re
import unicodedata
from functools import lru_cache
from urllib.parse import unquote

from fitcheck.records.findings import Finding, reject
from fitcheck.records.secrets import holds_secret

_ESCAPED = re.compile(r"\\(?:x|u00|U000000)([0-9A-Fa-f]{2})")
# letters that look like a slash, a colon or a dot and that NFKC leaves as they are
_SLASHES = str.maketrans("\u2044\u2215\u29f8\u2216\u29f9\u2236\ua789", "///\\\\::")

_STEP = r"[^\s/\\'\",;:()\[\]<>|]"
_PATHS = (
    # absolute, of two steps and more; ``https://host/x``, ``and/or`` and ``tok/s`` are none
    rf"(?<![\w.:/\\)\]}}%])/(?:{_STEP}{{1,255}}/)+{_STEP}*",
    r"(?:/home/|/Users/|/root/|/mnt/|/media/|/tmp/|/var/|/Volumes/)",
    r"\bfile:/|\b(?:smb|nfs|afp|sftp|ssh|rsync)://",
    r"(?<!\w)~[\w.-]*/|\$\{?(?:HOME|USER|TMPDIR|PWD)\b|%(?:USERPROFILE|HOMEPATH|APPDATA|LOCALAPPDATA|TEMP|USERNAME)%",
    r"\b[\w.-]+:/(?:[\w.-]+/)+|(?<![\w.-])[\w.-]+@[\w.-]+:[~/\w]",
)
_WINDOWS = r"(?:\b[A-Za-z]:[\\/](?![/])|\\\\[A-Za-z0-9?.]|\\Users\\|\b[\w$.-]+\\[\w .$-]+\\[\w .$-]+)"
_SERIAL = (
    r"\b(?:serial|s/n|service[ -]?tag|asset[ -]?tag|imei|board[ -]?id)\b[ \w.]{0,12}?[ :#=]*[A-Z0-9-]*\d",
    r"\bS/?N[ :#=-]{0,3}(?=[A-Z0-9-]*\d{4})[A-Z0-9-]{6,}",
    r"\b(?:uuid|guid|machine[ -]?id|device[ -]?id)\b[ :#=]*[0-9a-f]{16,}",
)
_HOST = (
    r"(?<![\w.])(?!threading\.local\b)(?:[\w-]+\.)+(?:local|lan|localdomain|intranet|corp|home\.arpa|fritz\.box)\b",
    r"(?<![\w.])(?:[\w-]+\.)*[\w-]*\d[\w-]*\.(?:[\w-]+\.)*internal\b|\bip(?:-\d{1,3}){4}\b",
    r"\b(?:DESKTOP|LAPTOP|WIN)-[A-Z0-9]{6,11}\b",
    r"\b(?:host|computer|machine|pc|node)[ _-]?name\b[\"']?\s*(?:is|[:=])\s*\w+|\bhost\s*[:=]\s*\w+",
    r"\b(?:user[ _-]?name|login|account)\b[\"']?\s*[:=]\s*\w+|\buser\s*=\s*\w+",
)
_MAC = (
    r"(?<![0-9a-f:.-])(?:[0-9a-f]{1,2}[:-]){5}(?:[0-9a-f]{2}[:-][0-9a-f]{2}[:-])?[0-9a-f]{1,2}(?![0-9a-f:-])",
    r"\b(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}\b",
    r"\b(?:mac|hwaddr|ether|nic|wlan|ethernet)\b[ \w:=]{0,16}?\b(?:[0-9a-f]{12}|(?:[0-9a-f]{2} ){5}[0-9a-f]{2})\b",
)
_EMAIL = (
    r"[\w.+-]+@(?:[\w-]+\.)+[a-z]{2,}\b",
    r"\b[\w.+-]+\s?[\[({]\s?at\s?[\])}]\s?[\w-]+|\b[\w.+-]+ at [\w-]+ dot [a-z]{2,}\b",
)


def _any(*patterns: str, ignoring_case: bool = True) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.ASCII | (re.IGNORECASE if ignoring_case else 0))


_PATTERNS = (
    ("gpu-uuid", _any(r"\b(?:GPU|MIG)-[0-9a-f]{8}-"), "a GPU UUID"),
    ("uuid", _any(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "a UUID"),
    ("mac-address", _any(*_MAC), "a network address"),
    ("email", _any(*_EMAIL), "an e-mail address"),
    ("windows-path", _any(_WINDOWS), "a local path"),
    ("home-path", re.compile("|".join(_PATHS), re.IGNORECASE), "a local path"),
    ("serial", _any(*_SERIAL), "a serial number"),
    ("host-name", _any(*_HOST), "the name of a machine or user"),
    ("phone", _any(r"(?<![\w.+])\+\d{1,3}[ -]?\(?\d(?:[ ()-]?\d){7,12}(?![\w.])"), "a telephone number"),
)
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_GROUP = r"[0-9a-f]{1,4}"
_IP_PATTERNS = (
    ("ip-address", re.compile(rf"\b(?:{_OCTET}\.){{3}}{_OCTET}\b", re.ASCII), "an IP address"),
    (
        "ip-address",
        # eight groups, or fewer around one gap; ``std::byte`` and ``c10::Error`` are none
        _any(
            rf"(?<![\w:])(?:{_GROUP}:){{4,7}}{_GROUP}(?![\w:])",
            rf"(?<![\w:])(?:{_GROUP}:){{1,6}}(?::{_GROUP}){{1,6}}(?![\w:])",
        ),
        "an IP address",
    ),
)
# "32.0.101.6078" is a driver, "1.0.0.1" may be one: dotted fours are no addresses where a version is expected
_VERSIONS = ("software.", "card.driver", "machine.os_version", "runtime.version", "source.version")
# hashes and slugs by the schema: nothing private fits into them, and a commit looks like a key
_FREE = ("notes", "outcome.message")
_FIXED = ("id", "model.sha256", "model.tensor_digest", "model.revision", "runtime.commit", "output.digest")

# what holds text; numbers, of which a record is full, do not
_TELLING = (str, dict, list)


def strings(document: dict[str, object]) -> list[tuple[str, str]]:
    """Every (place, string) in a record's document. Of keys only those that are free, the names of phases: all others
    are fixed by the schema or are storage types."""
    found, waiting = [], list[tuple[str, object]]([("", document)])
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            found.append((place, value))
        elif isinstance(value, dict):
            told = [(key, inner) for key, inner in value.items() if isinstance(inner, _TELLING)]
            waiting += [(f"{place}.{key}" if place else key, inner) for key, inner in told]
            if place.endswith("phases"):
                found += [(place, key) for key in value]
        elif isinstance(value, list):
            waiting += [(place, inner) for inner in value if isinstance(inner, _TELLING)]
    return found


def private_patterns(document: dict[str, object]) -> list[Finding]:
    """A ``reject`` for each string that looks like a secret, a path, an address, a UUID or a serial number, however it
    is spelled."""
    found = []
    for place, text in strings(document):
        if place not in _FIXED and (looks := _looks_like(text, place.startswith(_VERSIONS), place in _FREE)):
            code, what = looks
            found.append(reject(code, f"{place} holds {what}; take it out, records are public"))
    return found


@lru_cache(maxsize=8192)  # records of one machine say the same words
def _looks_like(text: str, version: bool, free: bool) -> tuple[str, str] | None:
    """(code, what it is) of the first private thing in ``text``."""
    readings = spellings(text)
    if any(holds_secret(reading, free=free) for reading in readings):
        return "secret", "what looks like a credential"
    for code, pattern, what in _PATTERNS if version else _PATTERNS + _IP_PATTERNS:
        if any(pattern.search(reading) for reading in readings):
            return code, what
    return None


def spellings(text: str) -> list[str]:
    """``text`` and what it says when full-width letters, percent signs, escapes and invisible marks are read."""
    plain = unicodedata.normalize("NFKC", text)
    if not plain.isascii():
        plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
        plain = plain.translate(_SLASHES)
    read = plain
    for _ in range(3):  # %252f is read as %2f is
        read = html.unescape(unquote(_ESCAPED.sub(lambda match: chr(int(match[1], 16)), read)))
    return list(dict.fromkeys((text, plain, read)))


def public_texts(document: dict[str, object]) -> list[tuple[str, str]]:
    """(place, text) of what a person wrote or what says whose machine it was: what they should read before sending."""
    told = (
        *_FREE,
        "submitter",
        "tags",
        "machine.cpu",
        "machine.os_version",
        "model.file",
        "model.repository",
        "runtime.name",
    )
    return sorted(one for one in strings(document) if one[0] in told)


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
