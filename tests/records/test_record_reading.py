"""Bytes of unknown origin: what is no record is refused before anything is made of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fitcheck.errors import InputError
from fitcheck.records.reading import parse_json, read_bounded


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": 1, "a": 2}', "same key twice"),
        (b'{"a": {"b": 1, "b": 1}}', "same key twice"),
        (b'{"a": 1e400}', "too large a number"),
        (b'{"a": -1e999}', "too large a number"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[" * 100_000, "nested deeper than any record"),
        (b'{"a": ' + b"9" * 10_000 + b"}", r"10000 digits\)\.$"),
    ],
)
def test_what_json_does_not_allow(content: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        parse_json(content, "x.json")
    assert str(raised.value).startswith("x.json: ")
    assert len(str(raised.value)) < 300


def test_as_much_as_is_allowed_is_read_and_no_byte_more(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"a" * 100)
    assert read_bounded(file, 100) == b"a" * 100
    with pytest.raises(InputError, match="larger than 99 bytes"):
        read_bounded(file, 99)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "loop", "fifo", ".", "missing"):
        with pytest.raises(InputError, match=r"symbolic link|cannot be read"):
            read_bounded(tmp_path / name)
