"""Every command that reads records, on trees of records that somebody damaged on purpose: an exit code, one sentence,
and soon. `FITCHECK_HOSTILE=40 pytest …` runs a thousand records."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fitcheck.records import store

ROOT = Path(__file__).parents[2]
TREES = int(os.environ.get("FITCHECK_HOSTILE", "2"))
RECORDS = 25
SECONDS = 10
MAIN = "import sys; from fitcheck.cli.main import main; sys.argv[0] = 'fitcheck'; main()"
VALUES: list[Any] = [
    *(None, True, -1, 0, 1.5, 2**53, 2**63, 10**30, 1e308, "", "x" * 70_000, "\u202e\x1b[31m", "con", "constructor"),
    *(
        "../../etc/passwd",
        "hf_" + "a1B2" * 8,
        "/home/ann/x",
        [],
        {},
        [[]],
        {"a": {"b": []}},
        ["x"] * 300,
        "\x00",
        "1e9",
    ),
]
DOCUMENTS = [json.loads(path.read_bytes()) for path in store.record_files(ROOT / "results")]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def damaged(chance: random.Random) -> bytes:
    """A record with some fields replaced or left out, sealed again where it can be, or cut, doubled or overwritten."""
    document = json.loads(json.dumps(chance.choice(DOCUMENTS)))
    for _ in range(chance.randint(1, 3)):
        *above, last = chance.choice(list(places(document)))
        at = document
        for key in above:
            at = at[key]
        if isinstance(at, dict) and chance.random() < 0.2:
            at.pop(last)
        else:
            at[last] = copy.deepcopy(chance.choice(VALUES))
    try:
        if chance.random() < 0.8:
            document["id"] = store.document_id(document)
        content = store.canonical(document) + b"\n"
    except Exception:  # whatever cannot be canonical is written as it is
        content = json.dumps(document).encode()
    spoil = chance.random()
    if spoil < 0.05:
        return content[: chance.randrange(len(content))]
    if spoil < 0.1:
        return content.replace(b'"', b"\xff", 1)
    return content * 2 if spoil < 0.12 else content


def place_of(content: bytes) -> str | None:
    """Where a record belongs, when it says so in names that a folder can have."""
    try:
        document = json.loads(content)
        names = [document["card"]["slug"], document["model"]["slug"], document["id"]]
    except (ValueError, KeyError, TypeError):
        return None
    sound = all(isinstance(name, str) and re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name) for name in names)
    return "/".join(names) + ".json" if sound else None


@pytest.fixture(scope="module", params=range(TREES))
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance, root = random.Random(request.param), tmp_path_factory.mktemp("hostile") / "results"
    for number in range(RECORDS):
        content = damaged(chance)
        path = root / (place_of(content) or f"h100-sxm5-80gb/sensenova-u1-8b-mot/{number:064x}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


COMMANDS = [
    ("validate", "."),
    ("validate", "--json", "."),
    ("results", "list", "--from", "."),
    ("results", "list", "--csv", "--from", "."),
    ("results", "query", "--from", ".", "SELECT * EXCLUDE (document) FROM records"),
    ("results", "compact", "../all.parquet", "--from", "."),
    ("check", "sensenova-u1-8b-mot", "--gpu", "H100 SXM", "--ram", "64GB"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_a_command_ends_well(command: tuple[str, ...], tree: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", MAIN, *command],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FITCHECK_RECORDS": str(tree), "NO_COLOR": "1"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert time.monotonic() - started < SECONDS
    said, told = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
    assert done.returncode in range(6), told
    assert "Traceback" not in told + said
    assert done.returncode != 2 or told.count("\n") == 1
    assert all(letter.isprintable() or letter in "\n" for letter in said + told)
