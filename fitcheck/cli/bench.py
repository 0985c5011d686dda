"""``fitcheck bench``: timed passes on this machine's card, the smallest card by bisection, link rates, any program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fitcheck.cli.html import write_records
from fitcheck.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from bench.plan import Request

bench = typer.Typer(
    no_args_is_help=True, help="Measure on this machine: timed passes, the smallest card, link rates, any program."
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A catalog model, like sensenova-u1-8b-mot.")]
Tiers = Annotated[str, typer.Option("--tier", help="Quant tiers, separated by commas. Default: the model's first.")]
Modes = Annotated[str, typer.Option("--mode", help="Offload modes, separated by commas: full, fast, balanced, low.")]
Policies = Annotated[str, typer.Option("--policy", help="Streaming policies, separated by commas: upstream, ring.")]
Tasks = Annotated[str, typer.Option("--task", help="Tasks, separated by commas: t2i, editing, interleave, vqa.")]
Revision = Annotated[str | None, typer.Option(help="Upstream revision whose placement is run. Default: the newest.")]
Size = Annotated[str | None, typer.Option(help="Image size, WIDTHxHEIGHT.")]
Steps = Annotated[int, typer.Option(help="Denoising steps.")]
Cfg = Annotated[float, typer.Option(help="Guidance scale; above 1 each step runs two forwards.")]
Reference = Annotated[
    list[str] | None, typer.Option("--reference", help="Size of an image handed in, WIDTHxHEIGHT; once an image.")
]
Images = Annotated[int, typer.Option(help="Images of an interleaved answer.")]
NewTokens = Annotated[int | None, typer.Option(help="Tokens to generate (vqa, interleave).")]
Gguf = Annotated[
    Path | None, typer.Option(help="A real weights file; otherwise weights are synthetic, of true shapes and types.")
]
Tiny = Annotated[
    bool, typer.Option("--tiny", help="A scaled-down model that shows that the bench works and measures nothing.")
]
Device = Annotated[str, typer.Option(help="cuda, or cpu together with --tiny.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the records. Default: your own record folder.")]
Ram = Annotated[
    str | None, typer.Option(help="System memory to reckon with, where the system shows too little, like 120GB.")
]
Force = Annotated[bool, typer.Option("--force", help="Run although the preflight refuses.")]
Hang = Annotated[float, typer.Option(help="Seconds without progress after which a cell is ended.")]
Seed = Annotated[int, typer.Option(help="Seed of synthetic weights and noise.")]


# what a language model's file has a use for; llama.cpp chooses the rest
_FILE_OPTIONS = {"model", "repeats", "out", "html"}


@bench.command()
def run(
    context: typer.Context,
    model: Model,
    tier: Tiers = "",
    mode: Modes = "full",
    policy: Policies = "upstream",
    task: Tasks = "t2i",
    revision: Revision = None,
    size: Size = None,
    steps: Steps = 8,
    cfg: Cfg = 1.0,
    reference: Reference = None,
    images: Images = 1,
    new_tokens: NewTokens = None,
    gguf: Gguf = None,
    vram: Annotated[
        str | None, typer.Option(help="Run as if the card had this much memory, context included, like 12GB.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Timed passes of each cell.")] = 3,
    warmup: Annotated[int, typer.Option(min=0, max=20, help="Passes before the timed ones.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="One timed pass without warm-up: a look, not a measurement.")
    ] = False,
    tiny: Tiny = False,
    device: Device = "cuda",
    seed: Seed = 0,
    out: Out = None,
    ram: Ram = None,
    force: Force = False,
    hang_seconds: Hang = 300.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and what they should need; run nothing.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write the records as one page to this file.")
    ] = None,
) -> None:
    """Time real passes of MODEL, each cell in a fresh process, and keep one record a cell.

    The table at the end shows what was measured with (what was predicted, the prediction's error). A GGUF file of a
    language model in place of MODEL is run by the llama.cpp that is installed here.
    """
    if model.lower().endswith(".gguf"):
        _refuse_others(context)
        _run_file(Path(model), repeats, out, html)
        return
    from rich.console import Console

    from bench.plan import cells_of
    from bench.report import print_plan, print_table
    from bench.runner import Protocol
    from bench.suite import Setting, default_out, run_suite
    from fitcheck.units import parse_memory

    request = _request(
        model,
        tier,
        mode,
        policy,
        task,
        revision,
        size,
        steps,
        cfg,
        reference,
        images,
        new_tokens,
        gguf,
        tiny,
        device,
        seed,
    )
    cells = cells_of(request)
    cap = parse_memory(vram, "--vram") if vram else None
    if cap is not None and device == "cpu":
        raise InputError("--vram caps a card's memory; leave it out with --device cpu.")
    protocol = Protocol(
        repeats=1 if quick else repeats, warmup=0 if quick else warmup, cap=cap, hang_seconds=_seconds(hang_seconds)
    )
    stdout = _stdout()
    if dry_run:
        print_plan(_predictions(cells, cap, protocol.warmup > 0), cap, stdout)
        return
    setting = Setting(default_out(tiny, out), protocol, device, parse_memory(ram, "--ram") if ram else None, force)
    console = Console(stderr=True, highlight=False)
    summary = run_suite(cells, setting, console)
    if summary.rows:
        print_table(summary.rows, stdout)
    _say_where(console, summary.paths)
    if html is not None:
        write_records([row.record for row in summary.rows], html)
    raise typer.Exit(summary.exit_code)


@bench.command()
def limit(
    model: Model,
    tier: Tiers = "",
    mode: Modes = "low",
    policy: Policies = "upstream",
    task: Tasks = "t2i",
    revision: Revision = None,
    size: Size = None,
    steps: Steps = 8,
    cfg: Cfg = 1.0,
    reference: Reference = None,
    images: Images = 1,
    new_tokens: NewTokens = None,
    gguf: Gguf = None,
    resolution: Annotated[str, typer.Option(help="Stop when the answer is this well known.")] = "128MiB",
    device: Annotated[str, typer.Option(hidden=True)] = "cuda",
    seed: Seed = 0,
    out: Out = None,
    ram: Ram = None,
    force: Force = False,
    hang_seconds: Hang = 300.0,
) -> None:
    """Find the smallest card on which each cell still runs, by bisection over a memory cap.

    Each probe is a fresh process with one pass of at most two denoising steps: the peak does not depend on them.
    """
    from rich.console import Console

    from bench.assemble import record_of
    from bench.limit import find_limit
    from bench.plan import cells_of, label
    from bench.preflight import card_findings, require_folder
    from bench.runner import Protocol
    from bench.suite import bench_card, default_out, require_room
    from fitcheck.records import store
    from fitcheck.units import format_gib, parse_memory

    request = _request(
        model,
        tier,
        mode,
        policy,
        task,
        revision,
        size,
        steps,
        cfg,
        reference,
        images,
        new_tokens,
        gguf,
        False,
        device,
        seed,
    )
    if device != "cuda":
        raise InputError("bench limit: only a GPU's memory can be capped; run it on a machine with one.")
    cells = cells_of(request)
    folder = default_out(False, out)
    step = parse_memory(resolution, "--resolution")
    protocol = Protocol(hang_seconds=_seconds(hang_seconds))
    available = parse_memory(ram, "--ram") if ram else None
    console, stdout = Console(stderr=True, highlight=False), _stdout()
    paths: list[Path] = []
    failed = []
    with bench_card(device, console) as card:
        if folder is not None:  # behind the other refusals, so that none of them leaves an empty folder
            require_folder(folder)
        for finding in card_findings(card) if card else ():
            console.print(f"warning: {finding.text}", markup=False, soft_wrap=True)
        for cell in cells:
            try:
                require_room(cell, card, available, force)
                console.print(f"{label(cell)}:", markup=False)
                found = find_limit(cell, protocol, card, _probing(card, console), step)
            except InputError as error:  # one cell that does not run says nothing about the others
                failed.append(str(error))
                if len(cells) > 1:
                    console.print(f"{label(cell)}: not searched; {error}", markup=False, soft_wrap=True)
                continue
            if found.works is None:
                stdout.print(f"{label(cell)}: does not run on this card")
            else:
                below = "" if found.fails is None else f", out of memory with {format_gib(found.fails, 2)}"
                stdout.print(
                    f"{label(cell)}: runs with {format_gib(found.works, 2)}{below} ({len(found.probes) + 1} processes)"
                )
            if folder is not None:
                paths.append(store.write(folder, store.seal(record_of(found.run, card, found.limit))))
    _say_where(console, paths)
    if len(failed) == len(cells):
        raise InputError(failed[0])
    raise typer.Exit(1 if failed else 0)


@bench.command()
def link(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and types.")] = False,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record.")] = False,
) -> None:
    """Measure the card alone: copies by block size, pinning, matrix products, dequantization, the context."""
    from rich.console import Console

    from bench.link import run_link
    from bench.link_report import print_link
    from bench.preflight import require_folder
    from bench.suite import bench_card, default_out
    from fitcheck.records import store

    console = Console(stderr=True, highlight=False)
    folder = default_out(False, out)
    with bench_card("cuda", console) as card:
        if folder is not None:
            require_folder(folder)
        record = store.seal(run_link(card, quick))
    paths = [] if folder is None else [store.write(folder, record)]
    if as_json:
        typer.echo(store.encode(record).decode(), nl=False)
    else:
        print_link(record, _stdout())
    _say_where(console, paths)
    if record.outcome.result != "ok":
        console.print(f"{record.outcome.result}: {record.outcome.message}", markup=False)
        raise typer.Exit(1)


@bench.command("exec", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def execute(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="The program and its arguments, after --.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call the program in the record. Default: its file name.")
    ] = None,
    out: Out = None,
) -> None:
    """Measure any program from outside: memory of its process tree and of the card, power, time, exit code.

    The program keeps this terminal; its exit code becomes this command's. The record does not hold its arguments.
    """
    from rich.console import Console

    from bench.external import resolve, run_external
    from bench.meters import NvmlCard
    from bench.meters.nvml import visible_selector
    from bench.preflight import card_findings, require_folder
    from bench.report import external_line
    from bench.suite import default_out
    from bench.unfinished import recover
    from fitcheck.records import store

    argv = resolve(command or [])
    folder = default_out(False, out)
    if folder is not None:
        require_folder(folder)
    console = Console(stderr=True, highlight=False)
    card = NvmlCard.open(visible_selector())
    if card is None:
        console.print("No GPU is visible here: host memory and time are measured alone.", markup=False)
    for finding in card_findings(card) if card else ():
        console.print(f"warning: {finding.text}", markup=False, soft_wrap=True)
    left = [] if folder is None else recover(folder)
    if left:
        console.print(f"{len(left)} records of runs that were killed are kept now.", markup=False)
    finished = run_external(argv, name, card, root=folder)
    record = store.seal(finished.record)
    console.print(external_line(record), markup=False, soft_wrap=True)
    _say_where(console, [*left, *([] if folder is None else [store.write(folder, record)])])
    finished.draft.drop()
    code = 130 if finished.interrupted else finished.code
    raise typer.Exit(128 - code if code < 0 else code)


def register(app: typer.Typer) -> None:
    app.add_typer(bench, name="bench")


def _request(
    model: str,
    tier: str,
    mode: str,
    policy: str,
    task: str,
    revision: str | None,
    size: str | None,
    steps: int,
    cfg: float,
    reference: list[str] | None,
    images: int,
    new_tokens: int | None,
    gguf: Path | None,
    tiny: bool,
    device: str,
    seed: int,
) -> Request:
    from bench.plan import Request
    from fitcheck.memory.placement import NEWEST_REVISION
    from fitcheck.units import parse_size

    return Request(
        model=model,
        tiers=_names(tier),
        modes=_names(mode),
        policies=_names(policy),
        tasks=_names(task),
        revision=revision or NEWEST_REVISION,
        size=parse_size(size, "--size") if size else None,
        steps=steps,
        cfg=cfg,
        references=tuple(parse_size(one, "--reference") for one in reference or ()),
        images=images,
        new_tokens=new_tokens,
        gguf=str(gguf) if gguf else None,
        device=device,
        tiny=tiny,
        seed=seed,
    )


def _refuse_others(context: typer.Context) -> None:
    """Raises InputError for an option that a run of a language model's file would leave unheard."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in _FILE_OPTIONS:
            raise InputError(
                f"{parameter.opts[0]}: a GGUF file of a language model is run as llama.cpp chooses; it takes "
                "--repeats, --out and --html alone."
            )


def _run_file(file: Path, repeats: int, out: Path | None, html: Path | None) -> None:
    """A language model through a real llama.cpp: its buffers as printed beside the estimate, and tokens per second."""
    from contextlib import nullcontext

    from rich.console import Console
    from rich.table import Table

    from bench.llamacpp import run_llamacpp
    from bench.lock import card_lock
    from bench.meters.nvml import NvmlCard, visible_selector
    from bench.preflight import require_folder
    from fitcheck.records import store

    root = out or store.local_root()
    require_folder(root)
    selector = visible_selector()
    card = NvmlCard.open(selector)
    with card_lock(card.uuid or selector, card.name or "this card") if card else nullcontext():
        done = run_llamacpp(file, repeats=repeats, card=card, root=root)
    stdout = _stdout()
    table = Table("buffer", "printed MiB", "predicted MiB", "error", box=None, pad_edge=False)
    for one in done.comparisons:
        table.add_row(one.kind, f"{one.printed:.2f}", f"{one.predicted:.2f}", f"{one.error:+.2%}")
    stdout.print(table)
    for record in done.records:
        for rate in record.rates or ():
            test = f"prompt of {rate.prompt_tokens}" if rate.prompt_tokens else f"{rate.new_tokens} new tokens"
            stdout.print(f"{test}: {rate.mean:.1f} tokens a second")
    _say_where(Console(stderr=True, highlight=False), [store.write(root, record) for record in done.records])
    if html is not None:
        write_records(done.records, html)


def _stdout() -> Console:
    """A pipe has no width of its own; tables get enough to stay on one line a cell."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def _seconds(hang: float) -> float:
    """Raises InputError for a time in which no process could say anything, and for what is no time."""
    if not 1 <= hang <= 86400:
        raise InputError(f"--hang-seconds: {hang:g} is out of range; give from 1 second to 86400, a day.")
    return hang


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _predictions(cells: Any, cap: int | None, warm: bool) -> list[Any]:
    from bench.meters import NvmlCard
    from bench.meters.nvml import visible_selector
    from bench.predict import CardView, predict

    view = CardView.of(NvmlCard.open(visible_selector()), cap)
    return [(cell, predict(cell, view, warm)) for cell in cells]


def _probing(card: Any, console: Any) -> Any:
    from bench.runner import run_cell
    from fitcheck.units import format_gib

    def run(cell: Any, protocol: Any) -> Any:
        result = run_cell(cell, protocol, card)
        cap = "uncapped" if protocol.cap is None else format_gib(protocol.cap, 2)
        console.print(f"  {cap}: {result.outcome}", markup=False)
        return result

    return run


def _say_where(console: Any, paths: list[Path]) -> None:
    if len(paths) == 1:
        console.print(f"record: {paths[0]}", markup=False, soft_wrap=True)
    elif paths:
        console.print(f"{len(paths)} records under {paths[0].parent.parent}", markup=False, soft_wrap=True)
