"""What the base install puts on a disk: `pip install .` into a fresh virtual environment.

    python benchmarks/install_size.py [--json]

Bars: no torch, 600 MB with Python's own files of the environment, and a check that answers in there. Exits with 1 when
one is missed. Needs a package index.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

BAR = 600e6
HEAVY = ("torch", "diffusers", "transformers", "pandas", "scipy", "duckdb", "matplotlib")


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place, with_pip=True)
        empty = size_of(place)
        programs = place / "bin"
        start = time.perf_counter()
        install: list[str | Path] = [
            programs / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*install, Path(__file__).parents[1]], check=True)
        took = time.perf_counter() - start
        packages = [found.name for found in place.glob("lib/python*/site-packages/*") if found.is_dir()]
        heavy = [name for name in HEAVY if name in packages]
        question: list[str | Path] = [programs / "fitcheck", "check", "sensenova-u1-8b-mot", "--gpu", "RTX 4070"]
        answered = subprocess.run(question, capture_output=True, cwd=place, check=False).returncode in (0, 3, 4, 5)
        whole = size_of(place)
        result = {
            "MB in all": round(whole / 1e6, 1),
            "MB beside an empty environment": round((whole - empty) / 1e6, 1),
            "packages": sum(name.endswith(".dist-info") for name in packages) - 2,  # pip and setuptools were there
            "heavy packages": heavy,
            "a check answers": answered,
            "install seconds": round(took, 1),
        }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:32} {value}")
    missed = bool(heavy) or not answered or whole > BAR
    if missed:
        print(f"a bar is missed: no heavy packages, {BAR / 1e6:.0f} MB, a check that answers", file=sys.stderr)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
