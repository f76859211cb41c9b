"""What the signal bundles' graphs in 8 bits would lose and gain.

    python -m benchmarks.signals_int8 FOLDER --json benchmarks/results/signals_int8.json

Each graph of `ecg-codec`, `ecg-denoiser` and `beat-detector`, but for the contexts, which are exact
already, is quantized (`export.quantize`, ranges from records of DS1 that were trained on) in two
ways: all of it ("all"), and its convolutions alone but for the first and last ("inner"). Quality is
of the held-out records of DS1: PRD, and bits a sample at 9 %, of two minutes, gain of the
signal-to-noise ratio in muscle and electrode noise (training halves) of half a minute, area under
the curve of ventricular beats against normal ones. Time is CPU milliseconds of the graphs alone for
a second of one lead (a beat of the detector), the best of several runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.detection import auc
from benchmarks.signals_compression import bits_at, prd_percent
from benchmarks.signals_denoising import KINDS, clean, gains, noise
from edgeae.bench.machine import machine
from edgeae.bundle import find
from edgeae.detector import Detector
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.scoring import Scorer
from edgeae.signal.codec import SignalCodec
from edgeae.signal.denoiser import SignalDenoiser
from export.quantize import quantize
from train.signal.ecg import HELD_OUT, SAMPLE_RATE_HZ, Record, read_records

FORMS = ("fp32", "all", "inner")
# Trained on; each of another kind of beats.
CALIBRATED_ON = ("101", "106", "109", "208")
QUALITIES, PRD = (2.5, 3.5, 4.5, 5.75), 9.0
RATIOS_DB = (-6, 0, 6, 12)
# Calibration inputs of a graph: more change no range.
_MOST_INPUTS = 120
_RUNS = 12

Row = dict[str, Any]
Runs = list[tuple[npt.NDArray[Any], ...]]


def twin(source: Path, inputs: Runs, form: str) -> tuple[Graph, int]:
    """The graph in a form, and its bytes."""
    if form == "fp32":
        return Graph(read_graph(source)), source.stat().st_size
    model = onnx.load(source)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    inner = set(convolutions[1:-1])
    in_float = [] if form == "all" else [n.name for n in model.graph.node if n.name not in inner]
    names = [port.name for port in model.graph.input]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / source.name
        given = [dict(zip(names, arrays, strict=True)) for arrays in inputs]
        quantize(source, target, given, in_float=in_float)
        return Graph(read_graph(target)), target.stat().st_size


def inputs_of(graphs: Mapping[str, Graph], work: Callable[[], object]) -> dict[str, Runs]:
    """What graphs are fed by some work, evenly spread over it."""
    with ExitStack() as stack:
        runs = {
            role: stack.enter_context(graph.watched(keep_inputs=True))
            for role, graph in graphs.items()
        }
        work()
    return {
        role: [run.inputs for run in of[:: -(-len(of) // _MOST_INPUTS)]]
        for role, of in runs.items()
    }


def cpu_ms(graphs: Sequence[Graph], inputs: Runs) -> list[float]:
    """CPU milliseconds of each graph on all inputs, the best of several runs in turn."""
    best = [float("inf")] * len(graphs)
    for _ in range(_RUNS):
        for i, graph in enumerate(graphs):
            begin = time.process_time()
            for arrays in inputs:
                graph(*arrays)
            best[i] = min(best[i], time.process_time() - begin)
    return [1000 * seconds for seconds in best]


def codec_rows(learned: Sequence[Record], held: Sequence[Record]) -> list[Row]:
    """Encoder and decoder in each form, the other as it ships."""
    codec = SignalCodec.load("ecg-codec")
    graphs = {role: codec.graphs[role] for role in ("encoder", "decoder")}
    seconds = 30

    def work() -> None:
        for record in learned:
            for quality in QUALITIES:
                codec.decode(
                    codec.encode(record.counts[: seconds * SAMPLE_RATE_HZ], quality=quality)
                )

    inputs = inputs_of(graphs, work)
    rows = []
    for role, form in (("encoder", "fp32"), *((r, f) for r in graphs for f in FORMS[1:])):
        graph, size = twin(codec.bundle.graph_file(role, "fp32"), inputs[role], form)
        setattr(codec._transforms, role, graph)
        curves = []
        for record in held:
            lead = record.counts[: 120 * SAMPLE_RATE_HZ, 0]
            curve = []
            for quality in QUALITIES:
                latent = codec.encode(lead, quality=quality)
                bits = 8 * len(codec.pack(latent)) / len(lead)
                curve.append((prd_percent(lead, codec.decode(latent)), bits))
            curves.append(curve)
        setattr(codec._transforms, role, graphs[role])
        some = inputs[role][:4]
        row: Row = {"graph": role, "form": form}
        # Rounding in the graph adds an error of its own, which no rate brings down.
        reached = all(min(curve)[0] <= PRD for curve in curves)
        rate = float(np.mean([bits_at(curve, PRD) for curve in curves])) if reached else None
        row[f"bits at {PRD:g} %"] = None if rate is None else round(rate, 4)
        row["PRD at quality 4.5"] = round(float(np.mean([c[2][0] for c in curves])), 2)
        own, whole = cpu_ms([graph, graphs[role]], some)
        heard = len(some) * seconds
        row |= {"ms": round(own / heard, 4), "ms fp32": round(whole / heard, 4), "bytes": size}
        print(row, flush=True)
        rows.append(row)
    return rows


def denoiser_rows(folder: Path, learned: Sequence[Record], held: Sequence[Record]) -> list[Row]:
    """The step graph in each form."""
    denoiser = SignalDenoiser.load("ecg-denoiser")
    kinds = ("muscle", "electrode")
    sources = {kind: noise(folder, "train", KINDS[kind]) for kind in kinds}

    def part(record: Record, seconds: float, begin: int = 300) -> npt.NDArray[Any]:
        first = begin * SAMPLE_RATE_HZ
        volts = record.millivolts[first : first + int(seconds * SAMPLE_RATE_HZ), 0]
        return clean(volts.astype(np.float64), raw=False)

    signals = [part(record, 6) for record in learned]

    def work() -> None:
        for source in sources.values():
            for ratio in RATIOS_DB:
                gains(lambda x: np.asarray(denoiser.denoise(x)), signals, source, ratio)

    shipped = denoiser.graphs["step"]
    inputs = inputs_of({"step": shipped}, work)["step"]
    tested = [part(record, 30) for record in held]
    rows = []
    for form in FORMS:
        graph, size = twin(denoiser.bundle.graph_file("step", "fp32"), inputs, form)
        denoiser._step = graph
        row: Row = {"graph": "step", "form": form}
        for kind, source in sources.items():
            for ratio in RATIOS_DB:
                found = gains(lambda x: np.asarray(denoiser.denoise(x)), tested, source, ratio)
                row[f"{kind} {ratio}"] = round(float(np.mean(found)), 2)
        # A hop is 16 samples.
        hops = SAMPLE_RATE_HZ / 16 / len(inputs)
        own, whole = cpu_ms([graph, shipped], inputs)
        row |= {"ms": round(own * hops, 3), "ms fp32": round(whole * hops, 3), "bytes": size}
        print(row, flush=True)
        rows.append(row)
    return rows


def detector_rows(learned: Sequence[Record], held: Sequence[Record]) -> list[Row]:
    """The graph of errors in each form, given beats, all beats pooled."""
    detector = Detector.load("beat-detector")
    shipped = detector.graphs["errors"]

    def work() -> None:
        for record in learned:
            detector.score(record.millivolts[:, :1], beats=record.positions)

    inputs = inputs_of({"errors": shipped}, work)["errors"]
    rows = []
    for form in FORMS:
        graph, size = twin(detector.bundle.graph_file("errors", "fp32"), inputs, form)
        scorer = Scorer(graph, detector.spec)
        scores, strange = [], []
        for record in held:
            found = scorer.score(record.millivolts[:, :1], record.positions)
            index = np.searchsorted(record.positions, found.starts + detector.spec.beat_before)
            symbols = np.array(record.symbols)[index]
            chosen = np.isin(symbols, ["V", "N"])
            scores.append(found.windows[chosen])
            strange.append(symbols[chosen] == "V")
        value = auc(np.concatenate(scores), np.concatenate(strange))
        beats = sum(len(arrays[0]) for arrays in inputs)
        row: Row = {"graph": "errors", "form": form, "auc": round(value, 4)}
        own, whole = cpu_ms([graph, shipped], inputs)
        row |= {"ms": round(own / beats, 4), "ms fp32": round(whole / beats, 4), "bytes": size}
        print(row, flush=True)
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signals_int8", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="with records.tsv, mitbih and noise")
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args(arguments)
    learned = read_records(options.folder, "DS1", only=CALIBRATED_ON)
    held = read_records(options.folder, "DS1", only=HELD_OUT)
    rows = {
        "beat-detector": detector_rows(learned, held),
        "ecg-denoiser": denoiser_rows(options.folder, learned, held),
        "ecg-codec": codec_rows(learned, held),
    }
    report = {
        "what": "signal bundles in 8 bits",
        "command": "python -m benchmarks.signals_int8 FOLDER",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "machine": machine(),
        "bundles": {name: find(name).id for name in rows},
        "rows": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
