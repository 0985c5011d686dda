"""Write the JSON Schema of records to results/schema/. Run after any change of fitcheck/records/schema.py."""

from __future__ import annotations

from pathlib import Path

from fitcheck.records import export


def main() -> None:
    folder = Path(__file__).parents[1] / "results" / "schema"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / export.FILE_NAME).write_bytes(export.json_schema())
    print(folder / export.FILE_NAME)


if __name__ == "__main__":
    main()
