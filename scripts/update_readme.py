"""Puts the true output of its commands into README.md, between the markers that name them.

    python scripts/update_readme.py          # rewrites README.md
    python scripts/update_readme.py --check  # writes nothing, ends with 1 when README.md is not current

A marker is ``<!-- output of: fitcheck … -->``; everything up to ``<!-- end of output -->`` is what the command prints
to stdout, as a code block or, with ``--markdown``, as it is.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
ANSWERS = (0, 3, 4, 5)  # fits, tight, no, unknown
_BLOCK = re.compile(r"(<!-- output of: fitcheck (?P<words>[^\n]*?) -->\n).*?(<!-- end of output -->)", re.DOTALL)


def output_of(words: str) -> str:
    """What ``fitcheck WORDS`` prints. Raises RuntimeError when it gives no answer."""
    code = "from fitcheck.cli.main import main; main()"
    command = [sys.executable, "-c", code, *shlex.split(words)]
    environment = os.environ | {"NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    if done.returncode not in ANSWERS:
        raise RuntimeError(f"fitcheck {words} ended with {done.returncode}: {done.stderr.strip()}")
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def current(text: str) -> str:
    """``text`` with every marked output made anew."""

    def block(found: re.Match[str]) -> str:
        words = found["words"]
        printed = output_of(words)
        shown = f"\n{printed}\n\n" if "--markdown" in words else f"```text\n$ fitcheck {words}\n{printed}\n```\n"
        return found[1] + shown + found[3]

    return _BLOCK.sub(block, text)


def main() -> int:
    text = README.read_text("utf-8")
    made = current(text)
    if "--check" in sys.argv[1:]:
        if made != text:
            print("README.md is not current; run: python scripts/update_readme.py", file=sys.stderr)
        return int(made != text)
    README.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
