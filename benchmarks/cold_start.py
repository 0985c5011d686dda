"""How long a person waits: `fitcheck check` from a cold process, again and again.

    python benchmarks/cold_start.py [--runs 20] [--gguf FILE] [--json]

Wall time of whole processes, interpreter start included, in turns with `python -c 'import typer, rich, pydantic'`, what
any program on these libraries pays: a ratio of the two says the same on a slow machine as on a fast one. Bars: 5 times
for a catalog model, 6 times for a GGUF file; exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

LIBRARIES = "import typer, rich, pydantic"
MODEL = "sensenova-u1-8b-mot"
BARS = {"catalog model": 5.0, "GGUF file": 6.0}


def seconds(command: list[str], environment: dict[str, str], marks: str = "") -> float:
    """Wall seconds of one process. Raises RuntimeError when its answer lacks ``marks``."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    wall = time.perf_counter() - start
    if done.returncode not in (0, 3, 4, 5) or marks not in done.stdout:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return wall


def medians(commands: dict[str, tuple[list[str], str]], runs: int) -> dict[str, float]:
    """Median wall seconds of each command, all in turns so that what else runs slows them alike."""
    with tempfile.TemporaryDirectory() as folder:
        # compiled modules as an installation has them, whatever the environment says about writing them
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        for command, marks in commands.values():
            seconds(command, environment, marks)
        walls: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, (command, marks) in commands.items():
                walls[name].append(seconds(command, environment, marks))
    return {name: statistics.median(times) for name, times in walls.items()}


def main() -> int:
    """The command line. Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--gguf", help="a GGUF file to ask about too")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    options = parser.parse_args()

    asks = [sys.executable, "-c", "from fitcheck.cli.main import main; main()", "check"]
    commands = {"libraries": ([sys.executable, "-c", LIBRARIES], "")}
    commands["catalog model"] = ([*asks, MODEL, "--gpu", "RTX 4070"], "RTX 4070")
    if options.gguf:
        commands["GGUF file"] = ([*asks, options.gguf, "--gpu", "RTX 4070"], "RTX 4070")
    found = medians(commands, options.runs)
    ratios = {name: found[name] / found["libraries"] for name in BARS if name in found}
    result = {f"{name}, median seconds": round(wall, 3) for name, wall in found.items()}
    result |= {f"{name}, times the libraries": round(ratio, 2) for name, ratio in ratios.items()}
    result |= {"runs": options.runs, "load": round(os.getloadavg()[0], 2)}
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:36} {value}")
    missed = [name for name, ratio in ratios.items() if ratio > BARS[name]]
    for name in missed:
        print(f"the bar of {BARS[name]:g} times is missed: {name}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
