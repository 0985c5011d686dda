"""Which modes stand beside many tiers, and what makes a run quick that is too slow."""

from __future__ import annotations

import pytest

from fitcheck.errors import OptionError
from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.catalog import find_card
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models import catalog
from fitcheck.models.find import Identified
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.diffusers.offloading import offload_of
from fitcheck.runtimes.diffusers.runtime import RUNTIME
from fitcheck.units import GIB
from fitcheck.verdict.check import check
from fitcheck.verdict.other_memory import best_beside
from fitcheck.verdict.plan import needs
from fitcheck.verdict.report import Report


def report_of(slug: str, card: str, ram: int, **options: object) -> Report:
    """The check of a catalog model; ``ram`` in GiB."""
    return check(catalog.get(slug), asked_machine(card, ram=ram * GIB), Wanted(options=tuple(options.items())))


def modes_by_tier(slug: str) -> dict[str, list[str]]:
    """The modes of each tier of a model that is asked about with all of them."""
    model, machine = catalog.get(slug), asked_machine("RTX 3060 12GB", ram=32 * GIB)
    found: dict[str, list[str]] = {}
    for ask in RUNTIME.asks(model, model.tiers, Wanted(), machine):
        found.setdefault(ask.tier.name, []).append(ask.placement.mode)
    return found


def test_beside_many_tiers_stands_one_mode_of_each_kind_that_moves_such_weights() -> None:
    found = modes_by_tier("qwen-image")
    assert found["bf16"] == ["none", "model", "group-leaf-stream", "sequential"]
    assert found["Q4_K_S"] == ["none", "model", "group-leaf-stream"], "accelerate's hooks do not move GGUF"
    assert found["nf4"] == ["none", "model"], "bitsandbytes moves whole"


def test_what_runs_without_pinned_memory_is_not_called_a_no() -> None:
    """Qwen-Image on 12 GB beside 32 GB: pinned copies are rounded up to more than there is, pageable ones are not."""
    best = report_of("qwen-image", "RTX 3060 12GB", 32).best
    assert (best.placement.mode, best.judgement.binding) == ("group-leaf", Constraint.SPEED)
    assert best.flip is not None
    assert (best.flip.change, best.flip.verdict) == ("48 GB of system memory", Verdict.FITS), "room for pinned ones"


def test_a_decode_that_no_mode_brings_onto_the_card_is_taken_in_tiles() -> None:
    """HunyuanVideo 1.5 decodes 121 frames whole in 88 GiB."""
    report = report_of("hunyuanvideo-1.5", "RTX 4090", 64)
    assert all(offload_of(cell.placement).tiling for cell in report.cells)
    assert report.best.verdict is Verdict.TIGHT
    words = {one.words: one.change for one in report.assumed}
    assert words["decoding in tiles"] == "--vae whole: no"
    whole = report_of("hunyuanvideo-1.5", "RTX 4090", 64, vae=("whole",))
    assert whole.best.verdict is Verdict.NO
    assert not any(offload_of(cell.placement).tiling for cell in whole.cells)


@pytest.mark.parametrize(
    ("slug", "card"), [("hunyuanvideo-1.5", "B200"), ("sdxl", "RTX 4060"), ("wan2.2-t2v-a14b", "RTX 4090")]
)
def test_a_decode_that_goes_in_stays_whole(slug: str, card: str) -> None:
    report = report_of(slug, card, 64)
    assert not any(offload_of(cell.placement).tiling for cell in report.cells)
    assert "decoding in tiles" not in {one.words for one in report.assumed}


def test_tiles_that_are_asked_for_are_no_assumption_and_whole_stands_alone() -> None:
    report = report_of("hunyuanvideo-1.5", "RTX 4090", 64, vae=("tiling",))
    assert "decoding in tiles" not in {one.words for one in report.assumed}
    with pytest.raises(OptionError, match="--vae: whole is neither tiling nor slicing"):
        report_of("hunyuanvideo-1.5", "RTX 4090", 64, vae=("whole", "tiling"))


def test_of_memory_that_is_shared_tiles_are_chosen_anew_for_each_amount() -> None:
    """A larger Mac decodes whole what a smaller one takes in tiles, also where one answer is made from the other."""
    small, large = (asked_machine("Apple M4 Pro", ram=size * GIB) for size in (32, 64))
    tiled = check(catalog.get("wan2.2-ti2v-5b"), small, Wanted(), advise=False)
    found = best_beside(tiled, large, Wanted())
    assert found.best.ask == check(catalog.get("wan2.2-ti2v-5b"), large, Wanted(), advise=False).best.ask


def test_what_a_plan_says_is_needed_is_what_a_small_card_is_asked_for() -> None:
    model = catalog.get("hunyuanvideo-1.5")
    found = Identified(model, model.tiers)
    needed = {(one.tier, one.mode): one for one in needs(found, find_card("RTX 4090"), Wanted())}
    report = report_of("hunyuanvideo-1.5", "RTX 4090", 64)
    both = [cell for cell in report.cells if (cell.tier.name, cell.placement.mode) in needed]
    assert len(both) > 20
    for cell in both:
        one = needed[cell.tier.name, cell.placement.mode]
        assert (one.runs, one.fits) == (cell.memory.required.best, cell.memory.card.high)
