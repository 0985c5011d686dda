"""Build the wheel and install it the ways people do: pip, pipx, uv tool and uvx. What is installed must answer, and
what an extra lacks must be had by typing what the refusal says.

    python scripts/try_installs.py [--get-tools] [--only pip]

Tools that are not on PATH are left out and named, or with --get-tools installed into a folder of their own. Needs a
package index. Exits with 1 when a way fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUESTION = ("check", "gpt-oss-20b", "--gpu", "RTX 4070", "--ram", "32GB")
ANSWERED = (0, 3, 4)
REFUSED = 2


class FailedError(Exception):
    """A way that does not work, with what was seen."""


def run(
    words: list[str | Path],
    *,
    codes: tuple[int, ...] = (0,),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Both streams of a command. Raises FailedError for an exit code that is none of ``codes``."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    if done.returncode not in codes:
        raise FailedError(
            f"{shlex.join(map(str, words))} ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}"
        )
    return done.stdout + done.stderr


def wheel(place: Path) -> Path:
    """The wheel of this folder, built in isolation."""
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, ROOT])
    (found,) = place.glob("*.whl")
    return found


def tools(place: Path) -> Path:
    """A folder of programs with pipx and uv."""
    venv.create(place, with_pip=True)
    run([place / "bin/python", "-m", "pip", "install", "--quiet", "pipx", "uv"])
    return place / "bin"


def answers(fitcheck: list[str | Path], place: Path, env: Mapping[str, str] | None = None) -> None:
    """It says its version, answers, and refuses what an extra lacks. Raises FailedError."""
    if not run([*fitcheck, "--version"], env=env, cwd=place).startswith("fitcheck "):
        raise FailedError("--version does not say the version")
    if "gpt-oss 20B" not in run([*fitcheck, *QUESTION], codes=ANSWERED, env=env, cwd=place):
        raise FailedError("a check does not answer")
    refused = run([*fitcheck, "mcp"], codes=(REFUSED,), env=env, cwd=place)
    if "install fitcheck's extra 'mcp'" not in refused or "'mcp" not in refused:
        raise FailedError(f"a missing extra is not named by its libraries: {refused}")


def pip(built: Path, place: Path, _: Path) -> None:
    """Into a virtual environment; the extra for --html as the refusal says."""
    venv.create(place / "env", with_pip=True)
    programs = place / "env/bin"
    run([programs / "python", "-m", "pip", "install", "--quiet", built])
    answers([programs / "fitcheck"], place)
    page: list[str | Path] = [programs / "fitcheck", *QUESTION, "--html", place / "page.html"]
    refused = run(page, codes=(REFUSED,), cwd=place)
    said = re.search(r"pip install ((?:'[^']+' ?)+)", refused)
    if said is None:
        raise FailedError(f"the refusal does not say what to install: {refused}")
    run([programs / "python", "-m", "pip", "install", "--quiet", *shlex.split(said[1])])
    run(page, codes=ANSWERED, cwd=place)
    if "<html" not in (place / "page.html").read_text("utf-8"):
        raise FailedError("--html wrote no page")


def pipx(built: Path, place: Path, programs: Path) -> None:
    """``pipx install``."""
    env = {"PIPX_HOME": str(place / "home"), "PIPX_BIN_DIR": str(place / "bin"), "PIPX_MAN_DIR": str(place / "man")}
    run([programs / "pipx", "install", built], env=env)
    answers([place / "bin/fitcheck"], place, env)
    refused = run([place / "bin/fitcheck", "mcp"], codes=(REFUSED,), env=env, cwd=place)
    if "pipx inject fitcheck-vram" not in refused:
        raise FailedError(f"the refusal does not say how pipx adds it: {refused}")


def uv_tool(built: Path, place: Path, programs: Path) -> None:
    """``uv tool install``."""
    env = {"UV_TOOL_DIR": str(place / "tools"), "UV_TOOL_BIN_DIR": str(place / "bin")}
    run([programs / "uv", "tool", "install", "--python", sys.executable, built], env=env)
    answers([place / "bin/fitcheck"], place, env)


def uvx(built: Path, place: Path, programs: Path) -> None:
    """``uvx --from WHEEL fitcheck``, which leaves nothing installed."""
    answers([programs / "uvx", "--python", sys.executable, "--from", built, "fitcheck"], place)


WAYS: dict[str, tuple[str | None, Callable[[Path, Path, Path], None]]] = {
    "pip": (None, pip),
    "pipx": ("pipx", pipx),
    "uv tool": ("uv", uv_tool),
    "uvx": ("uvx", uvx),
}


def main() -> int:
    """Try every way that can be tried; one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--get-tools", action="store_true", help="install pipx and uv into a folder of their own")
    parser.add_argument("--only", choices=WAYS, action="append", help="this way alone; repeatable")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fitcheck-installs-") as folder:
        place = Path(folder)
        (place / "wheel").mkdir()
        built = wheel(place / "wheel")
        print(f"{built.name}: {built.stat().st_size / 1e6:.1f} MB")
        got = tools(place / "got") if options.get_tools else None
        for name in options.only or WAYS:
            program, way = WAYS[name]
            found = shutil.which(program, path=None if got is None else str(got)) if program else sys.executable
            if found is None:
                print(f"{name:8} not tried: {program} is not on PATH (--get-tools brings it)")
                continue
            own = place / name.replace(" ", "-")
            own.mkdir()
            start = time.perf_counter()
            try:
                way(built, own, Path(found).parent)
            except FailedError as problem:
                failed += 1
                print(f"{name:8} FAILED: {problem}")
            else:
                print(f"{name:8} installs and answers, {time.perf_counter() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
