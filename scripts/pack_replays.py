"""Replays the allocator for the catalog's models at their usual workloads and for measured rows, and keeps the answers.

A replay is a pure function that takes tens of milliseconds; a check asks for dozens. What this writes to
``fitcheck/runtimes/sensenova/data/replays.json`` only saves that time: an answer that is not there is worked out
when it is asked for, and a test holds some of what is there to what comes out.

Run: python scripts/pack_replays.py   (some four minutes on two cores)
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

TARGET = Path(__file__).parents[1] / "fitcheck/runtimes/sensenova/data/replays.json"
RESULTS = Path(__file__).parents[1] / "results"
# both sizes of cuBLAS workspace; on the smallest card, advice asks about all that could be changed
CARDS = ("RTX 3060 12 GB", "RTX 4090", "H100 SXM")
# on which hosts run ahead without a known limit
UNLIMITED = "Radeon RX 7900 XTX"
PAGES = ("", "")
REQUESTS = {
    "t2i": ((2048, 2048), (1024, 1024)),
    "editing": ((2048, 2048),),
    "interleave": ((2048, 2048),),
    "vqa": ((2048, 2048),),
}


def answers(part: tuple[str, str] | None) -> dict[str, int]:
    """What checks of one model and tier ask for, or, without them, what measured rows are compared with."""
    from fitcheck.hardware.catalog import find_card
    from fitcheck.hardware.machine import machine_for
    from fitcheck.models import catalog
    from fitcheck.models.tensors import TensorTable
    from fitcheck.runtimes.base import Wanted
    from fitcheck.runtimes.sensenova import reserved as allocator
    from fitcheck.runtimes.sensenova.replay.peaks import ReplayQuestion, replay
    from fitcheck.verdict.check import check

    found: dict[str, int] = {}

    def answer(table: TensorTable, question: ReplayQuestion) -> int:
        key = question.key(table)
        if key not in found:
            found[key] = replay(table, question)
        return found[key]

    def asked(table: TensorTable, question: ReplayQuestion) -> int:
        if question.placement.keep_generation:  # other cards keep other numbers of layers
            for keeps in allocator.keep_nodes(question.arch.layers):
                answer(table, dataclasses.replace(question, keeps=keeps))
        return answer(table, question)

    setattr(allocator, "peak", asked)  # noqa: B010 - the module itself imports the name, typing would refuse it
    if part == PAGES:
        ask_as_pages_do()
        return found
    if part is None:
        from fitcheck.verdict.accuracy import Leave, published_rows, recorded_rows

        for leave in Leave:
            published_rows(leave)
            recorded_rows(RESULTS, leave)
        return found
    model = catalog.get(part[0])
    tier = model.tier(part[1])
    assert tier is not None
    for card, (task, sizes) in product(CARDS, REQUESTS.items()):
        for size in sizes:
            wanted = Wanted(task=task).with_(size=size)
            check(model, machine_for(find_card(card), ram=64 << 30), wanted, tiers=[tier])
    for task in model.tasks:
        check(model, machine_for(find_card(UNLIMITED), ram=64 << 30), Wanted(task=str(task)), tiers=[tier])
    return found


def ask_as_pages_do() -> None:
    """The other sizes and tasks on the page of each wanted model and card: after a record a site asks them again."""
    from fitcheck.hardware.catalog import find_card
    from fitcheck.models import catalog
    from fitcheck.models.families.sensenova.family import FAMILY
    from fitcheck.pages import wanted
    from fitcheck.pages.document import check_document
    from fitcheck.pages.other_sizes import tiers_shown
    from fitcheck.verdict.usual_machine import ask

    for slug in FAMILY.slugs():
        if slug in {one.slug for one in wanted.models()}:
            model = catalog.get(slug)
            for card in wanted.cards():
                check_document(ask(model, find_card(card), None, tiers_shown(model)))


def main() -> None:
    from fitcheck.models import catalog
    from fitcheck.models.families.sensenova.family import FAMILY

    models = [catalog.get(slug) for slug in FAMILY.slugs()]
    parts: list[tuple[str, str] | None] = [None, PAGES]
    parts += [(model.slug, tier.name) for model in models for tier in model.tiers]
    found: dict[str, int] = {}
    with ProcessPoolExecutor(2) as pool:
        for part in pool.map(answers, parts):
            found |= part
    lines = ",\n".join(f'  "{key}": {reserved}' for key, reserved in sorted(found.items()))
    TARGET.write_text(f'{{\n "made_by": "scripts/pack_replays.py",\n "reserved": {{\n{lines}\n }}\n}}\n', "utf-8")
    print(f"{TARGET}: {len(found)} replays, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
