"""The `mmlab` command. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmlab.errors import InputError, MmlabError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

    from mmlab.results.result import Result

#: rows of a table that one takes in; a longer one is followed by its grid
GLANCE = 20

app = typer.Typer(
    help="A wind tunnel for Linux memory-management policies.\n\nRun an experiment on a simulated machine: "
    "**mmlab run experiments/first_look.toml**. Then open results/first_look/report.html.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
machine_app = typer.Typer(help="The simulated machine: ready-made ones, and copies of real ones.", no_args_is_help=True)
app.add_typer(machine_app, name="machine")

Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder for results; each experiment gets a folder in it.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=0, metavar="N", help="How many run at once; 0: as many as there are cores.")]


class Stopped(MmlabError):
    """Ctrl-C, with a word on what is kept."""

    exit_code = 130


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        import mmlab

        typer.echo(f"mmlab {mmlab.__version__}")
        raise typer.Exit()


@app.command(rich_help_panel="Experiments")
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml|SCRIPT.ops", help="An experiment, or one script on the default machine.")],
    jobs: Jobs = None,
    results: Results = Path("results"),
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the file; may be repeated.")] = None,
    check_every: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Check every invariant of the machine after N events (slow; finds bugs in policies)."),
    ] = None,
) -> None:
    """Run an experiment and write its report.

    Cells that are finished already are not run again, so after Ctrl-C or a change of the matrix the same command does what is missing.

    Examples:

    - mmlab run experiments/first_look.toml
    - mmlab run experiments/first_look.toml --set reclaimer.use=fifo --set seeds.count=10
    - mmlab run script.ops --set machine.preset=desktop-16g --check-every 100000
    """
    from rich.console import Console

    from mmlab.experiment.executor import Interrupted
    from mmlab.experiment.load import load_experiment
    from mmlab.experiment.run import describe_experiment, failure, run_experiment
    from mmlab.experiment.toml_file import read_set
    from mmlab.results.refused import refused

    changes = dict(read_set(item) for item in set_ or [])
    if check_every is not None:
        changes["run.check_every"] = check_every
    experiment = load_experiment(file, changes)
    console = Console(highlight=False)
    _print_plan(console, experiment.name, experiment.head.question, describe_experiment(experiment))
    try:
        result, outcome = run_experiment(experiment, results, jobs, console)
    except Interrupted as stop:
        done = len(experiment.cells) - stop.remaining
        raise Stopped(f"stopped: {done} cells are kept, {stop.remaining} remain; the same command goes on from here") from None
    if outcome.skipped:
        console.print(f"[dim]{outcome.skipped} of {len(experiment.cells)} cells were finished before[/dim]")
    if result is not None:
        _print_result(console, result)
        console.print(f"results: {result.folder}  report: {result.folder / 'report.html'}", soft_wrap=True)
        if len(experiment.cells) == 1:
            console.print(f"what the run left: {result.folder / 'cells' / experiment.cells[0].key}", soft_wrap=True)
        for text in refused([cell.result for cell in result.cells]):
            console.print(text, soft_wrap=True, style="yellow")
    if outcome.failed:
        raise failure(outcome)


@app.command(rich_help_panel="Experiments")
def mrc(
    trace: Annotated[str, typer.Argument(metavar="FILE|TRACE", help="A request stream, or the name of a recorded program.")],
    policy: Annotated[list[str] | None, typer.Option("--policy", "-p", metavar="NAME[:PARAM=V,...]", help="A reclaimer, with parameters; may be repeated; lru if left out.")] = None,
    sizes: Annotated[str, typer.Option(metavar="N,N,...", help="Objects in the cache, or shares of the trace's such as 0.1.")] = "",
    points: Annotated[int, typer.Option(min=2, max=1000, metavar="N", help="How many sizes where none are given.")] = 20,
    sample: Annotated[float, typer.Option(metavar="R", help="Take a share R of the objects (SHARDS): faster, with an error.")] = 1.0,
    samples: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many samples; their spread gives the error.")] = 5,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the samples, and of policies that draw lots.")] = 1,
    format_: Annotated[str, typer.Option("--format", metavar="F", help="oracleGeneral, csv, msr, vscsi, lackey, recorded, damo; by the ending if left out.")] = "",
    column: Annotated[list[str] | None, typer.Option(metavar="ROLE=COLUMN", help="Of a CSV file, such as object=key; may be repeated.")] = None,
    results: Results = Path("results"),
) -> None:
    """Miss-ratio curves: how often reclaimers miss at every size of a cache, as a table and a plot.

    lru's is exact for all sizes in one pass, so is opt's from 100 sizes on; else a policy is replayed once a size, which is exact too. With
    --sample R all are estimated from a share R of the objects, with their error: for traces too large for that.

    Examples:

    - mmlab mrc gcc -p lru -p sieve -p opt
    - mmlab mrc web.oracleGeneral.zst -p s3_fifo:small_size_ratio=0.2 --sample 0.01
    - mmlab mrc usr_0.csv --format msr --sizes 0.01,0.1,0.5
    """
    from attrs import evolve
    from rich.console import Console

    from mmlab._engine.mrc import default_sizes, exact_curve, sampled_curve
    from mmlab.experiment.toml_file import read_set
    from mmlab.pluginmanager import load_plugins
    from mmlab.results.mrc import curve_table, write_curves
    from mmlab.workload.request_readers import read_requests
    from mmlab.workload.traces import shipped

    if not 0 < sample <= 1:
        raise InputError(f"--sample: must be above 0 and at most 1, got {sample}")
    console = Console(highlight=False)
    chosen = {text: _policy_with_params(text) for text in policy or ["lru"]}
    entries = {text: (entry := load_plugins().get("reclaimer", name), entry.make_params(given, "reclaimer")) for text, (name, given) in chosen.items()}
    columns = dict(read_set(item, "--column", "object=key") for item in column or [])
    if trace not in shipped() and not Path(trace).exists():
        raise InputError(f"{trace}: no such file, nor a recorded program ({', '.join(shipped())}){did_you_mean(trace, shipped())}")
    requests = read_requests(shipped().get(trace, Path(trace)), format_, columns)
    wanted = _cache_sizes(sizes, requests.objects) if sizes else default_sizes(requests.objects, points)
    folder = results / f"mrc_{Path(trace).name.partition('.')[0]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: the results folder cannot be written: {error.strerror} (choose another with --results DIR)") from None
    console.print(f"{requests.meta['file']}: {len(requests):,} {requests.meta['unit']}, {requests.objects:,} different")
    found = []
    for text, (entry, params) in entries.items():
        if sample < 1:
            curve = sampled_curve(entry.policy, params, requests, wanted, sample, samples, seed)
        else:
            curve = exact_curve(entry.policy, params, requests, wanted, seed)
        found += [evolve(point, policy=text) for point in curve]
    _print_figures(console, *curve_table(found))
    how = f"sampled, {samples} samples of {sample:g} of the objects, with the standard error of their mean" if sample < 1 else "exact"
    page = write_curves(found, f"{requests.meta['file']}: {requests.meta['unit']} ({how})", folder)
    console.print(f"{how}; plot: {page}  table: {page.with_name('mrc.csv')}", soft_wrap=True)


def _policy_with_params(text: str) -> tuple[str, dict[str, Any]]:
    """`s3_fifo:small_size_ratio=0.2,ghost_size_ratio=2`: name and parameters."""
    from mmlab.experiment.toml_file import read_set

    name, _, params = text.partition(":")
    return name, dict(read_set(item, f"-p {name}:", "max_count=3") for item in params.split(",")) if params else {}


def _cache_sizes(text: str, objects: int) -> list[int]:
    """`100,0.5`: numbers of objects, and shares of all."""
    found = set()
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            value = 0.0
        if value <= 0 or (value >= 1 and value != int(value)):
            raise InputError(f"--sizes: must be whole numbers from 1 or shares below 1, with commas between, got {word!r}")
        found.add(max(1, round(value * objects)) if value < 1 else int(value))
    return sorted(found)


@app.command(rich_help_panel="Experiments")
def report(folder: Annotated[Path, typer.Argument(metavar="RESULTS_DIR", help="results/EXPERIMENT of an earlier run.")]) -> None:
    """Print the table of an earlier run and write its report.html again."""
    from rich.console import Console

    from mmlab.results.report import write_report
    from mmlab.results.result import Result

    result = Result(folder)
    console = Console(highlight=False)
    _print_result(console, result)
    console.print(f"report: {write_report(result)}", soft_wrap=True)


@app.command(rich_help_panel="Experiments")
def explain(
    folder: Annotated[Path, typer.Argument(metavar="RESULTS_DIR", help="results/EXPERIMENT of a run with [run] explain.")],
    cell: Annotated[str, typer.Option(help="Which run: its label, such as 'two_list', or the first digits of its key.")] = "",
    fate: Annotated[str, typer.Option(metavar="F", help="Only decisions that ended so: evicted, kept, activated, accessed.")] = "",
    page: Annotated[int | None, typer.Option(metavar="N", help="Only decisions about this page (or object).")] = None,
    decisions: Annotated[int, typer.Option("-n", min=1, metavar="N", help="How many, spread over the run.")] = 8,
) -> None:
    """Say why reclaim evicted pages or kept them: what the policy knew of each, and of others that stayed.

    Example: mmlab run FILE.toml --set run.explain=100, then mmlab explain results/FILE --cell mglru --fate evicted
    """
    from rich.console import Console

    from mmlab.results.explained import FATES, chosen_decisions, explained_table, meanings
    from mmlab.results.plotting import cell_named
    from mmlab.results.result import Result

    if fate and fate not in FATES:
        raise InputError(f"--fate: must be one of {', '.join(FATES)}, got {fate!r}{did_you_mean(fate, FATES)}")
    chosen = cell_named(Result(folder).cells, cell)
    rows = chosen_decisions(chosen, fate, page, decisions)
    if not rows:
        raise MmlabError("no decision of the sample is like that" if fate or page is not None else "reclaim decided nothing: memory was never short")
    console = Console(highlight=False)
    _print_rows(console, *explained_table(chosen, rows), folded=0)
    for name, text in meanings(chosen):
        console.print(f"[bold]{name}[/bold]: {text}", soft_wrap=True)


@app.command(rich_help_panel="Experiments")
def heatmap(
    folder: Annotated[Path, typer.Argument(metavar="RESULTS_DIR", help="results/EXPERIMENT of a run with [run] score_ms.")],
    cell: Annotated[str, typer.Option(help="Which run: its label, such as 'damon', or the first digits of its key.")] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to; .png, .svg or .pdf.")] = Path("heatmap.png"),
) -> None:
    """Draw what was accessed and what the monitor found, time by address."""
    from mmlab.results.monitor_figures import draw_heatmap
    from mmlab.results.plotting import cell_named
    from mmlab.results.result import Result

    chosen = cell_named(Result(folder).cells, cell)
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--out: must end in .png, .svg or .pdf, got {out.name!r}")
    draw_heatmap(chosen, out)
    typer.echo(str(out))


@app.command(rich_help_panel="Policies")
def plugins(slot: Annotated[str | None, typer.Option(metavar="SLOT", help="Only this slot's policies.")] = None) -> None:
    """List every policy: slot, name, version, summary, source. An asterisk marks the slot's default."""
    from rich.console import Console

    from mmlab.pluginmanager import load_plugins
    from mmlab.policies import DEFAULTS

    if slot is not None and slot not in DEFAULTS:
        raise InputError(f"--slot: no slot {slot!r} (known: {', '.join(DEFAULTS)}){did_you_mean(slot, DEFAULTS)}")
    chosen = [p for p in load_plugins().policies() if slot in (None, p.slot)]
    if not chosen:
        raise MmlabError(f"no installed plugin offers a {slot or 'policy'}; `pip install .` in a checkout brings mmlab's own")
    body = [
        [
            p.slot,
            p.name + (" *" if DEFAULTS[p.slot] == p.name else ""),
            f"{p.distribution} {p.version}",
            p.level,
            p.summary,
            _short(p.source),
        ]
        for p in chosen
    ]
    _print_rows(Console(highlight=False), ["slot", "policy", "from", "level", "summary", "source"], body)


