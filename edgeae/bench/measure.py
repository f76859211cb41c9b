"""How fast a bundle is, and how large: every provider, precision and number of threads at hand.

All configurations are loaded side by side and timed in turn, a slice of the time each, again and
again: a slow moment of the machine then falls on all of them. Each sample is one call of the real
workload; the time its graphs spend inside onnxruntime is taken from the same calls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeae.bench.arithmetic import Work, ceilings, work_of
from edgeae.bench.cold_start import cold_start
from edgeae.bench.machine import cores, machine, versions
from edgeae.bench.timing import BLOCKS, Change, compare, sample, summarize
from edgeae.bench.workloads import Workload
from edgeae.bundle import Bundle, find
from edgeae.errors import EdgeaeError, ProviderError
from edgeae.loading import load, trials_of
from edgeae.onnx_check import read_graph
from edgeae.providers import CPU, Provider
from edgeae.runtime import Graph, Run, hardware

__all__ = ["Difference", "compare_results", "measure", "thread_counts"]

FORMAT = 1
PACKAGES = ("edgeae", "numpy", "onnxruntime", "onnxruntime-gpu")
# Enough for a steady 99th percentile; more would only make the file long.
MAX_SAMPLES = 2000
# Caches, arenas and clocks settle within a few calls.
WARM_UP_S, WARM_UP_CALLS = 0.2, 3
COLD_STARTS = 3
OPENINGS = 3

Tell = Callable[[str], None]


@dataclass
class _Configuration:
    """One model as it was loaded, and the samples of its workloads so far."""

    asked: Provider
    precision: str
    threads: int
    model: Any
    load_ms: float
    workloads: list[Workload]
    samples: dict[str, _Samples] = field(default_factory=dict)

    @property
    def provider(self) -> str:
        """In words, options included: what tells one configuration from another."""
        if isinstance(self.asked, str):
            return self.asked
        name, options = self.asked
        return f"{name}:{','.join(f'{key}={value}' for key, value in options.items())}"

    def __str__(self) -> str:
        return f"{self.provider}, {self.precision}, threads {self.threads}"


@dataclass
class _Samples:
    """Milliseconds of each call of a workload, of each run of its graphs, and of the processor."""

    calls_ms: list[float] = field(default_factory=list)
    runs_ms: dict[str, list[float]] = field(default_factory=dict)
    processor_ms: float = 0.0


def measure(
    model: str | Path,
    *,
    providers: Sequence[Provider] | None = None,
    precisions: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    seconds: float = 3.0,
    source: Path | None = None,
    tell: Tell = lambda line: None,
) -> dict[str, Any]:
    """Every figure of the bundle as JSON can hold it, raw samples included.

    Args:
        model: a bundled name or a directory.
        providers: None is every one that is present; one that cannot run the model is then listed
            under "absent" with the reason.
        precisions: None is every one that the bundle has.
        threads: numbers of threads to try on the CPU; None is 1, 2, 4 ... up to all cores.
        seconds: how long each workload of each configuration is sampled.
        source: a photo or recording to work on instead of the package's own.
        tell: called with a line about what is measured next.

    Raises:
        ProviderError: a provider that was named is not there or runs no node.
        EdgeaeError: what loading the model raises.
        ValueError: `seconds` is not positive, or `threads` is empty or below 1.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds}, expected a positive number")
    bundle = find(model)
    counts = list(threads) if threads is not None else thread_counts()
    if not counts or min(counts) < 1:
        raise ValueError(f"threads is {counts}, expected whole numbers from 1")
    kinds = list(precisions) if precisions is not None else _precisions(bundle)
    tell("loading")
    absent: dict[str, str] = {}
    configurations = list(_loaded(bundle, providers, kinds, counts, source, absent))
    for configuration in configurations:
        tell(f"warming up: {configuration}")
        for workload in configuration.workloads:
            sample(workload.call, seconds=min(WARM_UP_S, seconds), at_least=WARM_UP_CALLS)
    for turn in range(BLOCKS):
        tell(f"timing {len(configurations)} configurations, turn {turn + 1} of {BLOCKS}")
        for configuration in configurations:
            _take(configuration, seconds / BLOCKS)
    tell("counting the arithmetic")
    work = _work(bundle, configurations)
    tell("measuring the ceilings of this machine")
    most = ceilings()
    tell("starting new processes")
    first = configurations[0]
    return {
        "what": "edgeae bench",
        "format": FORMAT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "bundle": _bundle_figures(bundle),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "settings": {
            "seconds": seconds,
            "turns": BLOCKS,
            "source": "the package's own" if source is None else source.name,
        },
        "configurations": [
            _configuration_figures(configuration, work) for configuration in configurations
        ],
        "absent": absent,
        "graphs": _graph_figures(bundle, configurations, work),
        "ceilings": asdict(most),
        "cold_start": _cold_starts(bundle, first, source),
    }


