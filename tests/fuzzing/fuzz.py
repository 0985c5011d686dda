"""Fuzzes the readers of what comes from outside: ``python tests/fuzzing/fuzz.py --seconds 600 [READER …]``.

Each reader runs in a process of its own that may take 1 GiB of address space more than it had when it began, and ten
seconds a case. An input that ends in anything but an answer or an InputError is a finding: it is printed with its
traceback and written to ``--keep FOLDER``, once for each place in the code. The inputs that found a fault which is
mended now lie in ``corpus/READER/`` and are read again by ``tests/test_fuzzing.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from readers import READERS
from reading import Reader

from fitcheck.errors import InputError

CORPUS = Path(__file__).parent / "corpus"
SECONDS_A_CASE = 10.0


@dataclass
class Outcome:
    """What a reader made of its cases: ``answers`` and ``refusals`` are as it should be, ``findings`` are not."""

    reader: str
    cases: int = 0
    answers: int = 0
    refusals: int = 0
    slowest: float = 0.0
    peak: int = 0
    cpu: float = 0.0
    findings: dict[str, bytes] = field(default_factory=dict)


def address_space() -> int:
    """Bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def attempt(reader: Reader, data: bytes) -> tuple[str, str]:
    """(answer, refusal or finding; what it said or where it broke) of one case."""
    room = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        reader.read(data, room)
    except InputError as error:
        words = str(error)
        if not words.strip() or len(words) > 100_000:
            return "finding", f"an error of {len(words)} characters"
        return "refusal", words
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        frames = [one for one in traceback.extract_tb(error.__traceback__) if "fuzzing" not in one.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
        return "finding", f"{type(error).__name__} in {where}: {str(error)[:200]!r}\n{traceback.format_exc()[-1500:]}"
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return "answer", ""


def work(reader: Reader, seconds: float, seed: int, current: str, results: Any) -> None:
    """The worker: cases until the time is over; ``current`` names the file that holds the case being read."""
    chance = random.Random(seed)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    attempt(reader, reader.case(chance))  # what is imported on the way is not the input's doing
    limit = address_space() + reader.room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end, cases = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = reader.case(chance)
        Path(current).write_bytes(data)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_A_CASE)
        started = time.process_time()
        kind, words = attempt(reader, data)
        took = time.process_time() - started
        signal.setitimer(signal.ITIMER_REAL, 0)
        cases += 1
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        results.send((kind, words if kind == "finding" else "", data if kind == "finding" else b"", took, peak))
    results.close()


def fuzz(reader: Reader, seconds: float, seed: int = 0) -> Outcome:
    """Cases of ``reader`` for so long; a worker that dies or hangs is a finding, and another goes on."""
    outcome, end, context = Outcome(reader.name), time.monotonic() + seconds, multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        current = f"{folder}/case"
        while (left := end - time.monotonic()) > 0:
            ours, theirs = context.Pipe(duplex=False)
            worker = context.Process(target=work, args=(reader, left, seed, current, theirs))
            worker.start()
            theirs.close()
            _listen(ours, outcome)
            worker.join()
            if worker.exitcode:
                died = f"the worker ended with {worker.exitcode} (-14: more than {SECONDS_A_CASE:.0f} s)"
                outcome.findings.setdefault(died, Path(current).read_bytes() if Path(current).exists() else b"")
                outcome.cases += 1
            seed += 1000
    return outcome


def _listen(pipe: Any, outcome: Outcome) -> None:
    try:
        while True:
            kind, words, data, took, peak = pipe.recv()
            outcome.cases += 1
            outcome.answers += kind == "answer"
            outcome.refusals += kind == "refusal"
            outcome.slowest, outcome.peak = max(outcome.slowest, took), max(outcome.peak, peak)
            outcome.cpu += took
            if kind == "finding":
                key = words.partition(": ")[0]
                if not any(known.startswith(f"{key}: ") for known in outcome.findings):
                    outcome.findings[words] = data
    except EOFError:
        return


def corpus(reader: str) -> Iterator[Path]:
    """The kept inputs of a reader."""
    yield from sorted((CORPUS / reader).glob("*"))


def main() -> int:
    """1 when there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where findings are written")
    given = parser.parse_args()
    wanted = [one for one in READERS if not given.readers or one.name in given.readers]
    found = 0
    for reader in wanted:
        outcome = fuzz(reader, given.seconds, given.seed)
        found += len(outcome.findings)
        print(
            f"{outcome.reader:13} {outcome.cases:7} cases, {outcome.answers} answers, {outcome.refusals} refusals, "
            f"{len(outcome.findings)} findings; slowest {outcome.slowest:.2f} s, {outcome.cpu:.0f} s of CPU, "
            f"{outcome.peak / 2**20:.0f} MiB more at most",
            flush=True,
        )
        for words, data in outcome.findings.items():
            print(f"  {words}", flush=True)
            if given.keep is not None:
                folder = given.keep / reader.name
                folder.mkdir(parents=True, exist_ok=True)
                (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
    print(json.dumps({"readers": len(wanted), "findings": found}))
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
