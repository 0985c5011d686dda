"""Hostile files: each is refused or flagged as specified, in bounded memory, without a crash."""

from __future__ import annotations

import json
import os
import random
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from record_samples import NOW, as_json, document, make_external, make_link, make_llm, make_pass, resealed

from fitcheck.records import store
from fitcheck.records.findings import Rank
from fitcheck.records.reading import MAX_FILE_BYTES
from fitcheck.records.validate import check_record, validate

HUGE = 10**400
BAD_VALUES: list[Any] = [
    None,
    True,
    -1,
    1.5,
    HUGE,
    2**63,
    "12",
    "",
    "x" * 100_000,
    "../../etc/passwd",
    "C:\\Windows\\system32",
    "<script>alert(1)</script>",
    "'; DROP TABLE records; --",
    "\u202egnp.exe",
    "\u0000",
    [],
    [[[[]]]],
    {},
    {"a": {"b": {}}},
]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of every value inside a document, containers included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def changed(values: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    at: Any = values
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return values


def ranks(content: bytes) -> tuple[bool, set[str], set[str]]:
    """(readable, codes of rejects, codes of flags)."""
    parsed, found = check_record(content, NOW)
    rejects = {finding.code for finding in found if finding.rank is Rank.REJECT}
    return parsed is not None, rejects, {finding.code for finding in found if finding.rank is Rank.FLAG}


@dataclass(frozen=True)
class Mutation:
    """A wrong value in one field, with a fitting id where canonical JSON can be made of it."""

    name: str
    original: Any
    value: Any
    content: bytes


def mutations() -> list[Mutation]:
    chance, cases = random.Random(11), []
    for maker in (make_pass, make_link, make_llm, make_external):
        for path in leaves(document(maker())):
            if path == ("id",):
                continue
            for value in chance.sample(BAD_VALUES, 2):
                original: Any = document(maker())
                for key in path:
                    original = original[key]
                values = changed(document(maker()), path, value)
                content = as_json(values) + b"\n" if value in (HUGE, 2**63) else resealed(values)
                cases.append(Mutation(f"{maker.__name__}:{path}={str(value)[:20]!r}", original, value, content))
    return cases


MUTATIONS = mutations()


def test_the_corpus_is_large() -> None:
    assert len(MUTATIONS) >= 400


def test_every_mutation_is_refused_unless_it_is_a_possible_value_of_the_same_type() -> None:
    accepted = 0
    for case in MUTATIONS:
        readable, rejects, _ = ranks(case.content)
        if rejects:
            continue
        accepted += 1
        assert readable
        assert case.value in (True, 1.5, "12", [], {}), case.name
        assert isinstance(case.original, float) or type(case.original) is type(case.value), case.name
    assert accepted < len(MUTATIONS) * 0.06


ID: str = document(make_pass())["id"]
HAND_MADE: dict[str, bytes] = {
    "empty": b"",
    "white space": b" \n\t",
    "not json": b"hello",
    "a number": b"1",
    "a list": b"[]",
    "a string": b'"record"',
    "null": b"null",
    "empty object": b"{}",
    "nan": b'{"schema_version": NaN}',
    "infinity": b'{"schema_version": -Infinity}',
    "float overflow": b'{"schema_version": 1e999}',
    "long number": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "deep lists": b"[" * 200_000,
    "deep closed lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep in a record": store.encode(make_pass())[:-2] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}\n",
    "duplicate key": b'{"kind":"pass",' + store.encode(make_pass())[1:],
    "duplicate inner key": store.encode(make_pass()).replace(b'"result":"ok"', b'"result":"ok","result":"oom-gpu"'),
    "truncated": store.encode(make_pass())[:-20],
    "truncated by one": store.encode(make_pass())[:-2],
    "two records": store.encode(make_pass()) * 2,
    "trailing text": store.encode(make_pass()) + b"# end",
    "no line feed": store.encode(make_pass())[:-1],
    "two line feeds": store.encode(make_pass()) + b"\n",
    "crlf": store.encode(make_pass())[:-1] + b"\r\n",
    "bom": b"\xef\xbb\xbf" + store.encode(make_pass()),
    "utf-16": store.encode(make_pass()).decode().encode("utf-16"),
    "latin-1": store.encode(make_pass(notes="naïve")).decode().encode("latin-1"),
    "bad utf-8": store.encode(make_pass()).replace(b"rtx", b"\xff\xfe\xfd"),
    "overlong utf-8": store.encode(make_pass()).replace(b"rtx", b"\xc0\xaf"),
    "nul bytes": store.encode(make_pass()).replace(b"rtx", b"\0\0\0"),
    "lone surrogate": resealed(document(make_pass(notes="zzzz"))).replace(b"zzzz", b"\\ud800"),
    "pretty printed": json.dumps(document(make_pass()), indent=2).encode(),
    "other key order": json.dumps(dict(reversed(document(make_pass()).items())), separators=(",", ":")).encode()
    + b"\n",
    "other number form": store.encode(make_pass()).replace(b'"steps":50', b'"steps":5e1'),
    "escaped ascii": store.encode(make_pass()).replace(b'"ok"', b'"\\u006fk"'),
    "explicit null": resealed(document(make_pass()) | {"notes": None}),
    "unknown field": resealed(document(make_pass()) | {"gpu_uuid": "x"}),
    "unknown kind": resealed(document(make_pass()) | {"kind": "wish"}),
    "no kind": resealed({k: v for k, v in document(make_pass()).items() if k != "kind"}),
    "other kind": resealed(document(make_pass()) | {"kind": "link"}),
    "newer version": resealed(document(make_pass()) | {"schema_version": 2}),
    "version as text": resealed(document(make_pass()) | {"schema_version": "1"}),
    "id of another": store.encode(make_pass()).replace(b'"created":', b'"created":1'),
    "edited after sealing": store.encode(make_pass()).replace(b'"seconds":100.5', b'"seconds":10.5'),
    "no id": store.canonical({k: v for k, v in document(make_pass()).items() if k != "id"}) + b"\n",
    "id in capitals": store.encode(make_pass()).replace(ID.encode(), ID.upper().encode()),
    "a million samples": resealed(document(make_pass()) | {"samples": [{"total": 1.5, "warmup": False}] * 20_000}),
    "many phases": resealed(
        changed(document(make_pass()), ("samples", 1, "phases"), {f"p{i}": 0.5 for i in range(99)})
    ),
    "many tags": resealed(document(make_pass()) | {"tags": ["t"] * 17}),
    "long notes": resealed(document(make_pass()) | {"notes": "x" * 2001}),
    "control characters": resealed(document(make_pass()) | {"notes": "a\x1b[31mb"}),
    "zero width": resealed(document(make_pass()) | {"notes": "a\u200bb"}),
    "handle with spaces": resealed(document(make_pass()) | {"submitter": "a b"}),
    "handle as a path": resealed(document(make_pass()) | {"submitter": "../x"}),
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    "gzip": b"\x1f\x8b\x08\x00" + b"\0" * 40,
    "yaml": b"kind: pass\nid: !!python/object/apply:os.system ['true']\n",
    "xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_files_are_refused(name: str) -> None:
    _, rejects, _ = ranks(HAND_MADE[name])
    assert rejects, name


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "<script>",
        "</td><td>",
        "<!-- hidden",
        "javascript:alert(1)",
        "x'; DROP TABLE records; select 1",
        "1 UNION SELECT * FROM users",
        "delete everything from results",
    ],
)
def test_markup_and_sql_in_free_text_are_flagged_and_kept(text: str) -> None:
    readable, rejects, flags = ranks(store.encode(make_pass(notes=text)))
    assert readable
    assert not rejects
    assert "odd-text" in flags


