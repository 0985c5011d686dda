"""How long the site takes: from scratch, untouched, after one new record; and how large it and its largest page are.

    python benchmarks/pages_build.py [--cards 300] [--jobs 2]

Prints one line a measurement with wall seconds and CPU seconds (this process and its workers). Each build is a fresh
process, as `fitcheck site build` is, so imports count.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = (
    "import sys; from pathlib import Path; from fitcheck.pages import build;"
    "from fitcheck.pages.site_inputs import gather;"
    "o = build.build(gather(Path(sys.argv[1]), sys.argv[3]), Path(sys.argv[2]), int(sys.argv[4]));"
    "print(o.pages, o.drawn, o.documents, o.written, o.size)"
)


def build(folder: Path, cards: int, jobs: int, what: str) -> None:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "results"), str(folder / "out"), str(cards), str(jobs)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pages, drawn, documents, written, size = map(int, done.stdout.split())
    print(
        f"{what:24} wall {wall:6.2f} s  cpu {cpu:6.2f} s  {pages} pages, {drawn} drawn, {documents} answers computed, "
        f"{written} files written, {size / 1e6:.1f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from fitcheck.pages.site_inputs import gather
    from fitcheck.records import store
    from tests.pages.records import passed

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "results").mkdir()
        build(folder, asked.cards, asked.jobs, "from scratch")
        build(folder, asked.cards, asked.jobs, "nothing changed")
        card = gather(None, str(asked.cards)).cards[asked.cards // 2]
        record = passed()
        assert record.card is not None
        here = record.model_copy(update={"card": record.card.model_copy(update={"slug": card.slug}), "id": None})
        store.write(folder / "results", store.seal(here))
        build(folder, asked.cards, asked.jobs, "after one new record")
        pages = sorted((folder / "out/check").glob("*/*/index.html"), key=lambda path: path.stat().st_size)
        lists = sorted((folder / "out").rglob("index.html"), key=lambda path: path.stat().st_size)
        print(f"largest /check/<model>/<card>/ {pages[-1].stat().st_size:,} bytes")
        print(f"largest page {lists[-1].relative_to(folder / 'out')} {lists[-1].stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