@app.command(rich_help_panel="Policies")
def hooks(slot: Annotated[str | None, typer.Argument(metavar="[SLOT]", help="A slot; without it, all in brief.")] = None) -> None:
    """Print what a policy must offer: each slot's contract, and the hook that registers policies.

    Examples:

    - mmlab hooks
    - mmlab hooks reclaimer
    """
    from rich.console import Console

    from mmlab.abi import SLOTS

    console = Console(highlight=False, markup=False, soft_wrap=True)
    if slot is None:
        _print_hooks(console)
        return
    if slot == "cost_model":
        from mmlab.policies import CostModel

        console.print(f"cost_model\n\n{CostModel.__doc__}")
        return
    if slot not in SLOTS:
        known = [*SLOTS, "cost_model"]
        raise InputError(f"no slot {slot!r} (known: {', '.join(known)}){did_you_mean(slot, known)}")
    contract = SLOTS[slot]
    console.print(
        f"{slot}, version {contract.version} of the contract\n\n{contract.doc}\n\nEvery op takes (m, st, ...) and returns int64.\n"
    )
    for op in contract.ops:
        console.print(f"{op.name}({', '.join(('m', 'st', *op.args))}){'  [may be left out]' if op.optional else ''}")
        console.print(f"    {op.doc}\n    returns: {op.returns}\n    work: {op.bound}\n")


