"""``fitcheck bench``: timed passes on this machine's card, the smallest card by bisection, link rates, any program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fitcheck.cli import bench_exec, bench_link
from fitcheck.cli.bench_options import Cells, cells_command, say_where
from fitcheck.cli.consoles import console
from fitcheck.cli.grouped import QuickGroup
from fitcheck.cli.html import write_records
from fitcheck.cli.printable import one_line
from fitcheck.errors import InputError, OptionError
from fitcheck.units import parse_memory

if TYPE_CHECKING:
    from bench.engines.base import Driver, FromOutside

# what a program that is measured from outside has a use for, beside the options of its runtime
_FROM_OUTSIDE = {"model", "repeats", "out", "html"}


def register(app: typer.Typer) -> None:
    """Adds the group ``fitcheck bench`` with ``run``, ``limit``, ``link`` and ``exec``."""
    bench = typer.Typer(
        cls=QuickGroup,
        no_args_is_help=True,
        help="Measure on this machine: timed passes, the smallest card, link rates, any program.",
    )
    _register_run(bench)
    _register_limit(bench)
    bench_link.register(bench)
    bench_exec.register(bench)
    app.add_typer(bench, name="bench")


def _register_run(bench: typer.Typer) -> None:
    @cells_command(bench, search=False)
    def run(
        cells: Cells,
        context: typer.Context,
        vram: Annotated[
            str | None, typer.Option(help="Run as if the card had this much memory, context included, like 12GB.")
        ] = None,
        repeats: Annotated[int, typer.Option(min=1, max=100, help="Timed passes of each cell.")] = 3,
        warmup: Annotated[int, typer.Option(min=0, max=20, help="Passes before the timed ones.")] = 1,
        quick: Annotated[
            bool, typer.Option("--quick", help="One timed pass without warm-up: a look, not a measurement.")
        ] = False,
        tiny: Annotated[
            bool,
            typer.Option("--tiny", help="A scaled-down model that shows that the bench works and measures nothing."),
        ] = False,
        device: Annotated[str, typer.Option(help="cuda, or cpu together with --tiny.")] = "cuda",
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print the cells and what they should need; run nothing.")
        ] = False,
        html: Annotated[
            Path | None, typer.Option("--html", help="Also write the records as one page to this file.")
        ] = None,
    ) -> None:
        """Time real passes of MODEL, each cell in a fresh process, and keep one record a cell.

        The table at the end shows what was measured with (what was predicted, the prediction's error). A GGUF file of
        a language model in place of MODEL is run by the llama.cpp that is installed here.
        """
        from bench.engines import registry
        from bench.jobs import jobs_of
        from bench.results_table import print_plan, print_table
        from bench.runner import MeasuringProtocol
        from bench.suite import Setting, default_out, run_suite

        whole = registry.taking(cells.model)
        if whole is not None:
            _refuse_unheard(context, cells, whole)
            _run_from_outside(whole, cells, repeats, html)
            return
        jobs = jobs_of(cells.request(tiny=tiny, device=device))
        cap = parse_memory(vram, "--vram") if vram else None
        if cap is not None and device == "cpu":
            raise OptionError("--vram caps a card's memory; leave it out with --device cpu.")
        protocol = MeasuringProtocol(
            repeats=1 if quick else repeats, warmup=0 if quick else warmup, cap=cap, hang_seconds=cells.patience
        )
        if dry_run:
            print_plan(_predictions(jobs, cap, protocol.warmup > 0), cap, console())
            return
        setting = Setting(default_out(tiny, cells.out), protocol, device, cells.available, cells.force)
        notes = console(stderr=True)
        summary = run_suite(jobs, setting, notes)
        if summary.rows:
            print_table(summary.rows, console())
        say_where(notes, summary.paths)
        if html is not None:
            write_records([row.record for row in summary.rows], html)
        raise typer.Exit(summary.exit_code)


def _register_limit(bench: typer.Typer) -> None:
    @cells_command(bench, search=True)
    def limit(
        cells: Cells,
        resolution: Annotated[str, typer.Option(help="Stop when the answer is this well known.")] = "128MiB",
        device: Annotated[str, typer.Option(hidden=True)] = "cuda",
    ) -> None:
        """Find the smallest card on which each cell still runs, by bisection over a memory cap.

        Each probe is a fresh process with one pass of at most two denoising steps: the peak does not depend on them.
        """
        from bench.assemble import record_of
        from bench.jobs import jobs_of, label
        from bench.limit import find_limit
        from bench.preflight import card_findings, require_folder
        from bench.runner import MeasuringProtocol
        from bench.suite import bench_card, default_out, require_room
        from fitcheck.records import store
        from fitcheck.units import format_gib

        request = cells.request(search=True)
        if device != "cuda":
            raise OptionError("bench limit: only a GPU's memory can be capped; run it on a machine with one.")
        jobs = jobs_of(request)
        folder = default_out(False, cells.out)
        step = parse_memory(resolution, "--resolution")
        protocol = MeasuringProtocol(hang_seconds=cells.patience)
        available = cells.available
        notes, shown = console(stderr=True), console()
        paths: list[Path] = []
        failed: list[InputError] = []
        with bench_card(device, notes) as card:
            if folder is not None:  # behind the other refusals, so that none of them leaves an empty folder
                require_folder(folder)
            for finding in card_findings(card) if card else ():
                notes.print(f"warning: {finding.text}", soft_wrap=True)
            for job in jobs:
                try:
                    require_room(job, card, available, cells.force)
                    notes.print(f"{label(job)}:")
                    found = find_limit(job, protocol, card, _probing(card, notes), step)
                except InputError as error:  # one cell that does not run says nothing about the others
                    failed.append(error)
                    if len(jobs) > 1:
                        notes.print(f"{label(job)}: not searched; {error}", soft_wrap=True)
                    continue
                if found.works is None:
                    shown.print(f"{label(job)}: does not run on this card")
                else:
                    below = "" if found.fails is None else f", out of memory with {format_gib(found.fails, 2)}"
                    shown.print(
                        f"{label(job)}: runs with {format_gib(found.works, 2)}{below} "
                        f"({len(found.probes) + 1} processes)"
                    )
                if folder is not None:
                    paths.append(store.write(folder, store.seal(record_of(found.run, card, found.limit))))
        say_where(notes, paths)
        if len(failed) == len(jobs):
            raise failed[0]
        raise typer.Exit(1 if failed else 0)


def _refuse_unheard(context: typer.Context, cells: Cells, driver: Driver) -> None:
    """Raises OptionError for an option that a program measured from outside would leave unheard."""
    from fitcheck.runtimes import registry as runtimes
    from fitcheck.runtimes.options import declared, flag

    options = [name for name in declared(runtimes.get(driver.name).options) if name not in driver.unheard]
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE" or parameter.name in (*_FROM_OUTSIDE, *options):
            continue
        heard = ", ".join([*map(flag, options), "--repeats", "--out"])
        raise OptionError(f"{parameter.opts[0]}: {driver.alone}; it takes {heard} and --html alone.")


def _run_from_outside(driver: Driver, cells: Cells, repeats: int, html: Path | None) -> None:
    """A program of its own: its memory as it prints it beside the estimate, and its rates."""
    from bench.lock import bench_lock
    from bench.meters.nvml import NvmlCard, visible_selector
    from bench.preflight import require_folder
    from fitcheck.records import store

    root = cells.out or store.local_root()
    require_folder(root)
    card = NvmlCard.open(visible_selector())
    with bench_lock():
        done = driver.measure(Path(cells.model), cells.request(), repeats, card, root)
    _show_from_outside(done)
    if done.remark is not None:
        print(one_line(done.remark), file=sys.stderr)
    say_where(console(stderr=True), [store.write(root, record) for record in done.records])
    if html is not None:
        write_records(done.records, html)


def _show_from_outside(done: FromOutside) -> None:
    from rich.table import Table

    shown = console()
    table = Table("buffer", "printed MiB", "predicted MiB", "error", box=None, pad_edge=False)
    for one in done.compared:
        table.add_row(one.name, f"{one.printed:.2f}", f"{one.predicted:.2f}", f"{one.error:+.2%}")
    shown.print(table)
    for record in done.records:
        for rate in record.rates or ():
            test = f"prompt of {rate.prompt_tokens}" if rate.prompt_tokens else f"{rate.new_tokens} new tokens"
            shown.print(f"{test}: {rate.mean:.1f} tokens a second")


def _predictions(jobs: Any, cap: int | None, warm: bool) -> list[Any]:
    from bench.meters import NvmlCard
    from bench.meters.nvml import visible_selector
    from bench.predict import machine_seen, predict

    machine = machine_seen(NvmlCard.open(visible_selector()), cap)
    return [(job, predict(job, machine, warm)) for job in jobs]


def _probing(card: Any, notes: Any) -> Any:
    from bench.runner import run_cell
    from fitcheck.units import format_gib

    def run(job: Any, protocol: Any) -> Any:
        result = run_cell(job, protocol, card)
        cap = "uncapped" if protocol.cap is None else format_gib(protocol.cap, 2)
        notes.print(f"  {cap}: {result.outcome}")
        return result

    return run
