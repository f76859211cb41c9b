"""What `edgeae bench` found, for people: rows for the terminal, and one page that opens offline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from edgeae.bench.measure import Difference
from edgeae.bench.plots import (
    COLORS,
    Roof,
    Spot,
    bars,
    distributions,
    lines,
    number,
    quantity,
    roofline,
)
from edgeae.providers import CPU, KNOWN

__all__ = ["Table", "comparison", "comparison_page", "notes", "page", "tables"]

OUTSIDE = "outside the graphs"
# A single thread that computes all the time has a processor time close to the wall's.
BUSY_BELOW = 0.85


@dataclass(frozen=True)
class Table:
    """A title, a heading for each column, and the rows; `text` of the first columns are words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def tables(result: Mapping[str, Any]) -> list[Table]:
    """The figures of `bench.measure` in tables, without the samples."""
    return [_latency(result), _throughput(result), _graphs(result), _start(result), _limits(result)]


def comparison(found: Sequence[Difference]) -> Table:
    """What `bench.compare_results` found, the first measurement being A and the second B."""
    rows = [
        (
            difference.workload,
            _on(difference.provider, difference.precision, difference.threads),
            difference.verdict,
            number(difference.first_ms),
            number(difference.second_ms),
            f"{difference.change.ratio:.3f}",
            f"{difference.change.low:.3f}",
            f"{difference.change.high:.3f}",
        )
        for difference in found
    ]
    columns = ("workload", "on", "B is", "A ms", "B ms", "B/A", "at least", "at most")
    return Table("Medians, and their ratio with 95 % confidence", columns, tuple(rows), words=3)


def notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the tables."""
    # onnxruntime also lists providers that run nothing of a usual model; those are no news.
    known = {provider.name for provider in KNOWN}
    found = [
        f"{name} was left out: {why}" for name, why in result["absent"].items() if name in known
    ]
    shares = [
        workload["processor_ms"] / workload["ms"]["mean"]
        for entry in result["configurations"]
        if (entry["provider"], entry["threads"]) == (CPU, 1)
        for workload in entry["tasks"].values()
    ]
    if shares and min(shares) < BUSY_BELOW:
        found.append(
            "the processor was shared with other programs: a single thread got it for "
            f"{min(shares):.0%} of the time, so these are not this machine's best times"
        )
    uncounted = {name for graph in result["graphs"] for name in graph["uncounted_operators"]}
    if uncounted:
        found.append(f"multiply-adds of {', '.join(sorted(uncounted))} are not counted")
    return found


def page(result: Mapping[str, Any]) -> str:
    """One HTML page with every table and plot inside it: no script, nothing to load."""
    bundle, where = result["bundle"], result["machine"]
    title = f"{bundle['name']} {bundle['version']}"
    told = [
        f"{where['cpu']}, {where['cores']} cores, {where['system']}",
        ", ".join(f"{name} {v}" for name, v in result["versions"].items() if v is not None),
        f"bundle {bundle['id'][:16]}, measured {result['time'].replace('T', ' ').rstrip('Z')} UTC",
    ]
    sections = [
        _section(
            "Latency",
            "Each sample is one call. The shape shows how often which time came; "
            "the marks are the median, the 90th and the 99th percentile.",
            *_latency_plots(result),
        ),  # fmt: skip
        _section("Speed", "Work done in a second, by number of threads.", *_speed_plots(result)),
        _section(
            "Where the time goes",
            "Means of one call on one thread: inside onnxruntime, graph by graph, and around it.",
            *_share_plots(result),
        ),  # fmt: skip
        _section(
            "Roofline",
            "How close each graph comes to what one thread of this machine can "
            "do: onnxruntime's own product of two matrices, and a copy. Dots on the left "
            "wait for memory, dots on the right for arithmetic, dots far below both for "
            "overhead.",
            *_roofline_plots(result),
        ),  # fmt: skip
        _section("Figures", "", *map(_html_table, tables(result))),
    ]
    warnings = "".join(f'<p class="note">{escape(note)}</p>' for note in notes(result))
    return _document(title, told, f"{_cards(result)}{warnings}", sections)


def comparison_page(
    first: Mapping[str, Any], second: Mapping[str, Any], found: Sequence[Difference]
) -> str:
    """One HTML page that sets two results side by side: a table, and the samples of both."""
    title = f"{first['bundle']['name']}: two measurements"
    told = [
        f"{name}: {result['bundle']['name']} {result['bundle']['version']} "
        f"{result['bundle']['id'][:16]} on {result['machine']['cpu']}, "
        f"{result['machine']['cores']} cores, {result['time']}"
        for name, result in zip("AB", (first, second), strict=True)
    ]
    plots = [
        f"<h3>{escape(f'{one.workload}, {_on(one.provider, one.precision, one.threads)}')}</h3>"
        + distributions({"A": one.first_samples_ms, "B": one.second_samples_ms}, unit="ms")
        for one in found
    ]
    sections = [
        _section("B against A", "", _html_table(comparison(found))),
        _section("Samples", "Each is one call; see the median and how far the rest lies.", *plots),
    ]
    return _document(title, told, "", sections)


def _document(title: str, told: Sequence[str], more: str, sections: Sequence[str]) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>edgeae bench: {escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<header><p>edgeae bench</p><h1>{escape(title)}</h1>"
        + "".join(f"<p>{escape(line)}</p>" for line in told)
        + f"</header>{more}{''.join(sections)}</main></body></html>\n"
    )


# --- tables -------------------------------------------------------------------------------------


def _latency(result: Mapping[str, Any]) -> Table:
    keys = ("p50", "p90", "p95", "p99", "mean", "deviation", "minimum")
    rows = [
        (
            name,
            _name(entry),
            str(workload["ms"]["count"]),
            *(number(workload["ms"][key]) for key in keys),
        )
        for entry, name, workload in _rows(result)
    ]
    columns = ("workload", "on", "calls", "p50", "p90", "p95", "p99", "mean", "sd", "min")
    return Table("Latency in ms", columns, tuple(rows), words=2)


def _throughput(result: Mapping[str, Any]) -> Table:
    rows = [
        (
            name,
            _name(entry),
            _speed(workload),
            number(workload["processor_ms"]),
            f"{quantity(workload['multiply_adds_per_s'])}/s",
            f"{workload['outside_graphs']:.0%}",
        )
        for entry, name, workload in _rows(result)
    ]
    columns = ("workload", "on", "speed", "processor ms", "multiply-adds", "outside graphs")
    return Table("Throughput", columns, tuple(rows), words=2)


def _rows(
    result: Mapping[str, Any],
) -> Iterator[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    """(configuration, workload's name, its figures), workload by workload."""
    for name, _, found in _by_workload(result):
        for entry, workload in found:
            yield entry, name, workload


def _graphs(result: Mapping[str, Any]) -> Table:
    peak = result["ceilings"]["multiply_adds_per_s"]
    rows = []
    for graph in result["graphs"]:
        speed = _graph_speed(graph)
        most = peak.get(graph["precision"], peak["fp32"])
        rows.append(
            (
                graph["role"],
                graph["precision"],
                "x".join(map(str, max(graph["input_shapes"], key=math.prod))),
                f"{graph['bytes']:,}",
                quantity(graph["parameters"]),
                quantity(graph["multiply_adds"]),
                number(np.median(graph["opening_ms"])),
                "" if graph["ms"] is None else number(graph["ms"]),
                "" if speed is None else quantity(speed),
                "" if speed is None else f"{speed / most:.0%}",
            )
        )
    return Table(
        "Graphs, on the CPU with one thread",
        ("graph", "precision", "largest input", "bytes", "numbers", "multiply-adds", "open ms",
         "run ms", "multiply-adds/s", "of peak"),
        tuple(rows),
        words=2,
    )  # fmt: skip


def _start(result: Mapping[str, Any]) -> Table:
    start = result["cold_start"]
    processes = start["processes"]

    def median(key: str, unit: str) -> str:
        values = [process[key] for process in processes if process[key] is not None]
        return f"{number(np.median(values))} {unit}" if values else "not told by this system"

    rows = [
        ("import edgeae and numpy", median("import_edgeae_ms", "ms")),
        ("import onnxruntime", median("import_onnxruntime_ms", "ms")),
        ("check and load the bundle", median("load_ms", "ms")),
        *(
            (
                f"first {workload}",
                f"{number(np.median([process['first_ms'][workload] for process in processes]))} ms",
            )
            for workload in processes[0]["first_ms"]
        ),
        ("memory after the imports", median("imported_mb", "MB")),
        ("memory with the model loaded", median("loaded_mb", "MB")),
        ("memory at most", median("peak_mb", "MB")),
        ("bundle on disk", f"{number(result['bundle']['bytes'] / 1e6)} MB"),
    ]
    return Table(f"A new process: {_name(start)}", ("what", "median"), tuple(rows))


def _limits(result: Mapping[str, Any]) -> Table:
    most = result["ceilings"]
    rows = [
        (f"matrix product, {precision}", f"{quantity(speed)} multiply-adds/s")
        for precision, speed in most["multiply_adds_per_s"].items()
    ]
    rows += [
        ("copy in main memory", f"{quantity(most['memory_bytes_per_s'])}B/s read and written"),
        ("copy in cache", f"{quantity(most['cache_bytes_per_s'])}B/s read and written"),
    ]
    return Table("What one thread of this machine can do", ("what", "most"), tuple(rows))


def _speed(workload: Mapping[str, Any]) -> str:
    per_s = workload["amount_per_s"]
    if workload["unit"] == "second of sound":
        return f"{number(per_s)}x real time"
    return f"{number(per_s)} {workload['unit']}s/s"


def _graph_speed(graph: Mapping[str, Any]) -> float | None:
    if not graph["ms"] or not graph["multiply_adds"]:
        return None
    return float(graph["multiply_adds"] / graph["ms"] * 1e3)


def _short(provider: str) -> str:
    return provider.replace("ExecutionProvider", "")


# --- page ---------------------------------------------------------------------------------------


def _cards(result: Mapping[str, Any]) -> str:
    """The figures that most readers come for."""
    cards = []
    names = dict.fromkeys(n for entry in result["configurations"] for n in entry["tasks"])
    for name in names:
        best = min(
            (entry for entry in result["configurations"] if name in entry["tasks"]),
            key=lambda entry: entry["tasks"][name]["ms"]["p50"],
        )
        workload = best["tasks"][name]
        cards.append(
            (
                f"{name}, fastest median",
                f"{number(workload['ms']['p50'])} ms",
                f"{_speed(workload)}; {_name(best)}",
            )
        )
    peaks = [process["peak_mb"] for process in result["cold_start"]["processes"]]
    if None not in peaks:
        loaded = np.median([p["loaded_mb"] for p in result["cold_start"]["processes"]])
        cards.append(
            ("memory at most", f"{number(np.median(peaks))} MB", f"{number(loaded)} MB loaded")
        )
    # More than the network's parameters, which `edgeae info` tells: zeros that fill up products,
    # and windows.
    numbers = sum(
        graph["parameters"]
        for role, graph in {graph["role"]: graph for graph in result["graphs"]}.items()
    )
    cards.append(
        (
            "bundle",
            f"{number(result['bundle']['bytes'] / 1e6)} MB",
            f"{quantity(numbers)} numbers stored in one precision",
        )
    )
    inner = "".join(
        f"<div><p>{escape(what)}</p><strong>{escape(value)}</strong><p>{escape(more)}</p></div>"
        for what, value, more in cards
    )
    return f'<div class="cards">{inner}</div>'


def _latency_plots(result: Mapping[str, Any]) -> Iterator[str]:
    for name, what, found in _by_workload(result):
        rows = {_name(entry): workload["samples_ms"] for entry, workload in found}
        yield f"<h3>{escape(name)}</h3><p>{escape(what)}</p>{distributions(rows, unit='ms')}"


def _speed_plots(result: Mapping[str, Any]) -> Iterator[str]:
    for name, _, found in _by_workload(result):
        series: dict[str, list[tuple[float, float]]] = {}
        for entry, workload in found:
            points = series.setdefault(f"{_short(entry['provider'])} {entry['precision']}", [])
            points.append((entry["threads"], workload["amount_per_s"]))
        unit = found[0][1]["unit"]
        title = "times real time" if unit == "second of sound" else f"{unit}s a second"
        yield f"<h3>{escape(name)}</h3>{lines(series, x_title='threads', y_title=title)}"


def _share_plots(result: Mapping[str, Any]) -> Iterator[str]:
    rows = {}
    for entry in result["configurations"]:
        if entry["threads"] != 1:
            continue
        for name, workload in entry["tasks"].items():
            mean = workload["ms"]["mean"]
            parts = {
                role: graph["runs_per_call"] * graph["ms"]["mean"]
                for role, graph in workload["graphs"].items()
            }
            contexts = sum(ms for role, ms in parts.items() if role.startswith("context"))
            parts = {role: ms for role, ms in parts.items() if not role.startswith("context")}
            if contexts:
                parts["contexts"] = contexts
            parts[OUTSIDE] = max(0.0, mean * workload["outside_graphs"])
            rows[f"{name}, {_short(entry['provider'])} {entry['precision']}"] = parts
    if rows:
        yield bars(rows, unit="ms a call")
    yield from _operator_plot(result)


def _operator_plot(result: Mapping[str, Any]) -> Iterator[str]:
    graphs = [graph for graph in result["graphs"] if not graph["role"].startswith("context")]
    totals: Counter[str] = Counter()
    for graph in graphs:
        totals.update(graph["ms_by_operator"])
    shown = [name for name, _ in totals.most_common(COLORS - 1)]
    operators = {}
    for graph in graphs:
        found = graph["ms_by_operator"]
        parts = {name: found[name] for name in shown if name in found}
        rest = sum(ms for name, ms in found.items() if name not in parts)
        operators[f"{graph['role']} {graph['precision']}"] = parts | (
            {"other operators": rest} if rest else {}
        )
    if operators:
        yield (
            "<h3>by operator</h3><p>As onnxruntime's profiler sees a single run, which makes small "
            f"operators look slower than they are.</p>{bars(operators, unit='ms a run')}"
        )


def _roofline_plots(result: Mapping[str, Any]) -> Iterator[str]:
    spots = []
    precisions = sorted({graph["precision"] for graph in result["graphs"]})
    for graph in result["graphs"]:
        speed = _graph_speed(graph)
        if speed is not None:
            spots.append(
                Spot(
                    f"{graph['role']} {graph['precision']}",
                    graph["multiply_adds"] / graph["moved_bytes"],
                    speed,
                    precisions.index(graph["precision"]),
                )
            )
    if not spots:
        return
    most = result["ceilings"]
    roofs = [
        Roof(f"product {precision}", speed, per_byte=False)
        for precision, speed in most["multiply_adds_per_s"].items()
    ]
    roofs += [
        Roof("memory", most["memory_bytes_per_s"], per_byte=True),
        Roof("cache", most["cache_bytes_per_s"], per_byte=True),
    ]
    yield roofline(spots, roofs)


def _by_workload(
    result: Mapping[str, Any],
) -> Iterator[tuple[str, str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]]]:
    """(name, in words, the configurations that ran it with its figures) of each workload."""
    names = dict.fromkeys(n for entry in result["configurations"] for n in entry["tasks"])
    for name in names:
        found = [(e, e["tasks"][name]) for e in result["configurations"] if name in e["tasks"]]
        yield name, found[0][1]["what"], found


