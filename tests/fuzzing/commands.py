"""Every command on hostile records and files: ``python tests/fuzzing/commands.py [--cases 1000]``.

Each command runs in a process of its own, forked from one that has everything imported. It has to end with an exit code
from 0 to 5 within ten seconds of processor time, without a traceback or a letter that a terminal would act on, and a
refusal (2) is one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fuzzing")]

from model_readers import (
    claimed,
    config_case,
    gguf_case,
    lay_config,
    lay_pipeline,
    pipeline_case,
    safetensors_case,
    sparse,
)
from readers import import_case, prices_case, record_case

from fitcheck.cli.main import COMMANDS, application, main
from fitcheck.records.store import record_files

SECONDS, PATIENCE = 10.0, 180
# duckdb maps more than it uses
ROOM = 4 << 30
GPU = ("--gpu", "RTX 4070", "--ram", "32GB", "--headless")
LINE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``seconds`` of processor time, ``code`` of ``None`` when it had to be killed."""

    code: int | None
    out: str
    err: str
    seconds: float

    def problems(self) -> list[str]:
        """What is wrong with it."""
        found = []
        if self.code not in range(6):
            found.append(f"exit code {self.code}")
        if self.seconds > SECONDS:
            found.append(f"{self.seconds:.1f} s")
        if "Traceback" in self.out + self.err:
            found.append("a traceback")
        if self.code == 2 and self.err.count("\n") != 1:
            found.append(f"{self.err.count(chr(10))} lines on stderr")
        odd = [letter for letter in self.out + self.err if not letter.isprintable() and letter not in "\n\t"]
        if odd:
            found.append(f"{odd[0]!r} reaches the terminal")
        return found


