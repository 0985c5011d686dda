"""Signatures of submitted records: made, sent, verified, and neither stripped nor taken over."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from record_samples import NOW, make_pass
from submitting import record_file

from fitcheck.errors import InputError
from fitcheck.records.findings import Rank
from fitcheck.records.submit import prepare
from fitcheck.records.targets import folder
from fitcheck.records.validate import validate


def key_pair(where: Path, name: str) -> Path:
    where.mkdir(exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(where / name)], check=True)
    return where / name


@pytest.mark.skipif(os.system("command -v ssh-keygen > /dev/null") != 0, reason="needs ssh-keygen")
def test_signatures_are_made_sent_and_verified(tmp_path: Path) -> None:
    ann, bob = key_pair(tmp_path / "keys", "ann"), key_pair(tmp_path / "keys", "bob")
    file = record_file(tmp_path, make_pass())
    item = prepare(file, NOW, submitter="ann", key=ann, identity={})
    assert [payload.path.endswith(".json.sig") for payload in item.payloads] == [False, True]
    root = tmp_path / "results"
    folder.submit(item.payloads, root)

    def finding() -> tuple[Rank, str]:
        (problem,) = validate([root], NOW).problems
        return problem.finding.rank, problem.finding.message

    assert finding() == (Rank.NOTE, "signed with some key; no list of signers says whose")
    signers = root / "allowed_signers"
    signers.write_text(f"ann {ann.with_suffix('.pub').read_text()}")
    assert finding() == (Rank.NOTE, "signed by ann")
    signers.write_text(f"bob {bob.with_suffix('.pub').read_text()}")
    assert finding() == (Rank.FLAG, "signed with a key that allowed_signers does not list: nobody vouches for it")
    signers.write_text(f"bob {ann.with_suffix('.pub').read_text()}")
    assert finding()[0] is Rank.REJECT
    signature = root / item.payloads[1].path
    forged = prepare(file, NOW, submitter="eve", key=bob, identity={})
    signature.write_bytes(forged.payloads[1].content)
    assert finding()[0] is Rank.REJECT
    signature.write_bytes(b"-----BEGIN SSH SIGNATURE-----\nnonsense\n-----END SSH SIGNATURE-----\n")
    assert finding()[0] is Rank.REJECT
    with pytest.raises(InputError, match="not a key file"):
        prepare(file, NOW, key=tmp_path / "nothing", identity={})
    (tmp_path / "text").write_text("not a key")
    with pytest.raises(InputError, match="could not sign"):
        prepare(file, NOW, key=tmp_path / "text", identity={})


@pytest.mark.skipif(os.system("command -v ssh-keygen > /dev/null") != 0, reason="needs ssh-keygen")
def test_a_signature_is_neither_stripped_nor_taken_over(tmp_path: Path) -> None:
    ann = key_pair(tmp_path / "keys", "ann")
    item = prepare(record_file(tmp_path, make_pass()), NOW, submitter="ann", key=ann, identity={})
    root = tmp_path / "results"
    folder.submit(item.payloads, root)
    (root / "allowed_signers").write_text(f"# signers\nann,anna {ann.with_suffix('.pub').read_text()}")
    stored = root / item.payloads[0].path
    assert prepare(stored, NOW, identity={}).payloads == item.payloads, "sent again, it keeps its signature"
    with pytest.raises(InputError, match="credited to ann"):
        prepare(stored, NOW, submitter="eve", identity={})
    (root / item.payloads[1].path).unlink()
    (problem,) = validate([root], NOW).problems
    assert (problem.finding.rank, problem.finding.code) == (Rank.FLAG, "signature-missing")
    with pytest.raises(InputError, match="credited to ann"):
        prepare(stored, NOW, submitter="eve", identity={})
