"""How long the site takes: from scratch, untouched, after one new record; and how large it and its largest page are.

    python benchmarks/pages_build.py [--models 150] [--cards 300] [--jobs 2] [--results results] [--base-url URL]

Prints one line a measurement with wall seconds, CPU seconds and the memory of the largest process. Each build is a
fresh process, as `fitcheck site build` is, so imports count. Without ``--results`` no record is there at first;
``--base-url`` adds the JSON twins and share pictures of a published site.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = (
    "import sys; import fitcheck.cli; from pathlib import Path; from fitcheck.pages import build;"
    "from fitcheck.pages.site_inputs import gather;"
    "results, out, cards, jobs, models, url = sys.argv[1:];"
    "o = build.build(gather(Path(results), cards, url, models, out=Path(out)), Path(out), int(jobs));"
    "print(o.pages, o.drawn, o.documents, o.written, o.size)"
)


def build(folder: Path, asked: argparse.Namespace, models: str, what: str) -> None:
    start = time.perf_counter()
    words = [str(folder / "results"), str(folder / "out"), str(asked.cards), str(asked.jobs), models, asked.base_url]
    done = subprocess.Popen([sys.executable, "-c", RUN, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.stdout is not None
    said = done.stdout.read()
    _, status, used = os.wait4(done.pid, 0)
    assert status == 0, f"the build ended with status {status}"
    wall, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime
    pages, drawn, documents, written, size = map(int, said.split())
    print(
        f"{what:24} wall {wall:6.2f} s  cpu {cpu:6.2f} s  largest process {used.ru_maxrss / 1e6:.2f} GB  "
        f"{pages} pages, {drawn} drawn, {documents} answers computed, {written} files written, {size / 1e6:.1f} MB",
        flush=True,
    )


def chosen(count: int) -> str:
    """So many models, the most wanted first."""
    from fitcheck.models import catalog
    from fitcheck.pages.site_inputs import wanted_models

    return ",".join(list(dict.fromkeys((*wanted_models(), *catalog.slugs())))[:count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=150)
    parser.add_argument("--cards", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=None)
    parser.add_argument("--base-url", default="http://localhost:8000/")
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from fitcheck.pages.site_inputs import gather
    from fitcheck.records import store
    from tests.pages.records import passed

    with tempfile.TemporaryDirectory() as name:
        folder, models = Path(name), chosen(asked.models)
        if asked.results is None:
            (folder / "results").mkdir()
        else:
            shutil.copytree(asked.results, folder / "results")
        build(folder, asked, models, "from scratch")
        build(folder, asked, models, "nothing changed")
        card = gather(None, str(asked.cards)).cards[asked.cards // 2]
        record = passed()
        assert record.card is not None
        here = record.model_copy(update={"card": record.card.model_copy(update={"slug": card.slug}), "id": None})
        store.write(folder / "results", store.seal(here))
        build(folder, asked, models, f"record of {card.slug}")
        found = (folder / "out/check").glob("*/*/index.html")
        found = (path for path in found if not path.parent.name.startswith("page-"))
        pages = sorted(found, key=lambda path: path.stat().st_size)
        lists = sorted((folder / "out").rglob("index.html"), key=lambda path: path.stat().st_size)
        print(f"largest /check/<model>/<card>/ {pages[-1].stat().st_size:,} bytes")
        print(f"largest page {lists[-1].relative_to(folder / 'out')} {lists[-1].stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