@app.command("new-plugin", rich_help_panel="Policies")
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The policy's name, such as my_clock.")],
    slot: Annotated[str, typer.Option(metavar="SLOT", help="The slot it is for.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the package's folder is made.")] = Path("."),
) -> None:
    """Make a package with a working policy and its tests, to start from.

    Example: mmlab new-plugin my_clock --slot reclaimer, then pip install -e ./mmlab_my_clock
    """
    from mmlab.newplugin import new_plugin as make

    made = make(name, slot, folder)
    typer.echo(f"made {made}; next: pip install -e {made}, then: mmlab plugins --slot {slot}")


@app.command(rich_help_panel="Fidelity")
def verify(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recorded cases, areas, or folders of areas.")],
    case: Annotated[str | None, typer.Option(metavar="NAME", help="Only the case of this name.")] = None,
    area: Annotated[str | None, typer.Option(metavar="A", help="Only this area.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show every figure with expected and got.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures as JSON.")] = None,
    jobs: Jobs = 1,
) -> None:
    """Run recorded cases of a real kernel in the simulator and compare the figures.

    Examples:

    - mmlab verify tests/ground_truth
    - mmlab verify tests/ground_truth --case fault-anon -v
    """
    from rich.console import Console

    from mmlab.simulation import simulate_case
    from mmlab.verify import find_cases, print_case, print_summary, write_json
    from mmlab.verify import verify as compare

    console = Console(highlight=False)
    found = find_cases(paths, area, case)
    report = compare(found, simulate_case, jobs or os.cpu_count() or 1, progress=lambda result: print_case(console, result, verbose))
    print_summary(console, report)
    if json is not None:
        write_json(report, json)


