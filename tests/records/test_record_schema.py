"""The schema: strict, closed, bounded, exported, and stable under reading old files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from record_samples import make_external, make_link, make_llm, make_pass, model

from fitcheck.errors import InputError
from fitcheck.models.workload import Task, Workload
from fitcheck.records import export, schema, store
from fitcheck.records.fields import clean_text, slugify
from fitcheck.records.migrate import migrate
from fitcheck.records.reading import parse

REPOSITORY = Path(__file__).parents[2]
STORED = Path(__file__).parent / "data" / "v1"
MAKERS: dict[str, Callable[..., schema.AnyRecord]] = {
    "pass": make_pass,
    "link": make_link,
    "llm": make_llm,
    "external": make_external,
}


def test_the_exported_json_schema_is_the_models() -> None:
    assert (REPOSITORY / "results" / "schema" / export.FILE_NAME).read_bytes() == export.json_schema()


def test_every_object_of_the_json_schema_is_closed() -> None:
    definitions = json.loads(export.json_schema())["$defs"]
    assert len(definitions) > 20
    for name, definition in definitions.items():
        if definition.get("type") == "object":
            assert definition["additionalProperties"] is False, name


@pytest.mark.parametrize("kind", MAKERS)
def test_a_record_survives_its_file(kind: str) -> None:
    record = MAKERS[kind]()
    content = store.encode(record)
    parsed = parse(content, "x").record
    assert parsed == store.seal(record)
    assert parsed.kind == kind
    assert store.encode(parsed) == content


@pytest.mark.parametrize("kind", MAKERS)
def test_stored_examples_of_version_1_read_as_they_were_written(kind: str) -> None:
    """Never regenerate these files: they are what old records look like. A later schema must still read them."""
    content = (STORED / f"{kind}.json").read_bytes()
    parsed = parse(content, kind)
    assert parsed.record.kind == kind
    assert parsed.document["id"] == store.document_id(parsed.document)
    if parsed.record.schema_version == 1:
        assert store.encode(parsed.record) == content


@pytest.mark.parametrize("task", list(Task))
def test_workload_sizes_give_the_workload_back(task: Task) -> None:
    asked = Workload(
        task, width=1536, height=2720, steps=8, cfg=1.5, references=((512, 512),), prompt_tokens=77, new_tokens=33
    )
    sizes = schema.WorkloadSizes.of(asked)
    assert sizes == schema.WorkloadSizes.of(sizes.workload())
    assert sizes.workload().prompt_tokens == 77
    assert (sizes.width is None) == (task in (Task.VQA, Task.CHAT, Task.EMBED))


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "fake"},
        {"slug": "Upper-Case"},
        {"slug": "../up"},
        {"slug": "con"},
        {"slug": "com1.x"},
        {"slug": "a" * 65},
        {"slug": ""},
        {"tier": "<b>"},
        {"sha256": "AB" * 32},
        {"sha256": "ab"},
        {"file": "/etc/passwd"},
        {"file": "../x.gguf"},
        {"file": "a//b"},
        {"repository": "no-slash"},
        {"quant_bytes": {"Q4_K": -1}},
        {"quant_bytes": {"Q4_K": 1.5}},
        {"quant_bytes": {"Q4_K": 1 << 53}},
        {"quant_bytes": {"Q4 K": 1}},
        {"quant_bytes": {f"Q{i}": 1 for i in range(100)}},
        {"parameters": 8},
    ],
)
def test_a_model_block_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model(**changes)


def test_lists_and_numbers_of_the_wrong_type_are_refused_in_python_too() -> None:
    with pytest.raises(ValidationError):
        make_pass(samples=[])
    with pytest.raises(ValidationError):
        make_pass(created="1795000000")
    with pytest.raises(ValidationError):
        make_pass(created=True)


def test_records_are_immutable() -> None:
    with pytest.raises(ValidationError):
        make_pass().created = 1


def test_an_absent_meter_is_absent_from_the_file_not_zero() -> None:
    record = make_pass(memory=schema.Memory(allocated=1), power=None)
    document = store.document_of(record)
    assert document["memory"] == {"allocated": 1}
    assert "power" not in document


def test_a_document_of_an_older_version_is_migrated_step_by_step() -> None:
    steps: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
        7: lambda d: {"schema_version": 8, "b": d.pop("a")},
        8: lambda d: d | {"schema_version": 9, "c": d["b"] + 1},
    }
    old: dict[str, object] = {"schema_version": 7, "a": 1}
    new = migrate(old, "x", steps, newest=9)
    assert new == {"schema_version": 9, "b": 1, "c": 2}
    assert old == {"schema_version": 7, "a": 1}, "the stored document is left as it is"
    assert migrate(new, "x", steps, newest=9) is new


@pytest.mark.parametrize("version", [None, "1", 1.0, True, 0, -1])
def test_a_document_without_a_known_version_is_refused(version: object) -> None:
    with pytest.raises(InputError, match="schema"):
        migrate({"schema_version": version}, "x")


def test_a_newer_version_asks_for_an_update() -> None:
    with pytest.raises(InputError, match="update fitcheck"):
        migrate({"schema_version": schema.SCHEMA_VERSION + 1}, "x")


@given(st.text(max_size=3000))
def test_cleaned_text_always_fits_a_record(text: str) -> None:
    outcome = schema.Outcome(result="error", message=clean_text(text))
    assert outcome.message is not None
    assert len(outcome.message) <= 2000


def test_cleaned_text_loses_paths_and_control_characters() -> None:
    text = clean_text("open('/home/ann/models/a b.gguf') failed\x1b[31m C:\\Users\\Ann\\x.bin and/or 3/4 done")
    assert "ann" not in text.lower()
    assert "\x1b" not in text
    assert "and/or 3/4 done" in text


@given(st.text(max_size=200))
def test_a_slug_of_anything_is_a_slug(text: str) -> None:
    slug = slugify(text)
    assert schema.Source(tool=slug).tool == slug
