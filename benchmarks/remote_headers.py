"""What reading headers costs: local files, and remote ones through a stand-in hub on this machine.

    python benchmarks/remote_headers.py [--json]

Each remote case runs in a process of its own with an empty cache, so that its peak memory is its own. The stand-in is
another process. Bars: a dense 7B within 3 MB fetched, 1 s plus round trips and 300 MB of memory; the 1,116 tensors of
SenseNova-U1-8B locally within 50 ms. Exits with 1 when one of them is missed.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models"))
from gguf_files import STRING, U16, Head, gguf, language_model, pair
from standin_hub import Blob, StandInHub

ROUND_TRIP = 0.05
REPEATS = 5
BARS = {
    "MB fetched, dense 7B": 3.0,
    "seconds without round trips": 1.0,
    "peak MB": 300.0,
    "local ms, 1,116 tensors": 50.0,
}


def models() -> dict[str, dict[str, Head]]:
    """Repositories by name: vocabularies and merges of the real families, dense and mixture, one file and shards."""
    big = language_model(61, 7168, 2048, 7168, 129_280, 127_741, experts=256, type_name="Q4_K")
    return {
        "7B-32k-vocabulary": {"m-Q4_K_M.gguf": language_model(32, 4096, 11008, 4096, 32_000, 0)},
        "7B-152k-vocabulary": {"m-Q4_K_M.gguf": language_model(28, 3584, 18944, 512, 151_936, 151_387)},
        "8B-128k-vocabulary": {"m-Q4_K_M.gguf": language_model(32, 4096, 14336, 1024, 128_256, 280_147)},
        "70B": {"m-Q4_K_M.gguf": language_model(80, 8192, 28672, 1024, 128_256, 280_147)},
        "400B-mixture": {"m-Q4_K_M.gguf": big},
        "400B-in-9-shards": shards(9),
        "7B-8-tiers": {
            f"m-{name}.gguf": language_model(28, 3584, 18944, 512, 151_936, 151_387, type_name=name)
            for name in ("Q2_K", "Q3_K", "Q4_0", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0")
        },
    }


def shards(count: int) -> dict[str, Head]:
    """A 400B-class set as gguf-split writes it: the tokenizer in the first file, tensors spread over all."""
    made = {}
    for number in range(count):
        extra = [pair("split.no", U16, number), pair("split.count", U16, count)]
        name = f"m-Q4_K_M-{number + 1:05d}-of-{count:05d}.gguf"
        if number == 0:
            made[name] = language_model(1, 7168, 2048, 7168, 129_280, 127_741, experts=256, extra=extra)
            continue
        rows = [(f"blk.{number * 8 + n}.ffn_up_exps.weight", (256, 2048, 7168), "Q4_K") for n in range(8)]
        made[name] = gguf([*extra, pair("general.architecture", STRING, "llama")], rows)
    return made


def serve(repositories: dict[str, dict[str, Head]], delay: float, channel: Connection) -> None:
    """The stand-in hub in its own process; answers the number of requests when asked, stops at None."""
    files = {
        f"org/{name}": {path: Blob(head.data, head.size) for path, head in heads.items()}
        for name, heads in repositories.items()
    }
    with StandInHub(files, delay=delay) as hub:
        channel.send(hub.url)
        while channel.recv() is not None:
            channel.send(len(hub.requests))


def read_remote(url: str, target: str, cache: Path | None, channel: Connection) -> None:
    """One cold read in a fresh process: seconds, bytes, requests, peak memory."""
    from fitcheck.models.hub import HubSettings
    from fitcheck.models.resolve import resolve

    started, worked = time.perf_counter(), time.process_time()
    with resolve(target, settings=HubSettings(endpoint=url, cache=cache)) as found:
        tiers = found.tiers()
        assert found.traffic is not None
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
        channel.send(
            {
                "seconds": seconds,
                "processor seconds": worked,
                "MB fetched": found.traffic.fetched_bytes / 1e6,
                "requests": found.traffic.requests,
                "tiers": len(tiers),
                "tensors": len(tiers[0].tensors),
                "GB": sum(tier.disk_bytes for tier in tiers) / 1e9,
                "peak MB": peak_bytes() / 1e6,
            }
        )


def peak_bytes() -> int:
    """Peak resident memory of this process. getrusage would count the parent's, from before the exec."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def in_fresh_process(work: Callable[..., None], *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(*arguments, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def read_local(path: Path) -> float:
    """Median milliseconds to read the header of a local file."""
    from fitcheck.models.gguf import read_gguf

    times = []
    for _ in range(2 * REPEATS + 1):
        started = time.perf_counter()
        read_gguf(path)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def local(folder: Path) -> dict[str, float]:
    from fitcheck.models import catalog

    tier = catalog.get("sensenova-u1-8b-mot").tier("Q4_K_S")
    assert tier is not None
    rows = [(tensor.name, tensor.shape, tensor.type) for tensor in tier.tensors]
    sensenova = gguf([pair("general.architecture", STRING, "sensenova")], rows).write(folder / "u1.gguf")
    dense = language_model(28, 3584, 18944, 512, 151_936, 151_387).write(folder / "7b.gguf")
    return {f"local ms, {len(rows):,} tensors": read_local(sensenova), "local ms, dense 7B": read_local(dense)}