def _cold_starts(bundle: Bundle, first: _Configuration, source: Path | None) -> dict[str, Any]:
    """What new processes took to run the first configuration."""
    return {
        "provider": first.provider,
        "precision": first.precision,
        "threads": first.threads,
        "processes": [
            cold_start(
                bundle.path,
                precision=first.precision,
                providers=[first.asked],
                threads=first.threads,
                source=source,
            )
            for _ in range(COLD_STARTS)
        ],
    }


def thread_counts() -> list[int]:
    """1, 2, 4 ... and the number of cores."""
    most = cores()
    return sorted({1 << i for i in range(most.bit_length()) if 1 << i <= most} | {most})


def _precisions(bundle: Bundle) -> list[str]:
    """Those that `load` takes, the default first."""
    graphs = bundle.manifest.graphs
    found = list(graphs["encoder"] if "encoder" in graphs else next(iter(graphs.values())))
    default = bundle.precision(None)
    return sorted(found, key=lambda precision: (precision != default, precision))


def _loaded(
    bundle: Bundle,
    providers: Sequence[Provider] | None,
    precisions: Sequence[str],
    threads: Sequence[int],
    source: Path | None,
    absent: dict[str, str],
) -> Iterator[_Configuration]:
    """Every configuration; the CPU first, on one number of threads where it does not count."""
    found: list[Provider] = [CPU]
    found += [name for name in _all_providers() if name != CPU]
    for provider in found if providers is None else providers:
        for precision in precisions:
            for count in threads if provider == CPU else threads[:1]:
                start = time.perf_counter()
                try:
                    model = load(
                        bundle.path, precision=precision, providers=[provider], threads=count
                    )
                except ProviderError as error:
                    if providers is not None:
                        raise
                    absent[str(provider)] = str(error)
                    continue
                load_ms = (time.perf_counter() - start) * 1e3
                workloads = trials_of(bundle).workloads(model, source=source)
                yield _Configuration(provider, precision, count, model, load_ms, workloads)


def _all_providers() -> list[str]:
    """Those of this machine, installed plugins included."""
    return list(dict.fromkeys(device.provider for device in hardware()))


def _take(configuration: _Configuration, seconds: float) -> None:
    """One slice of samples of every workload."""
    graphs = configuration.model.graphs
    for workload in configuration.workloads:
        samples = configuration.samples.setdefault(workload.name, _Samples())
        with ExitStack() as stack:
            watched = {role: stack.enter_context(g.watched()) for role, g in graphs.items()}
            before = time.process_time()
            samples.calls_ms += sample(
                workload.call, seconds=seconds, at_most=MAX_SAMPLES // BLOCKS
            )
            samples.processor_ms += (time.process_time() - before) * 1e3
        for role, runs in watched.items():
            if runs:
                taken = samples.runs_ms.setdefault(role, [])
                taken += [run.seconds * 1e3 for run in runs]


# --- arithmetic ---------------------------------------------------------------------------------

