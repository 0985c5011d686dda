"""How long a person waits: whole commands from a cold process, again and again.

    python benchmarks/cold_start.py [--runs 10] [--gguf FILE] [--only WORDS] [--json]

CPU seconds (user and system) of whole processes, interpreter start included, in turns with `python -c 'import typer,
rich, pydantic'`, what any program on these libraries pays. Modules are compiled before, as in an installed wheel,
whatever PYTHONDONTWRITEBYTECODE says: without bytecode every command takes 0.3 s more. The least of the runs counts,
which other programs disturbed least; the libraries' own figure says how fast the machine is (0.14 s where the bars were
set). Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

LIBRARIES = "import typer, rich, pydantic"
# seconds, command line, what its answer holds
BARS = {
    "language model": (0.35, ["check", "llama-3.1-8b", "--gpu", "RTX 4070"], "RTX 4070"),
    "mixture of experts": (0.35, ["check", "qwen3-30b-a3b", "--gpu", "RTX 4070"], "RTX 4070"),
    "SenseNova": (0.35, ["check", "sensenova-u1-8b-mot", "--gpu", "RTX 4070"], "RTX 4070"),
    "image pipeline": (0.4, ["check", "flux.1-dev", "--gpu", "RTX 4070"], "RTX 4070"),
    "video pipeline": (0.4, ["check", "wan2.2-t2v-a14b", "--gpu", "RTX 3090"], "RTX 3090"),
    "what runs": (1.0, ["runs", "--gpu", "RTX 4070"], "chat"),
    "what to buy": (2.0, ["plan", "llama-3.1-8b"], "RTX"),
}
GGUF_BAR = 0.42


def seconds(command: list[str], environment: dict[str, str], marks: str = "") -> float:
    """CPU seconds of one process. Raises RuntimeError when its answer lacks ``marks``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3, 4, 5) or marks not in done.stdout:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(commands: dict[str, tuple[list[str], str]], runs: int) -> dict[str, list[float]]:
    """CPU seconds of each command, all in turns so that what else runs slows them alike."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        for command, marks in commands.values():  # which compiles the modules
            seconds(command, environment, marks)
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, (command, marks) in commands.items():
                found[name].append(seconds(command, environment, marks))
    return found


def main() -> int:
    """The command line. Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--gguf", help="a GGUF file to ask about too")
    parser.add_argument("--only", help="only what has these words in its name, like 'pipeline'")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    options = parser.parse_args()

    bars = dict(BARS)
    if options.gguf:
        bars["GGUF file"] = (GGUF_BAR, ["check", options.gguf, "--gpu", "RTX 4070"], "RTX 4070")
    asked = {name: bar for name, bar in bars.items() if not options.only or options.only in name}
    program = [sys.executable, "-c", "from fitcheck.cli.main import main; main()"]
    commands = {"libraries": ([sys.executable, "-c", LIBRARIES], "")}
    commands |= {name: ([*program, *words], marks) for name, (_, words, marks) in asked.items()}
    found = measured(commands, options.runs)
    result = {
        name: {
            "least": round(min(times), 3),
            "median": round(statistics.median(times), 3),
            "bar": asked[name][0] if name in asked else None,
        }
        for name, times in found.items()
    }
    if options.json:
        print(json.dumps({"cpu_seconds": result, "runs": options.runs, "load": os.getloadavg()[0]}, indent=2))
    else:
        for name, row in result.items():
            bar = "" if row["bar"] is None else f"  bar {row['bar']:g} s"
            print(f"{name:20} {row['least']:.3f} s  (median {row['median']:.3f} s){bar}")
        print(f"CPU seconds with compiled modules, {options.runs} runs, load {os.getloadavg()[0]:.1f}")
    missed = [name for name, row in result.items() if row["bar"] is not None and (row["least"] or 0) > row["bar"]]
    for name in missed:
        print(f"the bar of {asked[name][0]:g} s is missed: {name}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
