"""Video and sound in one sequence, decoded in clips and tiles that nobody asked for: MiniMax-H3."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.errors import OptionError
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.workload import Task
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.diffusers.attention_flops import attention_flops
from fitcheck.runtimes.diffusers.laid_out import Laid, Layout
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.tiling import Grid, Stretch, Tile, stretches_of, tile_of, tiles_of
from fitcheck.runtimes.diffusers.workloads import check_options
from fitcheck.verdict.check import check
from tests.runtimes.diffusers.test_pipeline_memory import ask
from tests.runtimes.diffusers.test_pipeline_placement import pipeline

SLUG = "minimax-h3"


def laid(model: str, mode: str) -> tuple[Laid, ...]:
    layout = registry.get("diffusers").footprint(ask(model, mode, "bf16", "H100 SXM5 80GB")).layout
    assert isinstance(layout, Layout)
    return layout.stages


def test_clips_of_one_length_and_tiles_of_one_size() -> None:
    vae = pipeline("minimax-h3").component("vae")
    # 124 frames: of 37 latent ones seven at 0, 5, …, 30, each decoded to 28; the first and the last but one stay whole
    (clip,) = stretches_of(vae, 37, 4)
    assert (clip.latents, clip.count, clip.decoded(4)) == (7, 7, 28)
    assert (clip.beside, clip.joined) == (28 + 5 * 17 + 28, 28 + 6 * 17 + 28 + 124)
    assert stretches_of(vae, 7, 4) == (Stretch(7, 1, 0, 28 + 22, whole=True),)
    assert tile_of(vae) == Grid(256, 256, 192, 192)
    area = 256 * 256
    # seven by four with overlaps of 64 and more; those of the last row are blended into new ones
    assert tiles_of(vae, 1344, 768) == (Tile(256, 256, 28, 27 * area, 35 * area + 2 * 1344 * 768),)
    assert tiles_of(vae, 256, 192) == (Tile(256, 192, 1, 0, 3 * 256 * 192),)
    assert tiles_of(vae, 448, 256) == (Tile(256, 256, 2, area, 3 * area + 2 * 448 * 256),)


def test_attention_counts_the_sound_and_a_whole_clip() -> None:
    """As torch's own calls were counted of both modules at 448x320x124 (20x28x37 latents, 207 of sound a channel)."""
    arch = pipeline(SLUG)
    sequence = 5180 + 512 + 414
    found = attention_flops(arch.component("transformer"), {"tokens": 5180, "text": 512, "sound": 414})
    assert found == 4 * 56 * 128 * (50 * sequence**2 + 2 * 512**2)
    clip = {"height": 20, "width": 28, "frames": 7}
    # five tokens beside those of the clip
    assert attention_flops(arch.component("vae"), clip, "decoder") == 4 * 2048 * 36 * (7 * 560 + 5) ** 2
    # of other autoencoders frame by frame
    wan = pipeline("wan2.2-t2v-a14b").component("vae")
    assert attention_flops(wan, clip, "decoder") == 7 * attention_flops(wan, {**clip, "frames": 1}, "decoder")


def decoded(mode: str) -> Laid:
    return next(one for one in laid(SLUG, mode) if one.stage.component.name == "vae")


def test_the_decode_holds_clips_tiles_and_the_pixels_that_are_finished() -> None:
    one, frame = decoded("group-leaf"), 3 * 1344 * 768 * 2
    assert one.made is not None
    assert one.stage.count == 7 * 28
    assert one.made.outputs == 28 * 3 * 256 * 256 * 2
    # all clips and the video that they are joined to; then the video with two copies of twice its width
    assert one.tiles + one.made.peak == pytest.approx((28 + 6 * 17 + 28 + 124) * frame, abs=2)
    assert one.after == pytest.approx(5 * 124 * frame, abs=2)
    sure, best, high = one.ends
    assert best == pytest.approx(one.held.resident + one.kept - one.tiles + one.after, abs=2)
    assert sure <= best <= high


def test_advice_names_frames_that_a_pipeline_makes() -> None:
    h3, wan = pipeline("minimax-h3"), pipeline("wan2.2-t2v-a14b")
    assert [h3.frames_from(frames) for frames in (173, 150, 62)] == [158, 141, 124]
    assert [wan.frames_from(frames) for frames in (81, 41, 40)] == [81, 41, 37]
    asked = ask("minimax-h3", "group-leaf")
    assert not [one for one in registry.get("diffusers").changes(asked, Wanted()) if "--frames" in one.words]
    longer = ask("minimax-h3", "group-leaf", frames=345)
    assert "--frames 158" in [one.words for one in registry.get("diffusers").changes(longer, Wanted())]


def test_a_pipeline_that_makes_one_video_of_a_schedule_with_an_end() -> None:
    arch = pipeline("minimax-h3")
    for options, says in (({"batch": 2}, "one result a call"), ({"steps": 1}, "steps"), ({"vae": ("whole",)}, "tiles")):
        with pytest.raises(OptionError, match=says):
            check_options(PipelineOptions(**options), arch, Task.T2V)
    stages = laid("minimax-h3", "none")
    assert next(one.stage.count for one in stages if one.stage.component.name == "transformer") == 24


def test_what_refuses_group_offload_stays_on_the_card() -> None:
    # the autoencoder of MiniMax-H3's sound: 605 MB in single precision
    sound = catalog.get("minimax-h3").tier_named("bf16").tensors.bytes_by_branch["audio_vae"]
    for mode in ("group-leaf", "group-leaf-stream"):
        for one in laid("minimax-h3", mode):
            assert one.held.resident == pytest.approx(sound, rel=0.02)
            assert (one.held.window == 0) == (one.stage.component.name == "audio_vae")
    assert {one.held.resident for one in laid("wan2.2-t2v-a14b", "group-leaf")} == {0}


def test_a_task_of_which_calls_were_not_traced_is_unknown() -> None:
    known = ask("minimax-h3", "none", card="B200")
    shown = replace(known, workload=known.workload.with_(task=Task.I2V, references=((1344, 768),)))
    found = registry.get("diffusers").platform(shown)
    assert found is not None
    assert found.verdict is Verdict.UNKNOWN
    assert "keyframes" in found.reason
    report = check(catalog.get(SLUG), shown.machine, Wanted(task="i2v"), advise=False)
    assert all(cell.seconds is None for cell in report.cells)
    assert "Seconds are unknown because part of the work was not traced." in report.notes
    assert registry.get("diffusers").platform(known) is None