def remote(delay: float, repositories: dict[str, dict[str, Head]]) -> dict[str, dict[str, float]]:
    """Medians over cold reads of each repository, and one read with a warm cache."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(repositories, delay, theirs))
    server.start()
    url = ours.recv()
    try:
        results = {}
        for name, heads in repositories.items():
            runs = [in_fresh_process(read_remote, url, f"org/{name}", None) for _ in range(REPEATS)]
            results[name] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            with tempfile.TemporaryDirectory() as cache:
                warm = [in_fresh_process(read_remote, url, f"org/{name}", Path(cache)) for _ in range(2)][1]
            results[name] |= {
                "MB of headers": sum(len(head.data) for head in heads.values()) / 1e6,
                "seconds, cached": warm["seconds"],
                "MB fetched, cached": warm["MB fetched"],
            }
        return results
    finally:
        ours.send(None)
        server.join()


def missed(results: dict[str, dict[str, float]], locally: dict[str, float]) -> list[str]:
    """The bars that do not hold, in words."""
    found = []
    for name, row in results.items():
        if name.startswith(("7B-32k", "7B-152k")) and row["MB fetched"] > BARS["MB fetched, dense 7B"]:
            found.append(f"{name}: {row['MB fetched']:.2f} MB fetched")
        if row["tiers"] == 1 and row["seconds"] > BARS["seconds without round trips"]:
            found.append(f"{name}: {row['seconds']:.2f} s")
        if row["peak MB"] > BARS["peak MB"]:
            found.append(f"{name}: {row['peak MB']:.0f} MB of memory")
    key = "local ms, 1,116 tensors"
    if locally[key] > BARS[key]:
        found.append(f"{key}: {locally[key]:.0f}")
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        locally = local(Path(folder))
    repositories = models()
    results = remote(0.0, repositories)
    far = remote(ROUND_TRIP, {name: heads for name, heads in repositories.items() if name.startswith("7B-")})
    problems = missed(results, locally)
    if "--json" in sys.argv:
        document = {"local": locally, "remote": results, "with round trips": far, "bars": BARS, "missed": problems}
        print(json.dumps(document, indent=2))
        return bool(problems)
    for name, milliseconds in locally.items():
        print(f"{name}: {milliseconds:.1f}")
    keys = (
        *("MB of headers", "MB fetched", "requests", "seconds", "processor seconds", "peak MB"),
        *("seconds, cached", "MB fetched, cached", "tiers", "tensors", "GB"),
    )
    print("\n" + " | ".join(("repository", *keys)))
    for name, row in results.items():
        print(" | ".join((name, *(f"{row[key]:.4g}" for key in keys))))
    print(f"\nwith {1e3 * ROUND_TRIP:.0f} ms before each answer:")
    for name, row in far.items():
        print(f"{name}: {row['seconds']:.2f} s in {row['requests']:.0f} requests, again {row['seconds, cached']:.2f} s")
    print("\nmissed: " + "; ".join(problems) if problems else "\nevery bar holds")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