def _name(entry: Mapping[str, Any]) -> str:
    return _on(entry["provider"], entry["precision"], entry["threads"])


def _on(provider: str, precision: str, threads: int) -> str:
    return f"{_short(provider)} {precision}, {threads} thread{'s' if threads > 1 else ''}"


def _section(title: str, text: str, *parts: str) -> str:
    if not parts:
        return ""
    about = f"<p>{escape(text)}</p>" if text else ""
    return f"<section><h2>{escape(title)}</h2>{about}{''.join(parts)}</section>"


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], kind: str) -> str:
        inner = "".join(
            f"<{kind}{'' if i < table.words else ' class=right'}>{escape(cell)}</{kind}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{inner}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return (
        f"<h3>{escape(table.title)}</h3><div class=wide><table><thead>{row(table.columns, 'th')}"
        f"</thead><tbody>{body}</tbody></table></div>"
    )


_STYLE = """
:root{--paper:#fff;--ink:#18181b;--faint:#6b6b76;--grid:#e7e7ec;--card:#f6f6f9;--mark:#18181b;
--c0:#2563eb;--c1:#ea7317;--c2:#0f9d76;--c3:#a23bd6;--c4:#d6336c;--c5:#8a7a12}
@media(prefers-color-scheme:dark){:root{--paper:#131317;--ink:#ececf1;--faint:#9a9aa8;
--grid:#2b2b33;--card:#1d1d23;--mark:#fff;--c0:#5b8cff;--c1:#ff9547;--c2:#2cc79b;--c3:#c77af0;
--c4:#ff6b9a;--c5:#c9b63a}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1000px;margin:0 auto;padding:32px 24px 80px}
h1{font-size:30px;line-height:1.2;margin:2px 0 10px}h2{font-size:21px;margin:44px 0 4px}
h3{font-size:16px;margin:24px 0 4px}p{margin:2px 0}header p,section>p,.cards p{color:var(--faint)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px;margin:24px 0}
.cards div{background:var(--card);border-radius:10px;padding:14px 16px;font-size:13px}
.cards strong{font-size:24px;display:block}
.note{border-left:3px solid var(--c1);padding:6px 12px;margin:8px 0;background:var(--card)}
svg{width:100%;height:auto;display:block;margin:8px 0}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:12.5px;margin:6px 0;width:100%}
th{font-weight:600;text-align:left;border-bottom:1px solid var(--ink);vertical-align:bottom}
th,td{padding:4px 8px 4px 0}td{border-bottom:1px solid var(--grid);white-space:nowrap}
.right{text-align:right;font-variant-numeric:tabular-nums}
text{fill:var(--ink);font-size:13px}.small{font-size:12px}.faint{fill:var(--faint)}
.ink{fill:var(--ink)}line.ink{stroke:var(--faint);stroke-width:1}.on{fill:#fff;font-size:12px}
.grid{stroke:var(--grid);stroke-width:1}.mark{stroke:var(--mark);stroke-width:1.5}
.roof{stroke:var(--faint);stroke-width:1.5;stroke-dasharray:6 4}
.c0{fill:var(--c0);stroke:var(--c0)}.c1{fill:var(--c1);stroke:var(--c1)}
.c2{fill:var(--c2);stroke:var(--c2)}.c3{fill:var(--c3);stroke:var(--c3)}
.c4{fill:var(--c4);stroke:var(--c4)}.c5{fill:var(--c5);stroke:var(--c5)}
rect{stroke-width:0}.area{stroke-width:0;opacity:.75}.line{fill:none;stroke-width:2}
@media print{body{font-size:12px}section{break-inside:avoid}}
"""
