"""`benchmarks.speech_codec_int8`: its forms of a graph are that graph, smaller and rounded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

pytest.importorskip("soxr")
pytest.importorskip("onnxruntime.quantization")

from benchmarks import speech_codec_int8
from benchmarks.family_tables import speech_int8_rows
from edgeae.bench.speech_codec import made_talk

BUNDLE = Path(__file__).parent.parent / "golden" / "tiny-speech-codec"


def test_a_run_measures_each_graph_in_each_form_and_leaves_the_codec_as_it_was(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(speech_codec_int8, "FORMS", ("weights", "all"))

    def scores(missing, *, dnsmos):
        yield "pesq", lambda reference, found: float(np.corrcoef(reference, found)[0, 1])
        yield "stoi", lambda reference, found: float(np.abs(found).max())

    monkeypatch.setattr(speech_codec_int8, "installed_metrics", scores)
    for i in range(3):
        soundfile.write(tmp_path / f"talker{i}_0.flac", made_talk(33_000 + i), 16_000)
    out = tmp_path / "out.json"
    speech_codec_int8.main([str(tmp_path), "--model", str(BUNDLE), "--json", str(out)])
    report = json.loads(out.read_text())
    assert report["recordings"] == 1
    rows = report["rows"]["tiny-speech-codec"]
    assert [(row["graph"], row["form"]) for row in rows] == [
        ("both", "fp32"),
        *((graph, form) for form in ("weights", "all") for graph in ("encoder", "decoder", "both")),
    ]
    shipped = {
        role: (BUNDLE / f"{role}.fp32.onnx").stat().st_size for role in ("encoder", "decoder")
    }
    for row in rows:
        if row["graph"] != "both":
            assert (
                row["ms fp32"] > 0 < row["live ms fp32"] and row["bytes"] != shipped[row["graph"]]
            )
    # Rounding changes what is heard, but not much.
    assert rows[0]["STOI"] == pytest.approx(rows[3]["STOI"], rel=0.5)
    assert len({row["STOI"] for row in rows}) > 1
    told = speech_int8_rows(report, "tiny-speech-codec")
    assert told[0]["graphs"] == "as shipped" and told[0]["time, as files / live"] == "-"
    assert (
        told[1]["graphs"] == "encoder: weights in 8 bits"
        and "%" in told[1]["time, as files / live"]
    )


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_weights_in_8_bits_are_near_the_graphs_own(role):
    source = BUNDLE / f"{role}.fp32.onnx"
    own = speech_codec_int8.folded(onnx.load(source))
    products = [node.input[1] for node in own.graph.node if node.op_type == "Gemm"]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in own.graph.initializer}
    kept = {name: weights[name].copy() for name in products}
    assert len(kept) == len(products) > 4
    small = speech_codec_int8.with_small_weights(own)
    made = {node.output[0]: node for node in small.graph.node}
    held = {t.name: onnx.numpy_helper.to_array(t) for t in small.graph.initializer}
    for name, values in kept.items():
        cast, factor = (made[name].input[0], held[made[name].input[1]])
        whole = held[made[cast].input[0]]
        assert whole.dtype == np.int8
        far = np.abs(whole * factor - values)
        assert (far <= 0.51 * factor + 1e-9).all() and far.max() > 0