def command(words: list[str], folder: Path, environment: dict[str, str]) -> Ended:
    """Runs ``fitcheck WORDS`` in ``folder``."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _child(words, folder, environment, out.fileno(), err.fileno())
        end, gone = time.monotonic() + PATIENCE, 0
        while not gone and time.monotonic() < end:
            gone, status, usage = os.wait4(child, os.WNOHANG)
            time.sleep(0.005)
        if not gone:
            os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
        out.seek(0)
        err.seek(0)
        texts = (out.read().decode("utf-8", "replace"), err.read().decode("utf-8", "replace"))
        code = os.waitstatus_to_exitcode(status) if gone else None
        return Ended(code, *texts, usage.ru_utime + usage.ru_stime)


def _child(words: list[str], folder: Path, environment: dict[str, str], out: int, err: int) -> None:
    os.setsid()
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    code = 1
    try:
        os.chdir(folder)
        os.environ.update(environment)
        sys.argv = ["fitcheck", *words]
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# ---- what they are run on


def record_tree(chance: random.Random, root: Path, count: int) -> list[Path]:
    """Damaged records, each where it says that it belongs when that is a name a folder can have."""
    import json

    made = []
    for number in range(count):
        content = record_case(chance)
        try:
            document = json.loads(content)
            names = [document["card"]["slug"], document["model"]["slug"], document["id"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            names = []
        sound = all(isinstance(name, str) and LINE.fullmatch(name) for name in names)
        place = "/".join(names) if names and sound else f"h100-sxm5-80gb/sensenova-u1-8b-mot/{number:064x}"
        path = root / f"{place}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        made.append(path)
    return made


def on_records(chance: random.Random, folder: Path, count: int, site: bool) -> Iterator[list[str]]:
    """The commands that read a tree of ``count`` records."""
    files = record_tree(chance, folder / "results", count)
    names = [str(path) for path in files]
    yield ["validate", "results"]
    yield ["validate", "--json", "results"]
    for form in ([], ["--csv"], ["--json"]):
        yield ["results", "list", *form, "--from", "results"]
        yield ["results", "query", *form, "--from", "results", "SELECT * EXCLUDE (document) FROM records"]
    yield ["results", "show", files[0].stem, "--from", "results"]
    yield ["results", "compact", "all.parquet", "--from", "results"]
    yield ["results", "list", "--from", "all.parquet"]
    yield ["accuracy", "--results", "results"]
    yield ["submit", *names[:5], "--to", ".", "--dry-run"]
    yield ["submit", names[-1], "--to", "."]
    yield ["regress", "compare", "--baseline", names[0], "--candidate", names[1]]
    yield ["regress", "compare", names[0], names[1]]
    yield ["regress", "history", "--from", "results"]
    yield ["regress", "watch", "--against", "results", *names[:2]]
    yield ["check", "sensenova-u1-8b-mot", "--gpu", "H100 SXM", "--ram", "64GB"]
    yield ["explain", "sensenova-u1-8b-mot", "--gpu", "H100 SXM", "--ram", "64GB"]
    yield ["compare", "sensenova-u1-8b-mot", "--gpu", "H100 SXM", "--gpu", "RTX 4090"]
    yield ["plan", "sensenova-u1-8b-mot"]
    yield ["runs", "--gpu", "H100 SXM", "--ram", "64GB", "--most", "3", "--for", "image"]
    if site:
        build = [
            "site",
            "build",
            "--out",
            "site",
            "--results",
            "results",
            "--cards",
            "H100 SXM",
            "--jobs",
            "1",
            "--models",
            "sensenova-u1-8b-mot",
        ]
        yield build
        yield [*build, "--check"]


def on_model(target: str) -> Iterator[list[str]]:
    """The commands that take a file or folder of a model."""
    yield ["check", target, *GPU]
    yield ["check", target, *GPU, "--json"]
    yield ["inspect", target]
    yield ["explain", target, *GPU]
    yield ["compare", target, "--gpu", "RTX 4070", "--gpu", "RTX 4090", "--ram", "32GB"]
    yield ["plan", target]
    yield ["cards", "--fits", target]
    yield ["bench", "run", target, "--out", "own", "--dry-run"]


def on_file(chance: random.Random, folder: Path) -> Iterator[list[str]]:
    """One hostile file or folder, and a command or two that take such a thing."""
    kind = chance.choice(["gguf"] * 5 + ["safetensors"] * 4 + ["config"] * 3 + ["pipeline"] * 4 + ["lora"] * 2
                         + ["import"] * 3 + ["prices"] * 2)  # fmt: skip
    if kind == "gguf":
        sparse(folder / "m.gguf", gguf_case(chance), 1 << 20)
        words = list(on_model("m.gguf"))
    elif kind == "safetensors":
        data = safetensors_case(chance)
        sparse(folder / "m.safetensors", data, claimed(data))
        words = list(on_model("m.safetensors"))
    elif kind in ("config", "pipeline"):
        (folder / "m").mkdir()
        try:  # lays the folder out; what comes of reading it is the commands' to say
            (lay_config if kind == "config" else lay_pipeline)(
                config_case(chance) if kind == "config" else pipeline_case(chance), folder / "m"
            )
        except UnicodeError:
            (folder / "m" / "config.json").write_bytes(b"\xff")
        words = list(on_model("m"))
    elif kind == "lora":
        data = safetensors_case(chance)
        sparse(folder / "l.safetensors", data, claimed(data))
        words = [["check", "flux.1-dev", *GPU, "--lora", "l.safetensors"],
                 ["check", "sd1.5", *GPU, "--lora", "l.safetensors"]]  # fmt: skip
    elif kind == "import":
        (folder / "said.txt").write_bytes(import_case(chance))
        tools = ("llama-bench", "sensenova-profile", "optimum-benchmark")
        words = [
            ["import", tool, "said.txt", "--model", "m", "--tier", "Q4_K_M", "--card", "RTX 4070"] for tool in tools
        ]
    else:
        (folder / "prices.csv").write_bytes(prices_case(chance))
        words = [["cards", "--prices", "prices.csv"], ["plan", "qwen3-8b", "--prices", "prices.csv"],
                 ["compare", "qwen3-8b", "--gpu", "RTX 4070", "--gpu", "RTX 4090", "--prices", "prices.csv"],
                 ["runs", *GPU, "--prices", "prices.csv"]]  # fmt: skip
    yield from chance.sample(words, min(2, len(words)))


def attempts(cases: int, seed: int, trees: int) -> Iterator[tuple[list[str], Ended]]:
    """Commands on so many records and files, half and half."""
    each = 25
    for number in range(trees):
        with tempfile.TemporaryDirectory(prefix="commands-") as name:
            folder, chance = Path(name), random.Random(f"{seed} tree {number}")
            environment = {"FITCHECK_RECORDS": f"{name}/results", "FITCHECK_CACHE": f"{name}/cache"}
            for words in on_records(chance, folder, each, site=number % 4 == 0):
                yield words, command(words, folder, environment)
    for number in range(cases - each * trees):
        with tempfile.TemporaryDirectory(prefix="commands-") as name:
            folder, chance = Path(name), random.Random(f"{seed} file {number}")
            environment = {"FITCHECK_RECORDS": f"{name}/own", "FITCHECK_CACHE": f"{name}/cache"}
            for words in on_file(chance, folder):
                yield words, command(words, folder, environment)


def warm() -> None:
    """Imports what the commands need, once."""
    for name in COMMANDS:
        application((name,))
    list(record_files(ROOT / "results"))
    os.environ |= {"NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}


def survey() -> int:
    """1 when a command did not end well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warm()
    codes: Counter[tuple[str, int | None]] = Counter()
    slowest: dict[str, float] = {}
    bad = 0
    for words, ended in attempts(given.cases, given.seed, given.cases // 50):
        name = " ".join(words[: 2 if words[0] in ("results", "regress", "site", "bench") else 1])
        codes[name, ended.code] += 1
        slowest[name] = max(slowest.get(name, 0.0), ended.seconds)
        problems = ended.problems()
        if problems:
            bad += 1
            print(f"!! fitcheck {' '.join(words)[:200]}: {'; '.join(problems)}\n   {ended.err[-700:]}", flush=True)
    for name in sorted(slowest):
        ends = ", ".join(f"{count}x{code}" for (one, code), count in sorted(codes.items(), key=str) if one == name)
        print(f"{name:18} {ends}; slowest {slowest[name]:.1f} s")
    print(f"{sum(codes.values())} commands on {given.cases} records and files, {bad} ended badly")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(survey())
