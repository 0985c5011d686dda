"""Records of what a series measured: ``python -m bench.engines.diffusers.filed RUNS.jsonl.gz … FOLDER``."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.assemble import record_of
from bench.job import Job
from bench.meters import MeterTrace
from bench.runner import CellRun, MeasuringProtocol
from fitcheck.errors import InputError, RecordError
from fitcheck.records import schema, store
from fitcheck.units import MIB

LARGEST = 256 * MIB
_PLAIN = (
    "outcome", "message", "ready", "capped", "loaded", "passes", "pass_began", "end", "failed", "last_alive",
    "open_phase", "card_before", "started", "created", "wall_seconds", "first_timed_pass", "output",
)  # fmt: skip


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """The runs of a series. Raises RecordError for a file that is none or too large."""
    try:
        with gzip.open(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error}).") from error
    if len(content) > LARGEST:
        raise RecordError(f"{path}: larger than {LARGEST // MIB} MiB; this is not the output of a series.")
    for line in content.splitlines():
        yield json.loads(line)


def run_of(document: dict[str, Any]) -> CellRun:
    """The run that a document describes."""
    trace = MeterTrace()
    for at, values in document["trace"]:
        trace.add(at, values)
    job = Job.from_json(json.dumps(document["cell"]))
    protocol = MeasuringProtocol(**{**document["protocol"], "sizes": ()})
    return CellRun(job, protocol, trace=trace, **{name: document[name] for name in _PLAIN})


def record(document: dict[str, Any]) -> schema.PassRecord:
    """The record of a document, with the card and the machine that it names."""
    run = run_of(document)
    made = record_of(run, None)
    card = document["card"]
    protocol = made.protocol.model_copy(update={"fresh_process": document["position"] == 0})
    return made.model_copy(
        update={
            "card": None if card is None else schema.CardInfo.model_validate(card),
            "machine": schema.MachineInfo.model_validate(document["machine"]),
            "protocol": protocol,
        }
    )


def main(arguments: list[str]) -> int:
    """Writes every run of the files under the folder."""
    *sources, folder = map(Path, arguments)
    count = 0
    for source in sources:
        for document in documents(source):
            store.write(folder, store.seal(record(document)))
            count += 1
    print(f"{count} records")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
