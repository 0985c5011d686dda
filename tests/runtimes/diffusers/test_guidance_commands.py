"""The Python lines of a pipeline set its guidance in the way that its class has."""

from __future__ import annotations

import pytest

from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers.commands import script
from fitcheck.runtimes.diffusers.runtime import RUNTIME


def lines(slug: str) -> str:
    model = catalog.get(slug)
    tier = model.tier("bf16")
    assert tier is not None
    ask: Ask = next(iter(RUNTIME.asks(model, (tier,), Wanted(), asked_machine("H100 SXM"))))
    return script(ask)


@pytest.mark.parametrize(
    ("slug", "has", "lacks"),
    [
        ("flux.1-dev", "guidance_scale=3.5", "true_cfg"),
        # diffusers 0.42.1: without a negative prompt it guides nothing
        ("qwen-image", 'true_cfg_scale=4, negative_prompt=" "', ", guidance_scale"),
        # whose call takes no scale at all
        ("hunyuanvideo-1.5", "pipe.guider = pipe.guider.new(guidance_scale=6)", "steps=50, guidance_scale"),
    ],
)
def test_guidance_is_set_as_the_class_takes_it(slug: str, has: str, lacks: str) -> None:
    found = lines(slug)
    assert has in found
    assert lacks not in found


def test_a_pipeline_of_blocks_gets_no_lines_that_it_does_not_take() -> None:
    assert lines("flux.3-klein") == ""