@pytest.mark.parametrize(
    "slug", ["..", ".", "a/b", "a\\b", "/abs", "nul", "con.x", "a\n", "ümlaut", "a b", "-a", "a.", ".a", "%2e%2e"]
)
@pytest.mark.parametrize("block", ["card", "model"])
def test_path_tricks_in_the_names_that_make_folders_are_refused(slug: str, block: str) -> None:
    _, rejects, _ = ranks(resealed(changed(document(make_pass()), (block, "slug"), slug)))
    assert rejects == {"unreadable"}


def test_files_that_are_no_files(tmp_path: Path) -> None:
    root = tmp_path / "results"
    good = store.write(root, make_pass())
    (root / "fifo.json").unlink(missing_ok=True)
    os.mkfifo(root / "fifo.json")
    (root / "link.json").symlink_to(good)
    (root / "dangling.json").symlink_to(tmp_path / "nowhere")
    (root / "loop.json").symlink_to(root / "loop.json")
    (root / "folder.json").mkdir()
    (root / "linked-folder").symlink_to(tmp_path)
    (root / "huge.json").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / ".hidden.json").write_bytes(store.encode(make_pass()))
    (root / "rtx-4070" / "README.md").write_text("not furniture here")
    report = validate([root], NOW)
    rejected = {problem.path.relative_to(root).as_posix() for problem in report.of(Rank.REJECT)}
    assert rejected == {
        "fifo.json",
        "link.json",
        "dangling.json",
        "loop.json",
        "linked-folder",
        "huge.json",
        "run.sh",
        ".hidden.json",
        "rtx-4070/README.md",
    }
    assert report.valid == 1


@pytest.mark.parametrize(
    "name", ["a\nb.json", "a\x1b[2Jb.json", "\udcff.json", "x" * 200 + ".json", " .json", "ünï.json"]
)
def test_odd_file_names_are_reported_not_fatal(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(store.encode(make_pass()))
    report = validate([tmp_path], NOW)
    assert {problem.finding.code for problem in report.of(Rank.REJECT)} == {"misplaced"}


def test_random_damage_to_bytes_never_crashes_and_is_always_found() -> None:
    chance, content = random.Random(3), store.encode(make_pass())
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        cut = bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
        _, rejects, _ = ranks(cut)
        assert rejects or cut == content


def test_memory_stays_bounded() -> None:
    """The largest file that is read at all, of the shapes that cost a parser most, in under 300 MB more than now."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (
        b"[" * MAX_FILE_BYTES,
        b'{"":' * (MAX_FILE_BYTES // 4),
        b"[" + b"{}," * (MAX_FILE_BYTES // 3 - 2) + b"0]",
        b'["' + b"\\u0041" * (MAX_FILE_BYTES // 6 - 2) + b'"]',
        b"[" + b"1e5," * (MAX_FILE_BYTES // 4 - 2) + b"0]",
    ):
        assert ranks(content[:MAX_FILE_BYTES])[1]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 300 * 1024
