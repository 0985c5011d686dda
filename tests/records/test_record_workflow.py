"""The pull request check and the issue form: least privilege, pinned actions, data never run as code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKFLOW = (ROOT / ".github" / "workflows" / "results.yml").read_text("utf-8")


def test_every_action_is_pinned_to_a_commit() -> None:
    uses = re.findall(r"uses:\s*(\S+)", WORKFLOW)
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", use) for use in uses)


def test_the_token_can_only_read_and_is_not_left_behind() -> None:
    assert re.findall(r"permissions:\n((?:  .*\n)+)", WORKFLOW) == ["  contents: read\n"]
    assert "pull_request_target" not in WORKFLOW
    assert "secrets." not in WORKFLOW
    assert WORKFLOW.count("actions/checkout@") == WORKFLOW.count("persist-credentials: false")


def test_the_code_is_the_base_branch_and_nothing_of_the_pull_request_enters_a_shell() -> None:
    assert re.findall(r"pip install (\S+)", WORKFLOW) == ["./base"]
    scripts = re.findall(r"run: (?:\|\n((?:          .*\n)+)|(.*)\n)", WORKFLOW)
    assert len(scripts) == 3
    assert not any("${{" in part for script in scripts for part in script)


def test_documents_name_commands_that_exist() -> None:
    text = (ROOT / "docs" / "submitting-results.md").read_text("utf-8") + (ROOT / "results" / "README.md").read_text(
        "utf-8"
    )
    modules = {"validate": "validate", "submit": "submit", "import": "import_", "results": "results"}
    for command, module in modules.items():
        source = (ROOT / "fitcheck" / "cli" / f"{module}.py").read_text("utf-8")
        used = re.findall(rf"fitcheck {command} ([^\n`|]*)", text)
        assert used, command
        for option in {option for line in used for option in re.findall(r"--[a-z-]+", line)}:
            name = option.removeprefix("--").replace("-", "_")
            assert f'"{option}"' in source or re.search(rf"^        {name}: ", source, re.MULTILINE), (
                f"{command} {option}"
            )


def test_what_the_documents_name_is_there() -> None:
    for name in ("scripts/pack_results.py", "scripts/export_schema.py", "results/schema/record-v1.json"):
        assert (ROOT / name).is_file()
    assert "dry-run" in (ROOT / ".github" / "ISSUE_TEMPLATE" / "result.yml").read_text("utf-8")
