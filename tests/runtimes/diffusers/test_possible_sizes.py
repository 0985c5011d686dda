"""Sizes that a pipeline cannot make are refused in a sentence that names one it can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.errors import OptionError
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import DENOISER, Config, PipelineArchitecture
from fitcheck.runtimes.diffusers.possible_sizes import check_positions


def architecture(slug: str) -> PipelineArchitecture:
    arch = catalog.get(slug).architecture
    assert isinstance(arch, PipelineArchitecture)
    return arch


@pytest.mark.parametrize(
    ("slug", "size", "says"),
    [
        ("cogvideox-5b-i2v", (512, 512), "positions for 720x480 alone"),
        ("hidream-i1", (512, 512), "512x512 to 1024x1024"),
        ("sd3.5-large", (4096, 1024), "sides of 3072 pixels"),
        ("lumina-2", (16384, 1024), "sides of 8192 pixels"),
    ],
)
def test_what_has_no_positions_is_refused(slug: str, size: tuple[int, int], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        check_positions(size, architecture(slug))


@pytest.mark.parametrize(
    "slug", [slug for slug in catalog.slugs() if catalog.get(slug).architecture.family == "pipeline"]
)
def test_usual_sizes_are_possible(slug: str) -> None:
    arch = architecture(slug)
    check_positions((arch.defaults.width, arch.defaults.height), arch)


@pytest.mark.parametrize(
    "config",
    [{"max_resolution": []}, {"max_resolution": ["x"]}, {"axes_lens": [None]}, {"pos_embed_max_size": -3},
     {"use_learned_positional_embeddings": True, "sample_width": "x"}],
)  # fmt: skip
def test_a_folder_may_say_anything_of_its_positions(config: dict[str, object]) -> None:
    arch = architecture("flux.1-dev")
    strange = replace(arch.component(DENOISER), config=Config(config))
    check_positions((1024, 1024), replace(arch, components=(strange,)))
