"""``fitcheck mcp`` speaks the protocol: a client in another process initializes, lists the tools and calls each."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import fitcheck
from fitcheck.cli.mcp import server
from fitcheck.errors import MissingExtraError

ROOT = Path(__file__).parents[2]


def talk(say: Callable[[Any], Awaitable[Any]], *words: str) -> Any:
    """What ``say`` makes of a session with the server as a process."""
    mcp = pytest.importorskip("mcp", reason="fitcheck's extra mcp is not installed")

    async def run() -> Any:
        place = mcp.StdioServerParameters(
            command=sys.executable,
            args=["-m", "fitcheck", "mcp", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        async with mcp.stdio_client(place) as (read, write), mcp.ClientSession(read, write) as session:
            started = await session.initialize()
            assert started.server_info.name == "fitcheck"
            assert started.server_info.version == fitcheck.__version__
            return await say(session)

    return asyncio.run(run())


QUESTIONS: dict[str, dict[str, Any]] = {
    "check": {
        "target": "llama-3.1-8b",
        "gpu": ["RTX 4070"],
        "ram": "32GB",
        "tier": ["Q4_K_M"],
        "options": {"ctx": 4096},
    },
    "runs": {"gpu": ["RTX 3060 12 GB"], "ram": "32GB", "purpose": ["code"], "most": 1},
    "plan": {"target": "gpt-oss-20b", "have": ["RTX 3060 12 GB"], "ram": "16GB", "tier": ["MXFP4"], "budget": 400},
    "compare": {"targets": ["gpt-oss-20b"], "gpus": ["RTX 4070", "RX 9070 XT"], "ram": "32GB"},
}


def test_the_tools_answer_with_the_json_of_the_library() -> None:
    async def say(session: Any) -> dict[str, Any]:
        listed = await session.list_tools()
        assert [tool.name for tool in listed.tools] == list(QUESTIONS)
        for tool in listed.tools:
            assert len(tool.description) > 60
            assert set(QUESTIONS[tool.name]) <= set(tool.input_schema["properties"])
        return {name: await session.call_tool(name, asked) for name, asked in QUESTIONS.items()}

    answers = talk(say, "--offline")
    same = {
        "check": fitcheck.check("llama-3.1-8b", "RTX 4070", ram="32GB", tier="Q4_K_M", ctx="4096"),
        "runs": fitcheck.runs("RTX 3060 12 GB", ram="32GB", purpose="code", most=1),
        "plan": fitcheck.plan("gpt-oss-20b", have="RTX 3060 12 GB", ram="16GB", tier="MXFP4", budget=400),
        "compare": fitcheck.compare("gpt-oss-20b", ["RTX 4070", "RX 9070 XT"], ram="32GB"),
    }
    for name, answer in answers.items():
        expected = json.loads(json.dumps(same[name].to_json()))  # type: ignore[attr-defined]
        assert not answer.is_error
        assert answer.structured_content == expected
        assert json.loads(answer.content[0].text) == expected


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("check", {"target": "no-such-model", "gpu": ["RTX 4070"]}, "'no-such-model' is neither a catalog model"),
    ("check", {"target": "gpt-oss-20b", "gpu": ["RTX 99999"]}, "--gpu: no card is called 'RTX 99999'"),
    ("check", {"target": "gpt-oss-20b", "gpu": ["RTX 4070"], "options": {"ctx": "many"}}, "--ctx: 'many'"),
    ("check", {"target": "gpt-oss-20b", "gpu": ["RTX 4070"], "options": {"vram-mode": "low"}}, "--vram-mode"),
    (
        "check",
        {"target": "gpt-oss-20b", "gpu": ["RTX 4070"], "options": {"ngl": "x"}},
        "--ngl: 'x' is no number of layers",
    ),
    ("check", {"target": "gpt-oss-20b", "gpu": ["RTX 4070"], "ram": "a lot"}, "--ram: 'a lot'"),
    ("runs", {"gpu": ["RTX 4070"], "purpose": ["poetry"]}, "--for: 'poetry'"),
    ("plan", {"target": "gpt-oss-20b", "budget": "cheap"}, "--budget: 'cheap'"),
    ("compare", {"targets": [], "gpus": ["RTX 4070"]}, "name at least one model"),
]


def test_bad_input_is_a_tool_error_of_one_sentence() -> None:
    async def say(session: Any) -> list[Any]:
        return [await session.call_tool(name, asked) for name, asked, _ in BAD]

    for answer, (_, _, words) in zip(talk(say, "--offline"), BAD, strict=True):
        assert answer.is_error
        (content,) = answer.content
        assert words in content.text
        assert "\n" not in content.text


def test_the_best_cell_alone_is_had_on_request() -> None:
    async def say(session: Any) -> Any:
        return await session.call_tool("check", asked)

    asked = {"target": "qwen3-8b", "gpu": "RTX 4070", "tier": "Q4", "best_only": True}  # one name alone is a list of it
    (cell,) = talk(say, "--offline").structured_content["cells"]
    assert cell["tier"] == "Q4_K_M"


def test_without_the_extra_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    with pytest.raises(MissingExtraError, match=r"fitcheck mcp needs .*mcp.*pip install"):
        server()
