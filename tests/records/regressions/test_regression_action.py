"""The composite action and its example: no text of a workflow inside a script, nothing unpinned, least permissions."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ACTION = (ROOT / "actions" / "regress" / "action.yml").read_text("utf-8")
EXAMPLE = (ROOT / "docs" / "examples" / "regress.yml").read_text("utf-8")


def test_scripts_take_inputs_from_the_environment_only() -> None:
    scripts = re.findall(r"run: \|\n((?: {8}.*\n?)+)", ACTION)
    assert len(scripts) == 2
    assert not any("${{" in script for script in scripts)


def test_other_actions_are_pinned_by_their_hash() -> None:
    used = re.findall(r"uses: (\S+)", ACTION + EXAMPLE)
    assert used == [
        "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683",
        "OWNER/fitcheck/actions/regress@COMMIT",
    ]


def test_the_example_may_only_read() -> None:
    assert re.findall(r"permissions:\n((?: {2}.*\n)+)", EXAMPLE) == ["  contents: read\n"]
    assert "pull_request" not in EXAMPLE
