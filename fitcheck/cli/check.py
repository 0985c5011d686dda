"""``fitcheck check``: every tier and mode of a model on a machine, best choice first."""

from __future__ import annotations

from typing import Annotated

import typer

from fitcheck.cli import options as o
from fitcheck.cli.output import emit
from fitcheck.verdict.judge import Verdict

EXIT_CODES = {Verdict.FITS: 0, Verdict.TIGHT: 3, Verdict.NO: 4, Verdict.UNKNOWN: 5}


def register(app: typer.Typer) -> None:
    @app.command()
    def check(
        model: Annotated[str, typer.Argument(help="A catalog model; `fitcheck models` lists them.")],
        gpu: o.Gpu = None,
        tier: o.TierNames = None,
        mode: o.Modes = None,
        gguf: o.Gguf = None,
        task: o.TaskName = "t2i",
        size: o.Size = "2048x2048",
        steps: o.Steps = None,
        cfg: o.Cfg = None,
        reference: o.Reference = None,
        images: o.Images = None,
        prompt_tokens: o.PromptTokens = None,
        new_tokens: o.NewTokens = None,
        ram: o.Ram = None,
        disk: o.Disk = None,
        vram: o.Vram = None,
        display: o.Display = None,
        pcie: o.Pcie = None,
        revision: o.Revision = "phase-aware",
        runtime: o.RuntimeName = "sensenova",
        prefetch_count: o.PrefetchCount = None,
        policy: o.Policy = "upstream",
        attention: o.Attention = "sdpa",
        json_: Annotated[bool, typer.Option("--json", help="The whole report as JSON (docs/json.md).")] = False,
        markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    ) -> int:
        """Will it run, in which tier and mode, how fast? Exit code: 0 fits, 3 tight, 4 no, 5 unknown, 2 bad input."""
        question = o.Question(
            model, gpu, tier, mode, gguf, task, size, steps, cfg, tuple(reference or ()), images, prompt_tokens, new_tokens,
            ram, disk, vram, display, pcie, revision, runtime, prefetch_count, policy, attention,
        )  # fmt: skip
        report = o.answer(question)
        emit(report, "json" if json_ else "markdown" if markdown else "table")
        return EXIT_CODES[report.best.verdict]