@app.command(rich_help_panel="Workloads", context_settings={"allow_interspersed_args": False})
def record(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The program and its arguments.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The trace to write; COMMAND's name when left out.")
    ] = None,
    filter_: Annotated[
        int, typer.Option("--filter", min=0, metavar="N", help="Drop accesses to one of the N latest pages; 0 keeps all.")
    ] = 64,
) -> None:
    """Record a real program's memory accesses under valgrind, as a trace to replay.

    Dropping accesses to the 64 latest pages keeps LRU misses exact for every memory of 64 pages or more.

    Example: mmlab record -o json.mmtrace -- python3 -c 'import json; json.loads("[1]" * 1)'
    """
    from mmlab.workload.record import record as record_command

    typer.echo(f"recorded {record_command(command, output, filter_)}")


@app.command(rich_help_panel="Workloads")
def traces() -> None:
    """List the recordings that come with mmlab, for [workload] trace = NAME."""
    from rich.console import Console

    from mmlab.workload.traces import shipped, shipped_allocations

    kinds = {"trace": shipped(), "allocations": shipped_allocations()}
    body = [[name, kind, f"{path.stat().st_size:,}", _short(str(path))] for kind, known in kinds.items() for name, path in known.items()]
    _print_rows(Console(highlight=False), ["trace", "kind", "bytes", "file"], body)


