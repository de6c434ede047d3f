"""`report.html`: one self-contained page (plotly's script inlined once, nothing fetched) that says what was run and what came out."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmlab.results.cell_files import FinishedCell
from mmlab.results.explained import chosen_decisions, explained_table, meanings
from mmlab.results.figures import page_plots
from mmlab.results.overview import overview
from mmlab.results.plotting import COLOURS, name_of
from mmlab.results.result import Result, html_table
from mmlab.results.stats import Difference
from mmlab.results.summary import Column, Row, arm_axes, axis_title, cost_models, label, text_number, varying
from mmlab.results.trade_off import trade_offs

#: Choices of the other axes and the seed that a page offers plots of; all are in series.parquet.
BLOCKS = 16
#: kills of a run, and candidates of a kill, that the page shows.
KILLS, CANDIDATES = 5, 6
#: decisions of reclaim of a run that the page shows
DECISIONS = 4
#: what tells machines and workloads apart in a line
MACHINE_KEYS = ("preset", "import_dir", "memory", "nodes", "cpus")
WORKLOAD_KEYS = ("kind", "trace", "file", "script", "generator", "sources")
_HERE = Path(__file__).parent


def write_report(result: Result) -> Path:
    """Write report.html beside the tables, whole or not at all; its path."""
    path = result.folder / "report.html"
    temporary = path.with_name(".report.html.partial")
    temporary.write_text(report_html(result), encoding="utf-8")
    os.replace(temporary, path)
    return path


def report_html(result: Result) -> str:
    """The page as text."""
    about = result.about
    parts = {
        "TITLE": html.escape(about["experiment"]),
        "QUESTION": html.escape(about["question"] or about["experiment"]),
        "DESCRIPTION": html.escape(about["description"]),
        "FACTS": _facts(result),
        "WARNING": _warning(about),
        "POLICIES_TABLE": _policy_table(result.rows(), result.columns(), varying(result.cells), arm_axes(result.cells), cost_models(result.cells)),
        "OVERVIEW": _overview(result),
        "LEFT_OUT": _left_out(result.cells),
        "MONITORS": _monitors(result.cells),
        "KILLS": _kills(result.cells),
        "EXPLAINED": _explained(result.cells),
        "DIFFERENCES": _differences(result.differences(), result.cells),
        "CHOSEN": _chosen(about),
        "PROVENANCE": _provenance(about),
        "BLOCKS": json.dumps(_blocks(result.cells), separators=(",", ":")).replace("<", "\\u003c"),
        "STYLE": (_HERE / "report.css").read_text(encoding="utf-8"),
        "PLOTLY": _plotly_script(),
    }
    page = (_HERE / "report_template.html").read_text(encoding="utf-8")
    for name, text in parts.items():  # plotly's script comes last, so nothing in it is taken for a place to fill
        page = page.replace(f"<!--{name}-->", text)
    return page


def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _facts(result: Result) -> str:
    about, cells = result.about, result.cells
    resolved = about["resolved"]
    facts = [
        ("machine", describe(resolved.get("machine", {}), MACHINE_KEYS, "default")),
        ("workload", describe(resolved.get("workload", {}), WORKLOAD_KEYS, "varied")),
        ("events", "; ".join(dict.fromkeys(cell.result.meta.get("unit", "") for cell in cells))),
        ("time by", f"cost model {models}" if (models := cost_models(cells)) else ""),
        ("varied", ", ".join(about["axes"]) or "nothing"),
        ("seeds", _ranges(about["seeds"])),
        ("cells", str(len(about["cells"]))),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{html.escape(text)}</dd></div>" for name, text in facts if text)


def describe(table: dict[str, Any], keys: Sequence[str], nothing: str) -> str:
    """`1G, 2 CPUs`: the telling values of a table in one line."""

    def word(key: str) -> str:
        if key == "cpus":
            return f"{table[key]} CPU{'s' if table[key] != 1 else ''}"
        if key == "nodes":
            return "nodes of " + " and ".join(str(node.get("memory", "?")) for node in table[key])
        return ", ".join(table[key]) if key == "sources" else str(table[key])

    return ", ".join(word(k) for k in keys if table.get(k) not in (None, "", [], {})) or nothing


def _ranges(seeds: list[int]) -> str:
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _warning(about: dict[str, Any]) -> str:
    missing = len(about["missing"])
    if not missing:
        return ""
    return f'<p class="warning">{missing} of {missing + len(about["cells"])} cells are missing: the run was stopped, or they failed.</p>'


def _policy_table(rows: list[Row], columns: Sequence[Column], keys: list[str], arms: Sequence[str], cost_model: str) -> str:
    """Numbers with a bar behind each, as long as its part of the column's largest; the best under the same conditions in bold."""
    others = [key for key in keys if key not in arms]
    alike: dict[str, list[Row]] = {}
    for row in rows:
        alike.setdefault(row.label(others), []).append(row)
    titles = [f"{c.title} <small>({html.escape(cost_model)})</small>" if c.is_time else html.escape(c.title) for c in columns]
    head = "".join(f"<th>{t}</th>" for t in [html.escape(label_title(keys)), *titles, "events/s"])
    body = []
    for row in rows:
        cells = [f"<th scope=row>{html.escape(row.label(keys))}</th>"]
        for column in columns:
            value, top = row.values[column.title], max(_values(rows, column), default=0)
            share = 100 * value / top if value and top else 0
            best = value is not None and _is_best(value, _values(alike[row.label(others)], column), column)
            text = text_number(value, column.is_time)
            cells.append(f'<td{" class=best" if best else ""} style="--share:{share:.1f}%"><span>{text}</span></td>')
        cells.append(f"<td>{text_number(row.events_per_s)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table class=policies><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _values(rows: Sequence[Row], column: Column) -> list[float]:
    return [v for row in rows if (v := row.values[column.title]) is not None]


def _is_best(value: float, others: Sequence[float], column: Column) -> bool:
    """Among values that are not all the same."""
    return min(others) < max(others) and value == (max(others) if column.more_is_better else min(others))


def label_title(keys: Sequence[str]) -> str:
    """Title of the column of labels: `reclaimer` where reclaimers are compared."""
    return ", ".join(axis_title(key) for key in keys) or "run"


def _differences(found: list[Difference], cells: Sequence[FinishedCell]) -> str:
    if not found:
        return "<p>One policy was run: there is nothing to compare.</p>"
    head = "".join(
        f"<th>{t}</th>"
        for t in (label_title(arm_axes(cells)), "figure", "difference", "relative", "95 % interval", "p (Holm)", "effect", "runs", "")
    )
    telling: list[str] = []
    described: list[str] = []
    for d in found:
        if d.baseline_mean == 0 == d.mean:
            continue
        body = telling if d.tested and d.mean else described
        relative = "-" if d.relative is None else f"{100 * d.relative:+.1f} %"
        interval = "-" if d.low is None else f"{_signed(d.low, d.is_time)} to {_signed(d.high or 0.0, d.is_time)}"
        kind = "matters" if d.matters else ""
        direction = "" if d.better is None else "better" if d.better else "worse"
        texts = [_signed(d.mean, d.is_time), relative, interval, "-" if d.p_holm is None else f"{d.p_holm:.3g}"]
        texts += ["-" if d.effect is None else f"{d.effect:+.2f}", str(d.pairs)]
        body.append(
            f"<tr><th scope=row>{html.escape(d.arm)}</th><td class=word>{html.escape(d.column)}</td>"
            f'<td class="{direction}">{texts[0]}</td><td class="{direction}">{texts[1]}</td>'
            + "".join(f"<td>{t}</td>" for t in texts[2:])
            + f'<td class=word><span class="pill {kind}">{html.escape(d.verdict)}</span></td></tr>'
        )
    tested = ", ".join(dict.fromkeys(d.column for d in found if d.tested))
    note = (
        f"<p class=note>Differences from <b>{html.escape(found[0].baseline)}</b>; runs that differ in nothing else are paired. Tested are "
        f"{tested}: exact sign-flip test, Holm's correction. The interval is a "
        "bootstrap, the effect Cohen's d of the paired differences.</p>"
    )

    def table(body: list[str]) -> str:
        return f"<div class=wide><table class=differences><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"

    more = f"<details><summary>{len(described)} more: figures that are equal, or described and not tested</summary>{table(described)}</details>" if described else ""
    return note + (table(telling) if telling else "") + more


def _monitors(cells: Sequence[FinishedCell]) -> str:
    """How well each monitor did against what was really accessed, and at what cost, by time; nothing where none was scored."""
    scored = [cell for cell in cells if cell.result.tables.get("monitor_score")]
    if not scored:
        return ""
    titles = ["", "time", "resident", "hot", "found hot", "precision", "recall", "rank correlation", "age error", "checks", "CPU"]
    body = []
    for cell in scored[: len(COLOURS) * BLOCKS]:
        rows = cell.result.tables["monitor_score"]
        for row in [rows[i] for i in sorted({round(k * (len(rows) - 1) / 4) for k in range(5)})]:
            shares = ["-" if row[name] is None else f"{row[name]:.2f}" for name in ("precision", "recall", "rank_correlation")]
            sizes = [f"{row[name] / (1 << 20):.2f} MiB" for name in ("resident_bytes", "true_hot_bytes", "found_hot_bytes")]
            times = [text_number(1e6 * row["age_error_ms"], True), f"{row['checks']:,}", text_number(row["cpu_ns"], True)]
            name = label({key: cell.axes[key] for key in varying(scored)})
            body.append([f"{name}, seed {cell.seed}" if len({c.seed for c in scored}) > 1 else name, f"{row['time_ms']:,.0f} ms", *sizes, *shares, *times])
    note = (
        "Each monitor against every access of its own run, at five moments (cell.json has all). Hot are the pages, hottest first, that "
        "together have the share of accesses that [run] hot_share says; checks and CPU are sums since the start."
    )
    table = f"<details><summary>{len(scored)} runs by time</summary><div class=wide>{html_table(titles, body)}</div></details>"
    return f"<section><h2>What the monitors saw</h2><p class=note>{note}</p>{table}</section>"


def _kills(cells: Sequence[FinishedCell]) -> str:
    """Why each task was killed: the scores of all who could have been; nothing where nobody was."""
    killed = [cell for cell in cells if cell.result.tables.get("oom_candidates")]
    if not killed:
        return ""
    body = []
    for cell in killed[: len(COLOURS) * BLOCKS]:
        candidates = cell.result.tables["oom_candidates"]
        name = label({key: cell.axes[key] for key in varying(killed)})
        name = f"{name}, seed {cell.seed}" if len({c.seed for c in killed}) > 1 else name
        for kill in cell.result.tables["oom_kills"][:KILLS]:
            mine = [row for row in candidates if row["kill"] == kill["number"]]
            for row in [*(r for r in mine if r["chosen"]), *(r for r in mine if not r["chosen"])][:CANDIDATES]:
                who = f"{row['task']} killed by {'the kernel' if kill['by'] == 'kernel' else 'the daemon'}" if row["chosen"] else row["task"]
                sizes = [f"{row['score']:,}", str(row["oom_score"]), str(row["oom_score_adj"]), f"{row['rss']:,} kB", f"{row['swap']:,} kB"]
                body.append([name, str(kill["number"] + 1), who, *sizes])
    titles = ["", "kill", "candidate", "score", "oom_score", "oom_score_adj", "resident", "swapped"]
    note = (
        f"For each kill (the first {KILLS} of a run) the victim and up to {CANDIDATES - 1} others, with the figure by which the policy compared them: the highest "
        "dies. cell.json has all."
    )
    return f"<section><h2>Who was killed, and why</h2><p class=note>{note}</p><div class=wide>{html_table(titles, body)}</div></section>"


def _explained(cells: Sequence[FinishedCell]) -> str:
    """Why pages left memory or stayed; nothing where no run was asked to say."""
    parts = []
    for cell in [cell for cell in cells if cell.result.tables.get("explained")][: len(COLOURS)]:
        titles, body = explained_table(cell, chosen_decisions(cell, most=DECISIONS))
        words = "; ".join(f"<b>{html.escape(name)}</b>: {html.escape(text)}" for name, text in meanings(cell))
        parts.append(f"<h3>{html.escape(name_of(cell, cells))}</h3><div class=wide>{html_table(titles, body)}</div><p class=note>{words}</p>")
    if not parts:
        return ""
    note = f"{DECISIONS} decisions of each run, with what the policy knew of the page and of others that stayed. <code>mmlab explain</code> shows more, cell.json has all."
    return f"<section><h2>Why pages left, and stayed</h2><p class=note>{note}</p>{''.join(parts)}</section>"


def _signed(value: float, is_time: bool) -> str:
    return ("+" if value > 0 else "-" if value < 0 else "") + text_number(abs(value), is_time)


def _chosen(about: dict[str, Any]) -> str:
    titles = ["slot", "policy", "version", "distribution", "fidelity", "summary", "source digest"]
    body = [
        [p["slot"], p["name"], p["version"], p["distribution"], p["level"], p["summary"], p["source_digest"][:12]]
        for p in about["policies"]
    ]
    return html_table(titles, body)


def _provenance(about: dict[str, Any]) -> str:
    origin = about["provenance"]
    git = origin["git"]
    lines = [
        ["host", f"{origin['host']['name']}: {origin['host']['cpu']}, {origin['host']['cores']} cores, {origin['host']['system']}"],
        ["versions", ", ".join(f"{name} {version}" for name, version in origin["versions"].items() if version)],
        ["git", "no repository" if git is None else git["commit"] + (" with local changes" if git["changed"] else "")],
        ["finished", origin["finished"]],
    ]
    resolved = html.escape(json.dumps(about["resolved"], indent=2))
    return html_table(["", ""], lines) + f"<details><summary>the experiment, resolved</summary><pre>{resolved}</pre></details>"


def _overview(result: Result) -> str:
    """The plots that the page begins with, as JSON; none where there is nothing to compare."""
    grid = result.grid()
    plots = [overview(grid)] if grid else []
    plots += trade_offs(result.rows(), arm_axes(result.cells), varying(result.cells))
    return json.dumps(plots, separators=(",", ":")).replace("<", "\\u003c")


def _left_out(cells: Sequence[FinishedCell]) -> str:
    """What there is no room for, and how to see it."""
    every = len(_groups(cells))
    if every <= BLOCKS:
        return ""
    how = "<code>mmlab.results.Result(FOLDER).plot()</code> and series.parquet have all"
    return f'<p class="note">The first {BLOCKS} of {every} choices; {how}.</p>'


def _blocks(cells: Sequence[FinishedCell]) -> list[dict[str, Any]]:
    """What the plots can show one at a time: runs that share the other axes and the seed."""
    return [{"name": name, "plots": page_plots(group)} for name, group in list(_groups(cells).items())[:BLOCKS]]


def _groups(cells: Sequence[FinishedCell]) -> dict[str, list[FinishedCell]]:
    arms = arm_axes(cells)
    others = [key for key in varying(cells) if key not in arms]
    seeds = {cell.seed for cell in cells}
    groups: dict[str, list[FinishedCell]] = {}
    for cell in cells:
        words = [label({key: cell.axes[key] for key in others})] if others else []
        words += [f"seed {cell.seed}"] if len(seeds) > 1 else []
        groups.setdefault(", ".join(words), []).append(cell)
    return groups
