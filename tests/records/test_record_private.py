"""What names a person or a machine is rejected, and what only looks like it is left alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_samples import NOW, card, document, make_pass

from fitcheck.records import privacy, schema, store
from fitcheck.records.findings import Rank
from fitcheck.records.validate import check_record

RESULTS = Path(__file__).parents[2] / "results"


def findings(record: Any) -> dict[str, Rank]:
    parsed, found = check_record(store.encode(record), NOW)
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


# None of these is or was anybody's: each is made up after its issuer's published form.
SECRETS = [
    "hf_" + "aBcD3fGhIjKlMnOpQrStUvWxYz012345",
    "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",
    "gho_" + "16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_" + "11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789",
    "glpat-" + "abcDEF123456ghiJKL78",
    "sk-" + "proj-abcdEFGH1234ijklMNOP5678",
    "sk-ant-" + "api03-abcdEFGH1234ijklMNOP5678",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "AIza" + "SyA1234567890abcdefGHIJKLMNOPqrstu",
    "xoxb-" + "123456789012-abcdefGHIJKL",
    "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "npm_" + "abcdefGHIJKL1234567890mnopqrSTUVwx",
    "pypi-" + "AgEIcHlwaS5vcmcCJGFiY2RlZmdoaWprbG1ub3A",
    "nvapi-" + "abcdEFGH1234ijklMNOP5678qrst",
    "Authorization: Bearer " + "abc123def456ghi789",
    "password=" + "hunter2hunter2",
    "https://ann:" + "s3cret@example.org/x",
    "https://bucket.example.org/x?X-Amz-Signature=" + "abcdef0123456789",
    "-----BEGIN OPENSSH PRIVATE " + "KEY-----",
    "wandb login " + "0123456789abcdef0123456789abcdef01234567",
]
IDENTIFIERS = [
    "models in /home/ann/models",
    "models in /data/ann/models/x.gguf",
    "see /scratch/ann/run.log",
    "at /opt/ml/ann/venv/lib/torch.py",
    "/srv/nfs/ann",
    "in ~ann/models",
    "$HOME/models",
    "%USERPROFILE%\\models",
    "C:\\Users\\Ann\\x.gguf",
    "d:/models/x.gguf",
    "\\\\nas\\share\\x",
    "file:///home/ann/x",
    "%2Fhome%2Fann%2Fmodels",
    "%252Fhome%252Fann%252Fmodels",
    "\uff0fhome\uff0fann\uff0fmodels",
    "\u2215home\u2215ann\u2215models",
    "&#47;home&#47;ann",
    "\\x2fhome\\x2fann",
    "/ho\u00adme/ann",
    "/Volumes/Ann/models",
    "nas:/export/ann/models",
    "ann@box:~/models",
    "on annsbox.local",
    "build7.corp",
    "gpu1.lab.lan",
    "DESKTOP-4F7K2QX",
    "ip-10-1-2-3.ec2.internal",
    "hostname: annsbox",
    "username=ann",
    "00:1a:2b:3c:4d:5e",
    "00-1A-2B-3C-4D-5E",
    "001a.2b3c.4d5e",
    "mac 001a2b3c4d5e",
    "\uff10\uff10:1a:2b:3c:4d:5e",
    "served from 192.168.1.17",
    "at 2001:db8::17",
    "fe80::1ff:fe23:4567:890a",
    "Serial: 1422318012345",
    "serial number 1422318012345",
    "SN1422318012345",
    "Service Tag: 7XKJ2M3",
    "GPU-0fa1b2c3-1111-2222-3333-444455556666",
    "uuid 0fa1b2c3111122223333444455556666",
    "ask ann@example.org",
    "ASK ANN@EXAMPLE.ORG",
    "ann (at) example.org",
    "call +49 170 1234567",
]


@pytest.mark.parametrize("text", SECRETS)
def test_credentials_are_rejected(text: str) -> None:
    assert findings(make_pass(notes=f"ran with {text} here"))["secret"] is Rank.REJECT
    assert findings(make_pass(outcome=schema.Outcome(result="error", message=text)))["secret"] is Rank.REJECT


@pytest.mark.parametrize("text", IDENTIFIERS)
def test_identifiers_are_rejected_however_they_are_spelled(text: str) -> None:
    for notes in (text, f"ran fine, {text} was used", f"({text})"):
        assert Rank.REJECT in findings(make_pass(notes=notes)).values(), notes


@pytest.mark.parametrize(
    "text",
    [
        "std::bad_alloc and c10::Error in at::native",
        "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 23.99 GiB total capacity)",
        "prompt_tokens=1024, token: 128, tokens/s: 45.2, key_length = 128",
        "sensenova/SenseNova-U1-8B-MoT at commit 0123abc, Qwen3VLForConditionalGeneration",
        "Qwen2.5-VL-7B-Instruct-Q4_K_M-00001-of-00002.gguf",
        "NVIDIA GeForce RTX 4090, driver 580.95.05, PCIe 4.0 x16",
        "kernel 6.8.0-45-generic, torch 2.9.1+cu128, 24/7, w/o display, tok/s/GPU",
        "ran at 12:34:56 on 2026-11-05; 3:2 aspect, 1024x1024 @ 50 steps",
        "threading.local object, RuntimeError: user-defined hook, at [path] line 3",
        "sha256 of the file is in the record; ratio 1e-3; 0x7ffdeadbeef",
        "see https://github.com/ggml-org/llama.cpp/pull/123#issuecomment-4567 and arxiv.org/abs/2401.00001",
    ],
)
def test_what_people_write_about_measurements_is_left_alone(text: str) -> None:
    assert Rank.REJECT not in findings(make_pass(notes=text)).values()


def test_no_accepted_record_holds_anything_private() -> None:
    documents = [json.loads(path.read_bytes()) for path in store.record_files(RESULTS)]
    assert len(documents) > 20
    assert [found for one in documents for found in privacy.private_patterns(one)] == []


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=2000))
def test_any_text_is_looked_at_quickly(text: str) -> None:
    started = time.monotonic()
    privacy.private_patterns({"notes": text * (2000 // (len(text) or 1))})
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "piece", ["/a", "a:", "a.", "1.", "aa-", "%25", "a@", "pwd ", "0:", "hf_", "\\\\", "&amp;", "aB1", "sn "]
)
def test_a_text_of_one_piece_over_and_over_is_looked_at_quickly(piece: str) -> None:
    started = time.monotonic()
    privacy.private_patterns({"notes": piece * (2000 // len(piece)) + "!"})
    assert time.monotonic() - started < 1
