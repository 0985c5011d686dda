"""Reference images: handed to pipelines that take them, and what a pipeline made is found in either kind of result."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from bench.engines.diffusers.engine import PipelineEngine, _made
from bench.engines.diffusers.pipeline_series import jobs


@pytest.mark.parametrize(
    ("slug", "size", "name", "listed"),
    [
        ("qwen-image-edit-2511", [1024, 768], "image", True),
        ("wan2.2-i2v-a14b", [832, 480, 33], "image", False),
    ],
)
def test_a_pipeline_that_needs_a_picture_is_handed_one_of_the_asked_size(
    slug: str, size: list[int], name: str, listed: bool
) -> None:
    entry = {"model": slug, "tier": "bf16", "modes": ["none"], "sizes": [size]}
    (planned,) = jobs([entry], "cpu", False)
    found = PipelineEngine(planned.job)._pictures()
    assert list(found) == [name]
    pictures = found[name] if listed else [found[name]]
    assert [one.size for one in pictures] == [tuple(size[:2])]


def test_a_pipeline_that_takes_none_is_handed_none() -> None:
    (planned,) = jobs(
        [{"model": "flux.1-dev", "tier": "bf16", "modes": ["none"], "sizes": [[1024, 1024]]}], "cpu", False
    )
    assert PipelineEngine(planned.job)._pictures() == {}


def test_pictures_are_found_in_a_tuple_and_in_the_state_of_blocks() -> None:
    picture = torch.ones(3, 2, 2)
    assert torch.equal(_made((picture[None], "more")), picture[None])
    assert torch.equal(_made({"images": [picture]}), picture[None])
    assert torch.equal(_made({"videos": picture[None], "audio": None}), picture[None])
