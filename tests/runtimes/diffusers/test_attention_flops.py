"""Operations of attention by the layout of a transformer's blocks, by hand from the published configurations."""

from __future__ import annotations

import pytest

from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.runtimes.diffusers.attention_flops import attention_flops

IMAGE, TEXT, SOUND = 4096, 512, 126
JOINT = IMAGE + TEXT


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        # 19 blocks of two streams and 38 of one
        ("flux.1-dev", 57 * JOINT**2 * 3072),
        # 8 blocks of two streams and 24 of one, whose projection makes the feed-forward's part too
        ("flux.2-klein-9b", 32 * JOINT**2 * 4096),
        # 24 joint blocks, 13 of which attend once more, within the picture
        ("sd3.5-medium", (24 * JOINT**2 + 13 * IMAGE**2) * 1536),
        # 30 joint blocks after two of the picture and two of the text
        ("z-image-turbo", (30 * JOINT**2 + 2 * IMAGE**2 + 2 * TEXT**2) * 3840),
        # 50 blocks of one sequence with sound, two of the text
        ("minimax-h3", (50 * (JOINT + SOUND) ** 2 + 2 * TEXT**2) * 7168),
        # to itself and to the text
        ("wan2.2-ti2v-5b", 30 * (IMAGE**2 + IMAGE * TEXT) * 3072),
        # video and sound each to itself and to the text, and one to the other
        (
            "ltx-2.3",
            48 * (IMAGE**2 + IMAGE * TEXT) * 4096 + 48 * (SOUND**2 + SOUND * TEXT + 2 * SOUND * IMAGE) * 2048,
        ),
    ],
)
def test_every_attention_is_counted_where_it_looks(slug: str, expected: int) -> None:
    arch = catalog.get(slug).architecture
    assert isinstance(arch, PipelineArchitecture)
    sizes = {"batch": 2, "tokens": IMAGE, "text": TEXT, "sound": SOUND if arch.sound_rate else 0}
    assert attention_flops(arch.component("transformer"), sizes) == 2 * 4 * expected


def test_a_result_behind_a_prefix_looks_at_all_and_the_prefix_at_itself() -> None:
    arch = catalog.get("qwen-image-2.1").architecture
    assert isinstance(arch, PipelineArchitecture)
    transformer = arch.component("transformer")
    later = {"batch": 1, "tokens": IMAGE, "text": TEXT, "asked": IMAGE, "kept": TEXT}
    each = 4 * 32 * 4096
    assert attention_flops(transformer, later) == each * IMAGE * JOINT
    assert attention_flops(transformer, {**later, "filled": TEXT}) == each * (IMAGE * JOINT + TEXT**2)
