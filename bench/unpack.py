"""Files the records of a series, one file each: ``python -m bench.unpack RECORDS.jsonl FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from fitcheck.errors import InputError, RecordError
from fitcheck.records import store
from fitcheck.records.reading import parse
from fitcheck.units import MIB

LARGEST = 256 * MIB


def unpack(source: Path, folder: Path) -> list[Path]:
    """Writes every record of ``source``, a record a line, under ``folder``; one that is there already is left alone.

    Raises InputError for a line that is no record, and for records of the scaled-down model, which measure nothing.
    """
    try:
        if source.stat().st_size > LARGEST:
            raise RecordError(f"{source}: larger than {LARGEST // MIB} MiB; this is not the output of a series.")
        lines = [line for line in source.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise RecordError(f"{source}: cannot be read ({error.strerror}).") from error
    records = [parse(line, f"{source}:{number}").record for number, line in enumerate(lines, 1)]
    if any("tiny" in (record.tags or ()) for record in records):
        raise RecordError(f"{source}: holds records of the scaled-down model; they measure nothing about a card.")
    return [store.write(folder, record) for record in records]


if __name__ == "__main__":
    try:
        print(f"{len(unpack(Path(sys.argv[1]), Path(sys.argv[2])))} records")
    except (InputError, IndexError) as error:
        print(error if isinstance(error, InputError) else __doc__, file=sys.stderr)
        sys.exit(2)