Key = tuple[Path, tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class _Works:
    """What the graphs do: by file and input shapes, and how often a call of a workload does it."""

    by_key: Mapping[Key, Work]
    runs: Mapping[
        tuple[str, str], Sequence[tuple[str, Key]]
    ]  # (precision, workload) -> (role, key)


def _work(bundle: Bundle, configurations: Sequence[_Configuration]) -> _Works:
    by_key: dict[Key, Work] = {}
    runs: dict[tuple[str, str], list[tuple[str, Key]]] = {}
    for configuration in configurations:
        for workload in configuration.workloads:
            if (configuration.precision, workload.name) in runs:
                continue
            found = runs[configuration.precision, workload.name] = []
            for role, graph, run in _inputs_of(configuration.model.graphs, workload):
                key = graph.file, tuple(array.shape for array in run.inputs)
                if key not in by_key:
                    by_key[key] = work_of(graph.file, run.inputs)
                found.append((role, key))
    return _Works(by_key, runs)


def _inputs_of(graphs: Mapping[str, Graph], workload: Workload) -> list[tuple[str, Graph, Run]]:
    """Every run of a graph in one call that runs any; a short block may complete no hop."""
    while True:
        with ExitStack() as stack:
            watched = {
                role: stack.enter_context(graph.watched(keep_inputs=True))
                for role, graph in graphs.items()
            }
            workload.call()
        found = [(role, graphs[role], run) for role, runs in watched.items() for run in runs]
        if found:
            return found


# --- figures ------------------------------------------------------------------------------------


def _bundle_figures(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    entries = [entry for files in manifest.graphs.values() for entry in files.values()]
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "id": bundle.id,
        "bytes": sum(
            entry.bytes
            for entry in (*entries, *manifest.files.values(), *manifest.documents.values())
        ),
    }


def _configuration_figures(configuration: _Configuration, work: _Works) -> dict[str, Any]:
    report = configuration.model.report()
    return {
        "provider": configuration.provider,
        "precision": configuration.precision,
        "threads": configuration.threads,
        "load_ms": _rounded(configuration.load_ms),
        "nodes": {role: graph["nodes"] for role, graph in report["graphs"].items()},
        "tasks": {
            workload.name: _workload_figures(
                workload,
                configuration.samples[workload.name],
                [work.by_key[key] for _, key in work.runs[configuration.precision, workload.name]],
            )
            for workload in configuration.workloads
        },
    }


def _workload_figures(
    workload: Workload, samples: _Samples, works: Sequence[Work]
) -> dict[str, Any]:
    total_ms = sum(samples.calls_ms)
    inside_ms = sum(map(sum, samples.runs_ms.values()))
    calls = len(samples.calls_ms)
    # How often a call runs a graph, on the mean: a short block may complete no hop.
    runs = sum(map(len, samples.runs_ms.values())) / calls
    macs = sum(w.multiply_adds for w in works) * runs / len(works)
    return {
        "what": workload.what,
        "amount": workload.amount,
        "unit": workload.unit,
        "ms": _summary(samples.calls_ms),
        # More than the wall's time is several threads; less is another process on the machine.
        "processor_ms": _rounded(samples.processor_ms / calls),
        "amount_per_s": _rounded(workload.amount * calls / total_ms * 1e3),
        "outside_graphs": round(1 - inside_ms / total_ms, 4),
        "multiply_adds": round(macs),
        "multiply_adds_per_s": round(macs * calls / total_ms * 1e3),
        "samples_ms": list(map(_rounded, samples.calls_ms)),
        "graphs": {
            role: {
                "runs_per_call": round(len(runs_ms) / calls, 4),
                "ms": _summary(runs_ms),
                "samples_ms": list(map(_rounded, runs_ms[:MAX_SAMPLES])),
            }
            for role, runs_ms in samples.runs_ms.items()
        },
    }


def _graph_figures(
    bundle: Bundle, configurations: Sequence[_Configuration], work: _Works
) -> list[dict[str, Any]]:
    """Each file that ran: size, time to open it, arithmetic, and speed on one thread."""
    found: dict[Path, dict[str, Any]] = {}
    for (precision, name), runs in work.runs.items():
        for role, key in runs:
            file, shapes = key
            if file in found:
                continue
            works = work.by_key[key]
            opened = [_opening_ms(file) for _ in range(OPENINGS)]
            found[file] = {
                "role": role,
                "precision": _precision_of(bundle, file),
                "file": file.name,
                "bytes": file.stat().st_size,
                "parameters": works.parameters,
                "opening_ms": list(map(_rounded, opened)),
                "task": name,
                "input_shapes": shapes,
                "multiply_adds": works.multiply_adds,
                "moved_bytes": works.moved_bytes,
                "uncounted_operators": works.uncounted,
                "ms_by_operator": {
                    operator: _rounded(seconds * 1e3)
                    for operator, seconds in sorted(
                        works.seconds_by_operator.items(), key=lambda item: -item[1]
                    )
                },
                "ms": _cpu_ms(configurations, precision, name, role),
            }
    return list(found.values())


def _opening_ms(file: Path) -> float:
    start = time.perf_counter()
    Graph(read_graph(file))
    return (time.perf_counter() - start) * 1e3


def _precision_of(bundle: Bundle, file: Path) -> str:
    for files in bundle.manifest.graphs.values():
        for precision, entry in files.items():
            if entry.file == file.name:
                return precision
    raise EdgeaeError(f"{file} is not in {bundle.manifest.name}")


def _cpu_ms(
    configurations: Sequence[_Configuration], precision: str, workload: str, role: str
) -> float | None:
    """The median of a graph's run on the CPU with one thread, if that was measured."""
    for configuration in configurations:
        key = configuration.provider, configuration.precision, configuration.threads
        if key == (CPU, precision, 1):
            return _rounded(summarize(configuration.samples[workload].runs_ms[role]).p50)
    return None


def _summary(samples_ms: Sequence[float]) -> dict[str, Any]:
    figures = asdict(summarize(samples_ms))
    return {"count": figures.pop("count"), **{key: _rounded(ms) for key, ms in figures.items()}}


def _rounded(value: float) -> float:
    """Five significant digits, which is more than any clock here can tell."""
    return float(f"{value:.5g}")


# --- two measurements ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One workload in one configuration that both measurements have: medians in ms, the change,
    and the samples."""

    workload: str
    provider: str
    precision: str
    threads: int
    first_ms: float
    second_ms: float
    change: Change
    first_samples_ms: Sequence[float] = field(repr=False)
    second_samples_ms: Sequence[float] = field(repr=False)

    @property
    def verdict(self) -> str:
        """What the second is: "faster", "slower", or "the same but for noise"."""
        if self.change.is_noise:
            return "the same but for noise"
        return "faster" if self.change.ratio < 1 else "slower"


def compare_results(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """What `measure` found twice, side by side, in the first one's order.

    Raises ValueError if either is no such result, or if they have nothing in common.
    """
    sides = [_samples_by_key(side) for side in (first, second)]
    found = [
        Difference(
            *key,
            summarize(ms).p50,
            summarize(sides[1][key]).p50,
            compare(ms, sides[1][key]),
            ms,
            sides[1][key],
        )
        for key, ms in sides[0].items()
        if key in sides[1] and min(len(ms), len(sides[1][key])) > 1
    ]
    if not found:
        raise ValueError(
            "the two results have no workload, provider, precision and threads in common"
        )
    return found


def _samples_by_key(
    result: Mapping[str, Any],
) -> dict[tuple[str, str, str, int], list[float]]:
    try:
        if result["what"] != "edgeae bench" or result["format"] != FORMAT:
            raise ValueError
        return {
            (name, entry["provider"], entry["precision"], entry["threads"]): task["samples_ms"]
            for entry in result["configurations"]
            for name, task in entry["tasks"].items()
        }
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"this is no result of edgeae bench --json, format {FORMAT}") from None
