"""Optional SSH signatures: ``<id>.json.sig`` beside a record, made and checked by OpenSSH's ``ssh-keygen -Y``.

A signature says that the holder of a key vouches for exactly these bytes. Who that is, only an ``allowed_signers`` file
can say (ssh-keygen(1), ALLOWED SIGNERS); without one a valid signature is by an unknown key.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from fitcheck.errors import InputError
from fitcheck.records.findings import Finding, note, reject
from fitcheck.records.reading import read_bounded

NAMESPACE = "fitcheck"
SUFFIX = ".sig"
MAX_SIGNATURE_BYTES = 1 << 14
_TIMEOUT = 30


def sign(content: bytes, key: Path) -> bytes:
    """The armored signature of ``content``. ``key`` is a private key, or a public one whose private half an agent has.

    Raises InputError when ssh-keygen is missing or cannot use the key.
    """
    if not key.is_file():
        raise InputError(f"--sign: {key} is not a key file; give the path of an SSH key, like ~/.ssh/id_ed25519.pub.")
    result = _keygen("sign", "-f", str(key), content=content)
    if result.returncode:
        raise InputError(f"--sign: ssh-keygen could not sign with {key} ({_reason(result)}).")
    return result.stdout


def check_signature(content: bytes, signature: Path, submitter: str | None, allowed_signers: Path | None) -> Finding:
    """One finding: ``reject`` when the signature does not fit the bytes or the submitter, else a ``note``."""
    try:
        armored = read_bounded(signature, MAX_SIGNATURE_BYTES)
    except InputError as error:
        return reject("signature", str(error))
    if shutil.which("ssh-keygen") is None:
        return note("signature-unchecked", "has a signature, and ssh-keygen is not installed to check it")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "signature")
        copy.write_bytes(armored)
        result = _keygen("check-novalidate", "-s", str(copy), content=content)
        if result.returncode:
            return reject("signature", f"the signature is not one of these bytes ({_reason(result)})")
        if submitter is None or allowed_signers is None or not allowed_signers.is_file():
            return note("signed", "signed with a key that nothing here names")
        result = _keygen("verify", "-I", submitter, "-f", str(allowed_signers), "-s", str(copy), content=content)
        if result.returncode == 0:
            return note("signed", f"signed by {submitter}")
        known = subprocess.run(
            ["ssh-keygen", "-Y", "find-principals", "-f", str(allowed_signers), "-s", str(copy)],
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if known.returncode == 0:
            return reject("signature", f"the signing key belongs to another submitter than {submitter!r}")
    return note("signed", "signed with a key that nothing here names")


def _keygen(action: str, *arguments: str, content: bytes) -> subprocess.CompletedProcess[bytes]:
    command = ["ssh-keygen", "-Y", action, "-n", NAMESPACE, *arguments]
    try:
        return subprocess.run(command, input=content, capture_output=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise InputError("ssh-keygen is not installed; install OpenSSH 8.1 or newer to sign records.") from error
    except subprocess.TimeoutExpired as error:
        raise InputError("ssh-keygen did not answer; unlock the key with ssh-add first.") from error


def _reason(result: subprocess.CompletedProcess[bytes]) -> str:
    lines = result.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    return lines[-1][:160]
