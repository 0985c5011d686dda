"""A list that works out no more than it takes to know the first cell leads with the one that the whole answer leads
with."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.check import check

MODELS = ("flux.1-dev", "qwen-image-2512", "sdxl", "wan2.1-t2v-1.3b", "hunyuanvideo", "sensenova-u1-8b-mot", "ltx-2.3")


@given(
    model=st.sampled_from(MODELS),
    card=st.sampled_from(("RTX 4060", "RTX 3060 12 GB", "RTX 4090", "GTX 1080 Ti", "Arc B580", "M3 Max 64GB", "T4")),
    ram=st.sampled_from((8, 16, 32, 64)),
    longest=st.sampled_from((None, 5.0, 60.0, 600.0)),
)
@example(model="flux.1-dev", card="RTX 4090", ram=64, longest=5.0)  # what fits is too slow and stands with the tight
@example(model="hunyuanvideo", card="RTX 4060", ram=8, longest=None)  # nothing runs
@settings(max_examples=20, deadline=None)
def test_the_first_cell_is_that_of_the_whole_answer(model: str, card: str, ram: int, longest: float | None) -> None:
    machine = asked_machine(card, ram=(64 if card.startswith("M3") else ram) * GIB)
    wanted = Wanted(max_seconds=longest)
    whole, head = (check(catalog.get(model), machine, wanted, advise=False, head=head) for head in (False, True))
    assert head.best == whole.best
    assert len(head.cells) <= len(whole.cells)
