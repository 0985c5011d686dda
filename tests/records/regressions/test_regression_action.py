"""The composite action and its example: parsed and carried out, no text of a workflow inside a script, nothing
unpinned, least permissions."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = [ROOT / "docs" / "examples" / "regress.yml", *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
# what a workflow can say of itself without a secret: github.event alone is what a stranger wrote
CONTEXTS = ("inputs", "steps", "matrix", "vars", "github.ref", "github.event.pull_request.")


def load(path: Path) -> Any:
    # YAML 1.1 reads the key `on` as true
    return yaml.safe_load(path.read_text("utf-8").replace("\non:", '\n"on":'))


ACTION = load(ROOT / "actions" / "regress" / "action.yml")


def steps(document: Any) -> list[dict[str, Any]]:
    jobs = document.get("jobs", {"action": document.get("runs", {})})
    return [step for job in jobs.values() for step in job["steps"]]


def test_the_action_is_composite_and_states_what_it_takes_and_gives() -> None:
    assert set(ACTION) == {"name", "description", "inputs", "outputs", "runs"}
    assert ACTION["runs"]["using"] == "composite"
    for name, one in ACTION["inputs"].items():
        assert one["description"], name
        assert ("default" in one) is not one.get("required", False), name
    named = {step.get("id") for step in steps(ACTION)}
    for one in ACTION["outputs"].values():
        assert re.fullmatch(r"\$\{\{ steps\.(\w+)\.outputs\.\w+ \}\}", one["value"])[1] in named  # type: ignore[index]
    used = set(re.findall(r"inputs\.(\w+)", json.dumps(ACTION["runs"])))
    assert used == set(ACTION["inputs"])


def test_every_script_has_a_shell_is_sound_and_takes_values_from_the_environment_only() -> None:
    scripts = [step for step in steps(ACTION) if "run" in step]
    assert len(scripts) == 2
    for step in scripts:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
        assert subprocess.run(["bash", "-n"], input=step["run"], text=True, check=False).returncode == 0
        for name in re.findall(r"\$\{?([A-Z]+)\b", step["run"]):
            assert name in step["env"], name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_only_read_and_use_nothing_unpinned(path: Path) -> None:
    """The one that publishes the site writes its branch, from what is on the main branch alone."""
    workflow = load(path)
    publishes = path.name == "pages.yml"
    assert workflow["permissions"] == {"contents": "read"}
    assert not publishes or set(workflow["on"]) == {"push", "workflow_dispatch"}
    for name, job in workflow["jobs"].items():
        may = {"contents": "write"} if publishes else {"contents": "read"}
        assert job.get("permissions", may) == may, name
        assert job["timeout-minutes"] <= 120, name
    for step in steps(workflow):
        assert ("run" in step) is not ("uses" in step)
        if "uses" in step:
            placeholder = step["uses"] == "OWNER/fitcheck/actions/regress@COMMIT" and path == WORKFLOWS[0]
            assert placeholder or PINNED.fullmatch(step["uses"]), step["uses"]
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", "")
    text = path.read_text("utf-8").replace("${{ secrets.GITHUB_TOKEN }}", "") if publishes else path.read_text("utf-8")
    assert "secrets." not in text
    assert "pull_request_target" not in text
    for expression in re.findall(r"\$\{\{\s*([^}]+?)\s*\}\}", text):
        assert expression.startswith(CONTEXTS), expression


def test_the_example_runs_on_own_branches_alone_and_hands_over_what_the_action_takes() -> None:
    example = load(WORKFLOWS[0])
    assert set(example["on"]) == {"push"}
    (step,) = [step for step in steps(example) if "regress" in step.get("uses", "")]
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert {name for name, one in ACTION["inputs"].items() if one.get("required")} <= set(step["with"])


FAKE = """#!/bin/bash
printf '%s\\n' "$@" > "$RUNNER_TEMP/arguments"
echo '{"regression": true}'
exit "$CODE"
"""


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_comparison_is_carried_out_and_its_exit_code_is_the_steps(tmp_path: Path, code: int) -> None:
    program = tmp_path / "fitcheck" / "bin" / "fitcheck"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE, "utf-8")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    step = next(step for step in steps(ACTION) if step.get("id") == "watch")
    given = {"NEW": "new $(touch owned)", "AGAINST": "old; touch owned", "EFFECT": "3", "KEPT": "pins.toml"}
    assert set(given) == set(step["env"])
    files = {"RUNNER_TEMP": tmp_path, "GITHUB_OUTPUT": tmp_path / "output", "GITHUB_STEP_SUMMARY": tmp_path / "summary"}
    environment = os.environ | given | {name: str(path) for name, path in files.items()} | {"CODE": str(code)}
    # as runners start it
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    assert subprocess.run(command, env=environment, cwd=tmp_path, check=False).returncode == code
    assert (tmp_path / "arguments").read_text("utf-8").splitlines() == [
        *("regress", "watch", "--against", "old; touch owned", "--effect", "3", "--json"),
        *("--summary", str(tmp_path / "summary"), "--kept", "pins.toml", "--", "new $(touch owned)"),
    ]
    out = (tmp_path / "output").read_text("utf-8").strip().removeprefix("json=")
    assert json.loads(Path(out).read_bytes()) == {"regression": True}
    assert not (tmp_path / "owned").exists()
