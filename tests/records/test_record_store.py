"""The store: one canonical file a record, written whole or not at all, never overwritten, also under kill -9."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from record_samples import make_link, make_pass

from fitcheck.errors import InputError
from fitcheck.records import places, schema, store
from fitcheck.records.validate import publishable

NUMBERS = st.one_of(
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.0, -0.0, 1e-7, 1e-5, 1e16, 1e21, 1e22, 0.1, 5e-324, 123456789012345680.0]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(), st.sampled_from(["1.0,", "e-5", "1e-5", ".0}", "3e+1"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_canonical_json_is_rfc_8785(document: dict[str, Any]) -> None:
    assert store.canonical(document) == rfc8785.dumps(document)


def test_a_record_is_written_once_at_its_place(tmp_path: Path) -> None:
    record = make_pass()
    path = store.write(tmp_path, record)
    assert path.relative_to(tmp_path) == Path("rtx-4070", "sensenova-u1-8b-mot", f"{store.seal(record).id}.json")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert store.write(tmp_path, record) == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert store.read(path) == store.seal(record)
    assert list(publishable(tmp_path)) == [store.seal(record)]


def test_a_stale_id_is_replaced_on_writing(tmp_path: Path) -> None:
    sealed = store.seal(make_pass())
    edited = sealed.model_copy(update={"notes": "warm room"})
    path = store.write(tmp_path, edited)
    assert path.stem != sealed.id
    assert store.read(path).id == path.stem


def test_records_without_card_or_model_have_a_place() -> None:
    assert store.folder_of(make_pass(card=None)) == Path("cpu", "sensenova-u1-8b-mot")
    assert store.folder_of(make_link()) == Path("rtx-4070", "link")


def test_other_content_is_never_overwritten(tmp_path: Path) -> None:
    path = store.write(tmp_path, make_pass())
    path.write_bytes(b"something of the user's")
    with pytest.raises(InputError, match="other content"):
        store.write(tmp_path, make_pass())
    assert path.read_bytes() == b"something of the user's"


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "rtx-4070").symlink_to(outside)
    with pytest.raises(InputError, match="symbolic link"):
        store.write(root, make_pass())
    assert not list(outside.rglob("*.json"))
    (root / "rtx-4070").unlink()
    path = store.write(root, make_pass())
    target = outside / "file.json"
    path.rename(target)
    path.symlink_to(target)
    with pytest.raises(InputError):
        store.write(root, make_pass())
    with pytest.raises(InputError, match="symbolic link"):
        store.read(path)


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rtx-4070").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        store.write(tmp_path, make_pass())


def test_without_hard_links_it_still_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = store.write(tmp_path, make_pass())
    assert store.read(path).id == path.stem
    assert store.write(tmp_path, make_pass()) == path


def test_many_threads_writing_the_same_record_leave_one_file(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def write() -> None:
        try:
            store.write_bytes(tmp_path, store.relative_path(record), content)
        except BaseException as error:
            errors.append(error)

    record = make_pass()
    content = store.encode(record)
    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()] == [content]


def test_local_records_have_a_place_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.ENVIRONMENT, str(tmp_path))
    assert places.local_root() == tmp_path
    monkeypatch.delenv(places.ENVIRONMENT)
    assert places.local_root().is_absolute()


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    path = store.write(tmp_path, make_pass())
    path.unlink()
    dead = [path.with_name(f".{path.name}.{text}.tmp") for text in (f"{2**22 + 5}-ab-1", f"{os.getpid()}-0000-1", "x")]
    living = path.with_name(f".{path.name}.{os.getppid()}-ab-1.tmp")
    for left in (*dead, living):
        left.write_bytes(b"{")
    store.write(tmp_path, make_pass())
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, living.name])


def _record(number: int) -> schema.PassRecord:
    return make_pass(notes=f"run {number} " + "x" * 1900)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_at_66_random_points_leaves_whole_files_and_a_retry_completes(tmp_path: Path) -> None:
    """A child writes records in a loop and is killed at a random moment; every file there is must be whole."""
    chance = random.Random(5)
    prepared = [(store.relative_path(_record(n)), store.encode(_record(n))) for n in range(400)]
    contents = {relative.name: content for relative, content in prepared}
    killed_inside = 0
    for attempt in range(66):
        root = tmp_path / str(attempt)
        child = os.fork()
        if child == 0:
            try:
                for relative, content in prepared:
                    store.write_bytes(root, relative, content)
            finally:
                os._exit(0)
        deadline = time.monotonic() + 5
        while attempt % 6 and not root.exists() and time.monotonic() < deadline:
            time.sleep(0.0002)
        time.sleep(chance.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        whole = list(root.rglob("*.json"))
        for path in whole:
            assert path.read_bytes() == contents[path.name]
        killed_inside += root.exists() and len(whole) < len(prepared)
        for relative, content in prepared[: len(whole) + 3]:
            store.write_bytes(root, relative, content)
        left = sorted(path.name for path in root.rglob("*") if path.is_file())
        assert left == sorted(relative.name for relative, _ in prepared[: len(whole) + 3]), "no partial file stays"
    assert killed_inside >= 50, "the kills must fall into the writing"
