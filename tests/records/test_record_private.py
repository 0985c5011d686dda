"""What names a person or a machine is rejected, and what only looks like it is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from record_samples import NOW, card, document, make_pass

from fitcheck.records import privacy, schema, store
from fitcheck.records.findings import Rank
from fitcheck.records.validate import check_record


def findings(record: Any) -> dict[str, Rank]:
    parsed, found = check_record(store.encode(record), "x", NOW)
    assert parsed is not None
    return {finding.code: finding.rank for finding in found}


PRIVATE = {
    "home-path": "models in /home/ann/models",
    "windows-path": "D:\\models\\x.gguf",
    "ip-address": "served from 192.168.1.17",
    "mac-address": "nic 00:1a:2b:3c:4d:5e",
    "gpu-uuid": "GPU-0fa1b2c3-1111-2222-3333-444455556666",
    "uuid": "0fa1b2c3-1111-2222-3333-444455556666",
    "email": "ask ann@example.org",
    "serial": "Serial: 1422318012345",
}


@pytest.mark.parametrize("code", PRIVATE)
def test_what_names_a_person_or_machine_is_rejected(code: str) -> None:
    assert findings(make_pass(notes=f"see {PRIVATE[code]} there")).get(code) is Rank.REJECT
    message = schema.Outcome(result="error", message=PRIVATE[code])
    assert findings(make_pass(outcome=message)).get(code) is Rank.REJECT


def test_an_ipv6_address_is_rejected() -> None:
    assert findings(make_pass(notes="at 2001:db8:0:0:1:0:0:1"))["ip-address"] is Rank.REJECT


@pytest.mark.parametrize(
    "text",
    [
        "ratio 16:9 at 3.5 s/it",
        "torch 2.9.1 and/or 2.10",
        "PCIe 4.0 x16 @ 2.4 GHz",
        "see https://example.org/x",
        "50/50",
    ],
)
def test_ordinary_notes_are_left_alone(text: str) -> None:
    assert findings(make_pass(notes=text)) == {}


def test_a_driver_version_is_no_address() -> None:
    assert findings(make_pass(card=card(driver="32.0.15.144"))) == {}


def test_names_of_this_machine_are_found_as_words() -> None:
    identity = {"annsbox": "this machine's name", "ann": "your user name"}
    found = privacy.private_names(document(make_pass(notes="on AnnsBox, not annotated")), identity)
    assert [finding.code for finding in found] == ["private-name"]
    assert privacy.private_names(document(make_pass(notes="annotated", submitter="ann")), identity) == []
    assert not privacy.local_identity().keys() & {"root", "localhost"}
