"""llama-bench's rows from the package llama-cpp-python, for machines that have that and no llama-bench.

Understands the arguments driver.py gives. Rows go to stdout as JSON, llama.cpp's own log to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from statistics import mean, stdev
from typing import Any

WARMUP_TOKENS = 8


def main() -> None:
    """Prints the rows as one JSON list and ends the process with 0; arguments it cannot serve end it with 2."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("-p", "512"), ("-n", "128"), ("-ctk", "f16"), ("-ctv", "f16"), ("-o", "json"), ("-fa", "")):
        parser.add_argument(name, default=default)
    for name, number in (("-r", 3), ("-b", 2048), ("-ub", 512), ("-ngl", -1), ("-ncmoe", 0), ("-nkvo", 0)):
        parser.add_argument(name, type=int, default=number)
    parser.add_argument("-m", required=True)
    parser.add_argument("-v", action="store_true")
    given = parser.parse_args()
    if given.ncmoe:
        parser.error("llama-cpp-python cannot keep experts on the host; use llama-bench for --n-cpu-moe")
    tests = [(int(count), 0) for count in given.p.split(",") if int(count)]
    tests += [(0, int(count)) for count in given.n.split(",") if int(count)]
    with contextlib.redirect_stdout(sys.stderr):
        rows = [_row(given, prompt, new) for prompt, new in tests]
    print(json.dumps(rows), flush=True)
    # the library frees its cards at exit and may take long over it; everything is said by now
    os._exit(0)


def _row(given: argparse.Namespace, prompt: int, new: int) -> dict[str, Any]:
    import llama_cpp

    types = {name.removeprefix("GGML_TYPE_").lower(): getattr(llama_cpp, name) for name in dir(llama_cpp)
             if name.startswith("GGML_TYPE_")}  # fmt: skip
    model: Any = llama_cpp.Llama(
        given.m,
        n_ctx=prompt + new or 1,
        n_batch=given.b,
        n_ubatch=given.ub,
        n_gpu_layers=given.ngl,
        type_k=types[given.ctk],
        type_v=types[given.ctv],
        flash_attn=given.fa == "1",
        offload_kqv=not given.nkvo,
        verbose=True,
    )
    tokens = [model.token_bos() if model.token_bos() >= 0 else 1] * max(prompt, 1)
    speeds = []
    for turn in range(given.r + 1):
        model.reset()
        if new:
            model.eval(tokens[:1])
        started = time.perf_counter()
        count = prompt if prompt else (new if turn else min(new, WARMUP_TOKENS))
        if prompt:
            model.eval(tokens)
        else:
            for _ in range(count):
                model.eval(tokens[:1])
        if turn:
            speeds.append(count / (time.perf_counter() - started))
    model.close()
    return {
        "build_commit": "unknown",
        "model_filename": given.m,
        "model_type": "",
        "backends": "CUDA" if llama_cpp.llama_supports_gpu_offload() else "CPU",
        "n_gpu_layers": given.ngl,
        "n_cpu_moe": 0,
        "n_batch": given.b,
        "n_ubatch": given.ub,
        "n_threads": model.n_threads,
        "type_k": given.ctk,
        "type_v": given.ctv,
        "flash_attn": {"1": True, "0": False}.get(given.fa, False),
        "no_kv_offload": bool(given.nkvo),
        "n_prompt": prompt,
        "n_gen": new,
        "n_depth": 0,
        "avg_ts": mean(speeds),
        "stddev_ts": stdev(speeds) if len(speeds) > 1 else 0.0,
        "samples_ts": speeds,
    }


if __name__ == "__main__":
    main()
