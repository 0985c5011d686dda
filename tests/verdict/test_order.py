"""The order of answers: what leads among those that fit, that are tight, and that do not run."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

import fitcheck
from fitcheck.memory.weighing import Constraint, Margin, Verdict, Weighed
from fitcheck.models import catalog
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Support
from fitcheck.runtimes.level import Level
from fitcheck.speed.duration import Duration
from fitcheck.speed.floor import floor_of
from fitcheck.units import GIB, Interval
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.coarseness import is_broken, is_coarse
from fitcheck.verdict.order import READING, first_of, order


def cell(
    name: str, seconds: float | None, bits: float, memory: int = 100, *, published: bool = True,
    verdict: Verdict = Verdict.FITS, steps: int = 8, host: int = 0, beside: int = 1000, short: int = 0,
) -> Cell:  # fmt: skip
    made: Any = SimpleNamespace(
        name=name,
        verdict=verdict,
        judgement=SimpleNamespace(
            margins=(Margin(Constraint.VRAM, 0, 100, verdict, worst=-short),), binding=Constraint.VRAM
        ),
        ask=SimpleNamespace(model=catalog.get("flux.1-dev")),
        tier=SimpleNamespace(published=published, name=name, tensors=SimpleNamespace(nbytes=beside, bits=bits)),
        seconds=None if seconds is None else Interval.exactly(seconds),
        workload=Workload(Task.T2I, steps=steps, cfg=1.0),
        need=memory,
        footprint=SimpleNamespace(host=SimpleNamespace(total=Interval.exactly(host))),
    )
    return cast(Cell, made)


def names(*cells: Cell) -> list[str]:
    return [cast(Any, one).name for one in order(cells)]


def test_near_the_fastest_the_finer_tier_leads_and_beyond_it_does_not() -> None:
    assert names(cell("fast", 10.0, 4.5), cell("fine", 11.4, 16)) == ["fine", "fast"]
    assert names(cell("fast", 10.0, 4.5), cell("fine", 11.6, 16)) == ["fast", "fine"]


def test_a_guess_does_not_lead_over_what_is_known() -> None:
    """Half way from what is expected to the worst case: 10 to 90 s stand behind 20 to 22."""
    known, guess = cell("known", 20.0, 8), cell("guess", 10.0, 8)
    cast(Any, known).seconds, cast(Any, guess).seconds = Interval(18.0, 20.0, 22.0), Interval(1.0, 10.0, 90.0)
    assert names(guess, known) == ["known", "guess"]


def test_near_the_fastest_no_coarse_tier_leads_even_where_it_is_safer() -> None:
    """Wan 2.2 on 24 GB beside 32 GB: Q2_K of the denoisers was least short of system memory in the worst case."""
    tight = Verdict.TIGHT
    coarse, finer = cell("Q2_K", 10.0, 2.7, verdict=tight), cell("nf4", 10.1, 4.5, verdict=tight, short=9)
    finest = cell("Q4_K_M", 10.2, 4.9, verdict=tight, short=20)
    assert names(coarse, finest, finer)[0] == "nf4", "of those that are not coarse, the one that is least short"
    assert names(coarse, cell("nf4", 12.0, 4.5, verdict=tight))[0] == "Q2_K", "not for any wait"


def test_what_the_picture_hangs_on_comes_before_what_stands_beside_it() -> None:
    """FLUX.1: 4 bits of the denoiser beside a text encoder in 16 are fewer than 8 beside one in 4."""
    whole, split = cell("Q4_K_S", 10.0, 4.5, beside=3000), cell("Q8_0+t5-nf4", 10.0, 8.5, beside=2000)
    assert names(whole, split) == ["Q8_0+t5-nf4", "Q4_K_S"]
    assert names(cell("nf4 T5", 10.0, 4.5, beside=900), cell("T5", 10.0, 4.5))[0] == "T5"


def test_of_equal_times_less_card_memory_leads_and_a_slower_mode_does_not() -> None:
    assert names(cell("full", 10.0, 8, 200), cell("fast", 10.05, 8, 100)) == ["fast", "full"]
    assert names(cell("full", 10.0, 8, 200), cell("low", 11.0, 8, 10)) == ["full", "low"]


def test_of_equal_times_what_leaves_system_memory_alone_leads() -> None:
    """FLUX.1 on 24 GB: what streams from system memory is no quicker there than what stays on the card."""
    assert names(cell("streams", 10.0, 16, 60, host=180), cell("stays", 10.0, 16, 170, host=20)) == ["stays", "streams"]
    assert names(cell("larger", 10.0, 16, 80, host=90), cell("smaller", 10.0, 16, 50, host=90)) == ["smaller", "larger"]


def test_published_tiers_come_before_what_nobody_offers_and_verdicts_before_all() -> None:
    assert names(cell("made up", 5.0, 8, published=False), cell("real", 20.0, 8)) == ["real", "made up"]
    tight = cell("tight", 1.0, 16, verdict=Verdict.TIGHT)
    assert names(tight, cell("fits", 100.0, 2)) == ["fits", "tight"]


def test_without_seconds_fewer_steps_come_first() -> None:
    assert names(cell("many", None, 16, steps=50), cell("few", None, 4.5)) == ["few", "many"]


def test_without_seconds_what_stays_on_the_card_leads() -> None:
    """A card whose rates nobody knows: the slowest mode, which keeps next to nothing there, is not the answer."""
    assert names(cell("sequential", None, 16, 10), cell("none", None, 16, 300), cell("model", None, 16, 200)) == [
        "none",
        "model",
        "sequential",
    ]


def test_of_what_nobody_has_tried_what_the_amounts_allow_leads() -> None:
    def untried(name: str, amounts: Verdict, memory: int) -> Cell:
        one = cell(name, None, 16, memory, verdict=Verdict.UNKNOWN)
        cast(Any, one).judgement.level = SimpleNamespace(weighed=SimpleNamespace(verdict=amounts))
        return one

    cells = (untried("none", Verdict.TIGHT, 300), untried("model", Verdict.FITS, 200), untried("low", Verdict.FITS, 1))
    assert names(*cells) == ["model", "low", "none"]


def short(
    name: str, constraint: Constraint, left: int, *, published: bool = True, rest: Verdict = Verdict.FITS
) -> Cell:
    """A cell that lacks ``-left`` of ten bytes of one resource, and has five of another, which are ``rest``."""
    made: Any = cell(name, None, 4, published=published, verdict=Verdict.NO)
    other = Constraint.RAM if constraint is Constraint.VRAM else Constraint.VRAM
    amounts = (Margin(other, 5, 10, rest), Margin(constraint, 10 - left, 10, Verdict.NO))
    level = Level(Verdict.NO, constraint, Weighed(amounts, amounts[1], 0))
    made.judgement = SimpleNamespace(margins=amounts, binding=constraint, level=level)
    return cast(Cell, made)


def test_where_nothing_runs_the_cell_that_is_nearest_to_running_leads() -> None:
    """System memory is easier to add than card memory, and what nobody publishes helps nobody."""
    cells = (
        short("far", Constraint.RAM, -9),
        short("unpublished", Constraint.RAM, -2, published=False),
        short("near", Constraint.RAM, -4),
        short("card", Constraint.VRAM, -1),
        short("never", Constraint.COMPUTE_CAPABILITY, -1),
    )
    assert names(*cells) == ["near", "far", "card", "never", "unpublished"]
    assert names(*cells, cell("tight", 1.0, 4, verdict=Verdict.TIGHT))[0] == "tight"
    slow, quick = short("slow", Constraint.VRAM, -1), short("quick", Constraint.VRAM, -2)
    cast(Any, slow).seconds = Interval.exactly(100.0)
    cast(Any, quick).seconds = Interval.exactly(10.0)
    assert names(slow, quick) == ["quick", "slow"]  # a hair less memory is not worth the wait


def test_what_its_platform_does_not_run_either_is_not_near_to_running() -> None:
    """A file that the program has no loader for runs with no amount of memory: what is short of more leads."""
    foreign, lacking = short("foreign", Constraint.RAM, -1), short("lacking", Constraint.RAM, -9)
    support = Support(Verdict.NO, Constraint.RUNTIME, "no loader reads it")
    cast(Any, foreign).judgement.level = replace(foreign.judgement.level, also=support)
    assert names(foreign, lacking) == ["lacking", "foreign"]


def test_of_what_lacks_alike_the_cell_leads_that_fits_once_it_is_there() -> None:
    """With free disk for either, one would fit and the other only just."""
    tighter = short("tighter", Constraint.DISK, -1, rest=Verdict.TIGHT)
    fitting = short("fitting", Constraint.DISK, -1)
    cast(Any, tighter).seconds, cast(Any, fitting).seconds = Interval.exactly(10.0), Interval.exactly(20.0)
    assert names(tighter, fitting) == ["fitting", "tighter"]


def tight(name: str, worst: int, bits: float) -> Cell:
    """A tight cell that lacks ``-worst`` of ten bytes in the worst case."""
    made: Any = cell(name, 10.0, bits, verdict=Verdict.TIGHT)
    made.judgement = SimpleNamespace(margins=(Margin(Constraint.RAM, 9, 10, Verdict.TIGHT, worst=worst),))
    return cast(Cell, made)


def test_of_tight_cells_the_one_least_short_in_the_worst_case_leads() -> None:
    assert names(tight("fine", -4, 16), tight("safe", -1, 4)) == ["safe", "fine"]
    assert names(tight("fine", -1, 16), tight("coarse", -1, 4)) == ["fine", "coarse"]


def waiting(name: str, steps: int, cfg: float = 1.0, images: int = 1) -> Cell:
    """A cell of unknown seconds."""
    made: Any = cell(name, None, 8)
    made.workload = Workload(Task.T2I, steps=steps, cfg=cfg, images=images)
    return cast(Cell, made)


def test_without_seconds_guidance_doubles_the_steps_and_each_picture_counts() -> None:
    assert names(waiting("guided", 8, cfg=4.0), waiting("plain", 12)) == ["plain", "guided"]
    assert names(waiting("guided", 8, cfg=4.0), waiting("plain", 20)) == ["guided", "plain"]
    assert names(waiting("three", 8, images=3), waiting("one", 20)) == ["one", "three"]


def reading(
    name: str, pace: float | None, bits: float = 4.0, *, context: int = 8192, loss: float = 1.0, need: int = 100,
    host: int | None = None,
) -> Cell:  # fmt: skip
    """A cell of an answer that is read while it is written, at so many tokens a second; ``host`` are the bytes that
    each token reads from the host beside cards."""
    made: Any = cell(name, None, bits, need)
    made.workload = Workload(Task.CHAT, context=context)
    made.pace = None if pace is None else Interval.exactly(pace)
    made.loss = loss
    made.ask = SimpleNamespace(model=SimpleNamespace(architecture=SimpleNamespace(family="unknown")))
    made.footprint = SimpleNamespace(cards=(None,) if host is not None else ())
    made.duration = Duration(None, "", amounts=(("host", host or 0),))
    return cast(Cell, made)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (reading("better", 3.0), reading("worse", 80.0, 16, context=4096)),  # the context that was asked for
        (reading("better", 9.0, 3), reading("worse", 4.0, 16)),  # who reads along waits for the slower one
        (reading("better", 2.5, 4.5), reading("worse", 4.9, 3)),  # who waits anyway waits for what is worth it
        (reading("better", 1.5, 3), reading("worse", 1.2, 4.5)),  # but not for a second a word
        (reading("better", 1.0, 4.5), reading("worse", 30.0, 2)),  # nothing is worth less than a broken file
        (reading("better", 30.0, 2.1), reading("worse", 60.0, 2)),  # of two broken ones the finer
        (reading("better", 12.0, 8), reading("worse", 90.0, 4)),  # beyond reading speed the finer tier
        (reading("better", 40.0, 8.5), reading("worse", 20.0, 16)),  # beyond Q6_K speed counts
        (reading("better", 20.0, 4), reading("worse", 21.0, 4, loss=1.2)),  # a quantized cache must be worth it
        (reading("better", 25.0, 4, loss=1.2), reading("worse", 20.0, 4)),
        (reading("better", 20.0, 4, need=100), reading("worse", 20.0, 4, need=200)),
        (reading("better", 1.0, 3), reading("worse", None, 16)),
        (reading("better", 30.0, 5, host=0), reading("worse", 11.0, 6.5, host=1)),  # whole on the card
        (reading("better", 11.0, 5, host=1), reading("worse", 60.0, 3, host=0)),  # but not for a coarse file
        (reading("better", 11.0, 3, host=1), reading("worse", 60.0, 2, host=0)),  # nor of two that are coarse
        (reading("better", 5.5, 3.2), reading("worse", 12.0, 3)),  # nor is comfort worth the coarsest file
    ],
)
def test_of_two_answers_to_read_along_one_leads(better: Cell, worse: Cell) -> None:
    assert names(worse, better) == names(better, worse) == ["better", "worse"]


def test_what_runs_slowly_leads_over_a_broken_file_that_fits_and_is_told_of_no_such_change() -> None:
    """A processor reads IQ1_M of a 27B at 5 tokens a second, at 309 % more perplexity, and 4 bits at half of that."""
    report = fitcheck.check("gemma-3-27b", "none", ram=32 * GIB, host_bandwidth=70.0)
    best, broken = report.best, next(cell for cell in report.cells if cell.tier.name == "IQ1_M")
    assert broken.verdict is Verdict.FITS
    assert not is_coarse(report.model, best.tier)
    assert best.verdict is Verdict.TIGHT
    assert best.judgement.binding is Constraint.SPEED
    assert best.flip is None
    running = [cell for cell in report.cells if cell.verdict in (Verdict.FITS, Verdict.TIGHT)]
    rotten = [is_broken(report.model, cell.tier) for cell in running]
    assert rotten == sorted(rotten)
    assert any(rotten)


def test_a_file_as_good_as_broken_is_no_way_out_where_memory_is_one() -> None:
    """A 70B beside 16 GB: IQ1_M would run, at four times the perplexity, and 24 GB run the file that was asked for."""
    report = fitcheck.check("llama-3.3-70b", "RTX 4060", ram=16 * GIB, tier="IQ2_M")
    assert report.best.verdict is Verdict.NO
    assert report.best.flip is not None
    assert (report.best.flip.change, report.best.flip.verdict) == ("24 GB of system memory", Verdict.TIGHT)


def test_of_files_that_lose_nothing_the_one_that_reads_a_text_soonest_leads() -> None:
    """A text to embed is read at the pace of prompts: on a card 16 bits read quickest, on a processor eight do."""
    on_card, on_host = fitcheck.check("bge-m3", "RTX 4090"), fitcheck.check("bge-m3", "none", ram=16 * GIB)
    assert (on_card.best.tier.name, on_host.best.tier.name) == ("F16", "Q8_0")
    for report in (on_card, on_host):
        assert report.best.pace is not None
        paces = [cell.pace.best for cell in report.cells if cell.pace and not is_coarse(report.model, cell.tier)]
        assert report.best.pace.best == max(paces)


def test_who_reads_along_reads_as_fast_as_the_usual_floor_says() -> None:
    assert floor_of(None, None, Task.CHAT).min_speed == READING[0]


def test_the_first_alone_is_the_first_of_the_whole_order() -> None:
    draw = random.Random(18)
    levels = (Verdict.FITS, Verdict.TIGHT, Verdict.UNKNOWN)
    led = set()
    for _ in range(400):
        cells = [
            cell(
                str(number),
                draw.choice((None, 1.0, 1.005, 1.1, 2.0)),
                draw.choice((3.0, 4.5, 8.0)),
                draw.choice((90, 100)),
                published=draw.random() < 0.7,
                verdict=draw.choice(levels),
                host=draw.choice((0, 10)),
                short=draw.choice((0, 5)),
            )
            for number in range(draw.randrange(1, 9))
        ]
        for one in cells:
            cast(Any, one).judgement.level = SimpleNamespace(weighed=SimpleNamespace(verdict=draw.choice(levels)))
        assert first_of(cells) is order(cells)[0]
        led.add(cast(Any, first_of(cells)).name)
    assert len(led) == 8, "places that never lead test nothing"


@pytest.mark.parametrize(("slug", "card"), [("flux.1-dev", "rtx-3060-12-gb"), ("llama-3.1-70b", "rtx-3060-12-gb")])
def test_the_first_alone_is_the_first_of_what_was_judged(slug: str, card: str) -> None:
    cells = list(fitcheck.check(slug, card, ram=32 * GIB).cells)
    none = [one for one in cells if one.verdict is Verdict.NO]
    assert len(cells) > len(none) > 1
    for some in (cells, cells[::-1], none, none[::-1]):
        assert first_of(some) is order(some)[0]
