"""A file is not read again where the machine knows it to be as it was, and is where anything may have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fitcheck.pages import build as builder
from fitcheck.pages import file_memory
from fitcheck.pages.checking import check
from fitcheck.pages.file_memory import FileMemory, state_of
from fitcheck.pages.site_inputs import Inputs, gather
from fitcheck.user_folders import cache_root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITCHECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_memory, "_SETTLED", 0)  # what tests write is younger than that


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    root.mkdir()
    for name in ("one", "two"):
        (root / name).write_text(name)
    return root


def kept(root: Path) -> FileMemory:
    memory = FileMemory(root)
    memory.keep("group", "hashes", ["one", "two"])
    memory.save()
    return FileMemory(root)


def change_behind(path: Path, content: str) -> None:
    """Other bytes of the same length, with the time stamp of the old ones."""
    before = path.stat()
    path.write_text(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_was_kept_is_known_until_a_file_changes(pages: Path) -> None:
    memory = kept(pages)
    assert memory.holds("group", "hashes", ["one", "two"])
    assert memory.size == 6
    assert not memory.holds("group", "other hashes", ["one", "two"])
    assert not memory.holds("another", "hashes", ["one", "two"])
    change_behind(pages / "two", "too")
    assert not memory.holds("group", "hashes", ["one", "two"])


def test_a_missing_file_a_link_and_a_name_that_is_none_have_no_state(pages: Path) -> None:
    (pages / "link").symlink_to(pages / "one")
    for name in ("gone", "link", "a\0b", "."):
        assert state_of(pages, [name]) is None


def test_a_young_file_is_read_once_more(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_memory, "_SETTLED", 60 * 10**9)
    assert not kept(pages).holds("group", "hashes", ["one", "two"])


@pytest.mark.parametrize(
    "content", ["", "[]", '{"schema": "fitcheck.sites/1"}', '{"schema": 1, "sites": 2}', "[" * 9999]
)
def test_a_memory_that_is_none_is_not_believed(content: str, pages: Path) -> None:
    kept(pages)
    (cache_root() / file_memory.NAME).write_text(content)
    assert not FileMemory(pages).holds("group", "hashes", ["one", "two"])
    assert kept(pages).holds("group", "hashes", ["one", "two"])


def test_a_folder_that_cannot_be_written_is_passed_over(pages: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert not kept(pages).holds("group", "hashes", ["one", "two"])


def test_sites_that_are_gone_are_forgotten(pages: Path) -> None:
    kept(pages)
    pages.rename(pages.with_name("elsewhere"))
    kept(pages.with_name("elsewhere"))
    assert str(pages) not in (cache_root() / file_memory.NAME).read_text()


def test_a_page_that_was_changed_by_hand_is_found_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, out = site(tmp_path)
    reads = counted(monkeypatch)
    assert builder.build(inputs, out, jobs=1).drawn == 0
    assert not [path for path in reads if path.name == "index.html"]
    for name in ("check/sensenova-u1-8b-mot/rtx-4070/index.html", "cards/rtx-4070/index.html"):
        page = out / name
        whole = page.read_text()
        change_behind(page, whole.replace("RTX 4070", "RTX 4080"))
        assert check(inputs, out).stale == [name]
        assert builder.build(inputs, out, jobs=1).written == 1
        assert page.read_text() == whole


def test_a_check_reads_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, out = site(tmp_path)
    reads = counted(monkeypatch)
    assert not check(inputs, out).stale
    assert set(out.rglob("index.html")) <= set(reads)


def site(folder: Path) -> tuple[Inputs, Path]:
    inputs, out = gather(None, "rtx-4070"), folder / "out"
    builder.build(inputs, out, jobs=1)
    return inputs, out


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files of sites that are read from now on."""
    from fitcheck.pages import site_folder

    reads, read = [], site_folder.read

    def told(path: Path) -> bytes | None:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(site_folder, "read", told)
    return reads
