"""What the speech codec's encoder and decoder in 8 bits would lose and gain.

    python -m benchmarks.speech_codec_int8 SPEECH --json benchmarks/results/speech_codec_int8.json

SPEECH is the folder of training speech. Of each graph, but not of the contexts, which are exact
already, three forms are made: weights in 8 bits and arithmetic in float ("weights"); all products
of matrices in 8 bits (`export.quantize`, ranges from training speakers, "all"), and those but for
the first and the last ("inner"). Quality is of recordings of the speakers who are held out of
training: PESQ-WB, STOI and bits a second of files, the other graph as it ships, or both in the
form. Time is CPU milliseconds of the graph alone for a second of speech, eight frames at a time as
in files and one as in live packets, the best of several runs in turn.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from benchmarks.signals_int8 import Runs, cpu_ms, inputs_of
from benchmarks.speech import installed_metrics
from edgeae.bench.machine import machine, versions
from edgeae.bundle import find
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.signal.speech_codec import SpeechCodec
from edgeae.signal.speech_signal import RATE_HZ
from export.quantize import quantize
from train.speech.corpus import held_out_split, read_corpus

FORMS = ("weights", "all", "inner")
QUALITY = 4.125
# As in training: see `train.speech.codec_data.CodecSpeech`.
HELD_OUT_PERCENT = 5.0
# Recordings of 2 to 8 s, spread over the speakers: of training ones for ranges, of held-out ones.
CALIBRATED_ON, MEASURED_ON = 24, 24
SHORTEST_S, LONGEST_S = 2.0, 8.0
_FRAMES_PER_SECOND = 50
PACKAGES = ("edgeae", "numpy", "onnxruntime", "pesq", "pystoi")

Row = dict[str, Any]
Audio = npt.NDArray[np.float32]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speech_codec_int8", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("speech", type=Path, help="folder of training speech")
    parser.add_argument("--model", default="speech-codec", help="bundled name or path")
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args(arguments)
    learned, held = recordings(options.speech)
    rows = measured(SpeechCodec.load(options.model), learned, held)
    bundle = find(options.model)
    report = {
        "what": "the speech codec in 8 bits",
        "command": "python -m benchmarks.speech_codec_int8 SPEECH",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "recordings": len(held),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "bundles": {bundle.manifest.name: bundle.id},
        "rows": {bundle.manifest.name: rows},
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def recordings(folder: Path) -> tuple[list[Audio], list[Audio]]:
    """Of speakers that were trained on, and of those that were held out."""
    corpus = read_corpus((str(folder),), "", kind="speech")
    corpus, training, held = held_out_split(corpus, HELD_OUT_PERCENT)

    def some(clips: Sequence[int], count: int) -> list[Audio]:
        long = [i for i in clips if len(corpus.clip(i)) >= SHORTEST_S * RATE_HZ]
        chosen = [long[i] for i in np.linspace(0, len(long) - 1, min(count, len(long))).astype(int)]
        most = int(LONGEST_S * RATE_HZ)
        return [corpus.clip(i)[:most].astype(np.float32) / np.float32(32768) for i in chosen]

    return some(training, CALIBRATED_ON), some(held, MEASURED_ON)


def measured(codec: SpeechCodec, learned: Sequence[Audio], held: Sequence[Audio]) -> list[Row]:
    """Encoder, decoder and both in each form."""
    graphs = {"encoder": codec.encoder, "decoder": codec.decoder}

    def work() -> None:
        for audio in learned:
            codec.decompress(codec.compress(audio, quality=QUALITY))

    # Of one shape, as calibration asks for: as many frames as a graph takes at a time, which is one
    # in older bundles.
    inputs = {
        role: [run for run in runs if len(run[0]) == max(len(run[0]) for run in runs)]
        for role, runs in inputs_of(graphs, work).items()
    }
    rows = [{"graph": "both", "form": "fp32", **_quality(codec, held)}]
    print(rows[0], flush=True)
    for form in FORMS:
        made = {}
        for role, shipped in graphs.items():
            made[role], size = twin(codec.bundle.graph_file(role, "fp32"), inputs[role], form)
            setattr(codec, role, made[role])
            row: Row = {"graph": role, "form": form, **_quality(codec, held), "bytes": size}
            setattr(codec, role, shipped)
            rows.append(row | _times(made[role], shipped, inputs[role]))
            print(rows[-1], flush=True)
        codec.encoder, codec.decoder = made["encoder"], made["decoder"]
        rows.append({"graph": "both", "form": form, **_quality(codec, held)})
        print(rows[-1], flush=True)
        codec.encoder, codec.decoder = graphs["encoder"], graphs["decoder"]
    return rows


def twin(source: Path, inputs: Runs, form: str) -> tuple[Graph, int]:
    """The graph in a form, and its bytes."""
    model = folded(onnx.load(source))
    products = [node.name for node in model.graph.node if node.op_type == "Gemm"]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / source.name
        if form == "weights":
            onnx.save_model(with_small_weights(model), target)
        else:
            plain = Path(folder) / "plain.onnx"
            onnx.save_model(model, plain)
            small = set(products if form == "all" else products[1:-1])
            names = [port.name for port in model.graph.input]
            given = [dict(zip(names, arrays, strict=True)) for arrays in inputs]
            in_float = [node.name for node in model.graph.node if node.name not in small]
            quantize(plain, target, given, in_float=in_float)
        return Graph(read_graph(target)), target.stat().st_size


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the weights of its products as plain float numbers: those of a bundle are in
    half precision behind a Cast, and some behind a factor."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    left = []
    for node in model.graph.node:
        if node.op_type in ("Cast", "Mul") and all(name in known for name in node.input):
            values = [known[name].astype(np.float32) for name in node.input]
            known[node.output[0]] = np.prod(np.broadcast_arrays(*values), axis=0)
        else:
            left.append(node)
    used = {name for node in left for name in node.input}
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(left)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name)
        for name, value in known.items()
        if name in used
    )
    return model


def with_small_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the weights of its products in 8 bits, each row with a scale of its own,
    behind a Cast and a factor that are worked out when a session is made."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    before = []
    for node in model.graph.node:
        if node.op_type != "Gemm":
            continue
        tensor = weights[node.input[1]]
        values = numpy_helper.to_array(tensor)
        scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
        name = tensor.name
        tensor.CopyFrom(
            numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}_int8")
        )
        factor = numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale")
        model.graph.initializer.append(factor)
        cast = onnx.helper.make_node(
            "Cast", [tensor.name], [f"{name}_float"], to=onnx.TensorProto.FLOAT
        )
        before += [cast, onnx.helper.make_node("Mul", [f"{name}_float", factor.name], [name])]
    nodes = [*before, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def _quality(codec: SpeechCodec, held: Sequence[Audio]) -> Row:
    """PESQ-WB, STOI and bits a second of files of the recordings, means."""
    metrics = dict(installed_metrics({}, dnsmos=False))
    found: list[tuple[float, ...]] = []
    bits = 0
    for audio in held:
        blob = codec.compress(audio, quality=QUALITY)
        said = codec.decompress(blob)
        bits += 8 * len(blob)
        found.append(tuple(metrics[key](audio, said) for key in ("pesq", "stoi")))
    pesq, stoi = np.nanmean(found, axis=0).tolist()
    rate = bits * RATE_HZ / sum(map(len, held))
    return {"PESQ-WB": round(pesq, 3), "STOI": round(stoi, 4), "bit/s": round(rate)}


def _times(own: Graph, shipped: Graph, inputs: Runs) -> Row:
    """Milliseconds for a second of speech, as many frames at a time as the inputs have, and one."""
    states = [i for i, port in enumerate(shipped.inputs) if port.name.startswith("memory")]
    one = [
        tuple(array if i in states else array[:1].copy() for i, array in enumerate(arrays))
        for arrays in inputs
    ]
    row: Row = {}
    for key, runs, frames in (("ms", inputs, len(inputs[0][0])), ("live ms", one, 1)):
        per_second = _FRAMES_PER_SECOND / (frames * len(runs))
        mine, whole = (ms * per_second for ms in cpu_ms([own, shipped], runs))
        row |= {key: round(mine, 3), f"{key} fp32": round(whole, 3)}
    return row


if __name__ == "__main__":
    main()
