"""Records of raw rows of one card: ``PYTHONPATH=. python benchmarks/llamacpp_h100/filed.py ROWS.jsonl COMMIT FOLDER``.

The importer makes them of llama-bench's own lines; driver, buffers of the largest context and memory are added from
the same line. COMMIT is what was built, which a build without git does not print.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.engines.llamacpp.log import parse_log
from fitcheck.records import store
from fitcheck.records.importers.common import Given
from fitcheck.records.schema import ADAPTER, AnyRecord
from fitcheck.runtimes.llamacpp import llama_bench
from fitcheck.units import MIB

CARD = {"driver": "580.159.04", "memory": 85520809984, "pci_id": "10de:2330", "compute_capability": "9.0"}
MACHINE = {"os": "linux", "os_version": "ubuntu 24.04", "virtualised": "yes"}
HIDDEN = "CPU alone: a build with CUDA whose card was hidden (CUDA_VISIBLE_DEVICES is empty)"
_NOW_KNOWN = ("card.memory", "card.pci_id", "card.driver", "machine.os", "memory", "buffers")


def records(line: dict[str, Any], commit: str) -> list[AnyRecord]:
    """The records of one raw line; none of a run that failed."""
    config, alone = line["config"], (line["config"].get("env") or {}).get("CUDA_VISIBLE_DEVICES") == ""
    rows = [{**row, "build_commit": commit, **({"backends": "CPU"} if alone else {})} for row in line["rows"]]
    if line["rc"] or not rows:
        return []
    given = Given(file_time=0, model=config["model"], tier=config["tier"], weights="synthetic")
    content = b"\n".join(json.dumps(row).encode() for row in rows)
    return [_with(store.document_of(one.record), line, alone) for one in llama_bench.read(content, "rows", given)]


def _with(document: dict[str, Any], line: dict[str, Any], alone: bool) -> AnyRecord:
    memory = {"rss": line["memory"]["rss"]}
    if not alone:
        document["card"] |= CARD
        memory |= {"process": line["memory"]["process0"], "device": line["memory"]["device0"],
                   "device_before": line["before"]["device0"]}  # fmt: skip
    missing = [name for name in document["source"].get("missing", ()) if name not in _NOW_KNOWN]
    return ADAPTER.validate_json(
        json.dumps({
            **{name: value for name, value in document.items() if name != "id"},
            "machine": document["machine"] | MACHINE,
            "memory": memory,
            "buffers": _buffers(line["log"]),
            "source": document["source"] | {"missing": missing},
            **({"notes": HIDDEN} if alone else {}),
        })
    )  # fmt: skip


def _buffers(log: list[str]) -> list[dict[str, Any]]:
    largest = max(parse_log("\n".join(log)), key=lambda context: (context.tokens, context.total("compute")))
    return [{"kind": one.kind, "device": one.device, "bytes": round(one.size * MIB)} for one in largest.buffers]


def main(rows: Path, commit: str, folder: Path) -> None:
    """Writes every record under the folder."""
    made = [record for line in rows.read_text("utf-8").splitlines() for record in records(json.loads(line), commit)]
    for record in made:
        store.write(folder, store.seal(record))
    print(f"{len(made)} records")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
