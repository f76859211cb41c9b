"""The reference workload is the one that others measured; its figures are written down."""

from __future__ import annotations

import json

import numpy as np
import onnx
import tiny

from benchmarks import latency
from edgeae.bench import arithmetic, measure
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph


def test_the_reference_is_the_autoencoder_of_mlperf_tiny(tmp_path):
    model = latency.reference_model()
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "r.onnx")
    frame = np.random.default_rng(0).normal(size=(1, 640)).astype(np.float32)
    work = arithmetic.work_of(tmp_path / "r.onnx", [frame])
    # 640 x 128 twice, 128 x 128 six times, 128 x 8 twice; a bias for every output.
    assert work.multiply_adds == 2 * 640 * 128 + 6 * 128 * 128 + 2 * 128 * 8
    assert work.parameters == work.multiply_adds + 8 * 128 + 8 + 640
    (output,) = Graph(read_graph(tmp_path / "r.onnx"))(frame)
    assert output.shape == (1, 640) and 0.01 < output.std() < 100


def test_the_command_writes_figures_without_samples_and_prints_a_row_each(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(measure, "COLD_STARTS", 1)
    monkeypatch.setattr(measure, "ceilings", lambda: arithmetic.ceilings(seconds=0.01))
    model = tiny.tiny_denoiser_bundle(tmp_path / "denoiser")
    out = tmp_path / "results" / "latency.json"
    latency.main([str(model), "--json", str(out), "--seconds", "0.02", "--threads", "1"])
    report = json.loads(out.read_text())
    assert report["reference"]["ms_by_threads"]["1"]["p50"] > 0
    assert report["machine"]["cores"] >= 1 and report["method"].startswith("The reference is")
    (figures,) = report["models"].values()
    assert "samples_ms" not in out.read_text()
    assert figures["configurations"][0]["tasks"]["hop"]["ms"]["p50"] > 0
    said = capsys.readouterr().out
    assert latency.REFERENCE in said and "tiny-denoiser, hop" in said
