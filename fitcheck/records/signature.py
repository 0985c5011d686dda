"""Optional SSH signatures: ``<id>.json.sig`` beside a record, made and checked by OpenSSH's ``ssh-keygen -Y``.

A signature says that the holder of a key vouches for exactly these bytes. Who that is, only an ``allowed_signers`` file
can say (ssh-keygen(1), ALLOWED SIGNERS). Where there is one, a signature by a key that it does not list vouches for
nothing, and a record credited to somebody that it lists needs one: both are flagged.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from fitcheck.errors import InputError, OptionError, RecordError
from fitcheck.records.bounded import read_bounded
from fitcheck.records.findings import Finding, flag, note, reject

NAMESPACE = "fitcheck"
SUFFIX = ".sig"
ALLOWED_SIGNERS = "allowed_signers"
MAX_SIGNATURE_BYTES = 1 << 14
_TIMEOUT = 30


def sign(content: bytes, key: Path) -> bytes:
    """The armored signature of ``content``. ``key`` is a private key, or a public one whose private half an agent has.

    Raises InputError when ssh-keygen is missing or cannot use the key.
    """
    if not key.is_file():
        raise OptionError(f"--sign: {key} is not a key file; give the path of an SSH key, like ~/.ssh/id_ed25519.pub.")
    result = _keygen("sign", "-f", str(key), content=content)
    if result.returncode:
        raise RecordError(f"--sign: ssh-keygen could not sign with {key} ({_reason(result)}).")
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
        if allowed_signers is None or not allowed_signers.is_file():
            return note("signed-unknown", "signed with some key; no list of signers says whose")
        if submitter is None:
            return flag("signed-unlisted", "signed, and credited to nobody: the signature vouches for no one")
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
    return flag("signed-unlisted", f"signed with a key that {ALLOWED_SIGNERS} does not list: nobody vouches for it")


def check_unsigned(submitter: str | None, allowed_signers: Path | None) -> list[Finding]:
    """A flag when a record without a signature is credited to somebody who signs."""
    if submitter is None or allowed_signers is None or submitter not in _principals(allowed_signers):
        return []
    return [
        flag("signature-missing", f"is credited to {submitter}, who signs, and has no signature: it may be another's")
    ]


def _principals(allowed_signers: Path) -> set[str]:
    """Whom a list names: the first field of its lines, names separated by commas."""
    try:
        text = read_bounded(allowed_signers).decode("utf-8", "replace")
    except InputError:
        return set()
    lines = (line.strip() for line in text.splitlines())
    return {name.strip('"') for line in lines if line and line[0] != "#" for name in line.split()[0].split(",")}


def _keygen(action: str, *arguments: str, content: bytes) -> subprocess.CompletedProcess[bytes]:
    command = ["ssh-keygen", "-Y", action, "-n", NAMESPACE, *arguments]
    try:
        return subprocess.run(command, input=content, capture_output=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise RecordError("ssh-keygen is not installed; install OpenSSH 8.1 or newer to sign records.") from error
    except subprocess.TimeoutExpired as error:
        raise RecordError("ssh-keygen did not answer; unlock the key with ssh-add first.") from error


def _reason(result: subprocess.CompletedProcess[bytes]) -> str:
    lines = result.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    return lines[-1][:160]