@machine_app.command("import")
def machine_import(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Copies of zoneinfo, buddyinfo, pagetypeinfo, meminfo, vmstat.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the [machine] table here, not to the screen.")
    ] = None,
) -> None:
    """Describe a real machine, its fragmentation included, from copies of its /proc files.

    Example: mkdir m; cp /proc/{zoneinfo,buddyinfo,meminfo,vmstat} m; sudo cp /proc/pagetypeinfo m; mmlab machine import m -o m.toml
    """
    from mmlab.machine import import_machine, machine_toml

    text = machine_toml(import_machine(folder))
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}") from None
    typer.echo(f"wrote {output}")


@machine_app.command("presets")
def machine_presets() -> None:
    """List the ready-made machines, for [machine] preset = NAME."""
    from rich.console import Console

    from mmlab.machine.presets import PRESETS

    body = [[name, ", ".join(f"{key} = {value}" for key, value in table.items())] for name, table in PRESETS.items()]
    _print_rows(Console(highlight=False), ["preset", "[machine]"], body)


@app.command(rich_help_panel="Development")
def bench(
    keyword: Annotated[str, typer.Option("-k", metavar="EXPR", help="Only benchmarks whose name matches, as for pytest -k.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="Print the names, run nothing.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write pytest-benchmark's figures of every round.")] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[-- PYTEST_OPTIONS...]", help="Handed on to pytest.")] = None,
) -> None:
    """Measure mmlab's speed beside C (gcc -O3), glibc, libcachesim and the kernel of this machine.

    mmlab and its reference take turns on one core; the table at the end shows medians of CPU time, their ratio, and the goal where there is
    one. Names hold the policies that a benchmark exercises, so `-k buddy` measures one policy. On a busy machine trust the ratios only, and
    run twice: the first run after a change compiles, and freshly compiled code is slower.

    Examples:

    - mmlab bench --list
    - mmlab bench -k fault_path
    - mmlab bench -k "maple_tree or sorted_array" --json vma.json
    - mmlab bench -k slub -- --benchmark-verbose
    """
    from mmlab.bench import list_benchmarks, run_benchmarks

    if list_:
        for name in list_benchmarks(keyword):
            typer.echo(name)
        return
    run_benchmarks(keyword, json, more or [])


@app.command(rich_help_panel="Development")
def cache(clear: Annotated[bool, typer.Option("--clear", help="Delete it; the next run compiles again.")] = False) -> None:
    """Show where compiled policies are kept and how much room they take."""
    import shutil

    from mmlab._engine.link import cache_folder

    folder = cache_folder()
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if clear:
        shutil.rmtree(folder, ignore_errors=True)
    typer.echo(f"{'cleared ' if clear else ''}{folder}: {len(files)} files, {size / 1e6:.1f} MB")


def _print_plan(console: Console, name: str, question: str, lines: list[tuple[str, str]]) -> None:
    from rich.table import Table

    console.print(f"[bold]{name}[/bold]  {question}")
    table = Table.grid(padding=(0, 2))
    for heading, text in lines:
        table.add_row(f"[dim]{heading}[/dim]", text)
    console.print(table)


def _print_rows(console: Console, titles: list[str], body: list[list[str]], folded: int = 2) -> None:
    """A table of texts. Only the last columns (folded: how many) may be folded; where they would get too narrow for that, they stand below
    their row. A table in which nothing may be folded is as wide as it has to be."""
    from rich import box
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    whole = max(1, len(titles) - folded)
    needed = sum(3 + max(len(row[i]) for row in [titles, *body]) for i in range(whole)) + 24 * (len(titles) - whole)
    if folded == 0:
        console.width = max(console.width, needed)
    fits = needed <= console.width
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(titles if fits else titles[:whole]):
        table.add_column(escape(title), no_wrap=index < whole, overflow="fold")
    if fits:
        for line in body:
            table.add_row(*map(escape, line))
        console.print(table)
        return
    for line in body:
        console.print("  ".join(escape(text) for text in line[:whole]), soft_wrap=True)
        for text in line[whole:]:
            console.print(Padding(escape(text), (0, 0, 0, 4)), overflow="fold")


def _print_result(console: Console, result: Result) -> None:
    """The table of all figures and, where that is more than one looks at, every policy under every condition in a few lines."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    _print_figures(console, *result.summary())
    grid = result.grid() if len(result.rows()) > GLANCE else None
    if grid is None:
        return
    titles, body = grid.table()
    titles = [title.replace(", ", "\n") for title in titles]
    widths = [3 + max(len(part) for row in (titles, *body) for part in row[i].split("\n")) for i in range(len(titles))]
    console.print(f"[bold]{grid.title}[/bold]")
    first = 1
    while first < len(titles):
        last = first + 1
        while last < len(titles) and widths[0] + sum(widths[first : last + 1]) <= console.width:
            last += 1
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i in (0, *range(first, last)):
            table.add_column(escape(titles[i]), justify="right" if i else "left", no_wrap=True)
        for line in body:
            table.add_row(*map(escape, (line[0], *line[first:last])))
        console.print(table)
        first = last


def _print_figures(console: Console, titles: list[str], body: list[list[str]]) -> None:
    """A table of numbers, never folded: on its side where it would be too wide for the terminal otherwise."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    lines = [[title.replace(" (", "\n(") for title in titles], *body]

    def width(rows: list[list[str]]) -> int:
        return sum(3 + max(len(part) for row in rows for part in row[i].split("\n")) for i in range(len(rows[0])))

    if width(lines) > console.width:
        sideways = [list(row) for row in zip(titles, *body, strict=True)]
        lines = min(lines, sideways, key=width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(lines[0]):
        table.add_column(escape(title), justify="right" if index else "left", no_wrap=True)
    for row in lines[1:]:
        table.add_row(*map(escape, row))
    Console(highlight=False, width=max(width(lines), console.width)).print(table)


def _print_hooks(console: Console) -> None:
    import inspect

    from mmlab import hookspecs
    from mmlab.abi import SLOTS

    for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("mmlab_"):
            console.print(f"{name}{inspect.signature(function)}\n\n{inspect.getdoc(function)}\n")
    console.print("Slots (`mmlab hooks SLOT` prints a slot's ops):\n")
    for slot, contract in SLOTS.items():
        console.print(f"{slot:<16}{len(contract.ops):>3} ops  {contract.doc}")
    console.print(f"{'cost_model':<16}{'':>3}      How much simulated time things take.")


def _short(path: str) -> str:
    try:
        return os.path.relpath(path) if not os.path.relpath(path).startswith("../..") else path
    except ValueError:
        return path


def main() -> None:
    """Run the command; errors become sentences and exit codes, never tracebacks (MMLAB_DEBUG=1 shows them)."""
    debug = bool(os.environ.get("MMLAB_DEBUG"))
    try:
        code = app(standalone_mode=False, prog_name="mmlab")
        if code == Stopped.exit_code:
            print("stopped", file=sys.stderr)
    except MmlabError as error:
        if debug:
            raise
        print(error, file=sys.stderr)
        code = error.exit_code
    except typer.Abort:
        code = 130
    except Exception as error:
        if debug:
            raise
        code = _usage_or_bug(error)
    sys.exit(code)


def _usage_or_bug(error: Exception) -> int:
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # the command line's own: an unknown option, a missing argument
        error.show()
        return 2
    print(f"mmlab failed: {type(error).__name__}: {error}\nThis is a bug in mmlab; MMLAB_DEBUG=1 shows where.", file=sys.stderr)
    return 1
