"""The provider matrix: vectors come from real use, and only what agrees is said to agree."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny

from benchmarks import provider_matrix, provider_run
from edgeae.bundle import find
from edgeae.providers import CPU
from export.mobile import make_mobile

# A folder that earlier runs of benchmarks.provider_matrix filled, to test against for real.
ENVIRONMENTS = os.environ.get("EDGEAE_PROVIDER_ENVIRONMENTS")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return find(tiny.tiny_codec_bundle(tmp_path_factory.mktemp("bundle") / "codec", int8=True))


@pytest.fixture(scope="module")
def made(codec, tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provider_matrix, "SIZE", (16, 16))
        copies = make_mobile(codec, folder, size=(16, 16))
        return folder, provider_matrix.make_vectors(codec, copies)


def told(folder, out, provider):
    out.mkdir()
    provider_run.main(folder, out, provider)
    return json.loads((out / "report.json").read_text())


def test_every_graph_has_vectors_of_what_the_model_feeds_it(made, codec):
    folder, vectors = made
    names = {f"{role}.fp32.16x16" for role in codec.manifest.graphs}
    names |= {f"{name}.16x16" for name in ("encoder.int8", "encoder.a16w8", "decoder.a16w8")}
    assert {vector["graph"] for vector in vectors} == names
    assert json.loads((folder / "vectors.json").read_text()) == vectors
    encoder = next(vector for vector in vectors if vector["graph"] == "encoder.int8.16x16")
    (port,) = encoder["inputs"]
    assert (port["name"], port["shape"], encoder["form"]) == ("pixels", [1, 3, 16, 16], "int8")
    pixels = np.fromfile(folder / port["file"], np.float32)
    assert 0 <= pixels.min() < pixels.max() <= 1 and len(np.unique(pixels)) > 20  # a photo


def test_a_denoisers_vectors_hold_a_state_that_has_heard_something(tmp_path):
    bundle = find(tiny.tiny_denoiser_bundle(tmp_path / "denoiser"))
    copies = make_mobile(bundle, tmp_path / "out", size=(16, 16))
    vector, _ = provider_matrix.make_vectors(bundle, copies)
    spectrum, state = vector["inputs"]
    assert (spectrum["name"], state["name"]) == ("spectrum", "h0")
    assert np.fromfile(tmp_path / "out" / state["file"], np.float32).any()


def test_the_cpu_agrees_with_itself(made, tmp_path):
    folder, vectors = made
    out = tmp_path / "cpu"
    rows = provider_matrix.compare(vectors, folder, out, told(folder, out, CPU))
    assert len(rows) == len(vectors)
    for row in rows:
        assert row["agrees"] and row["error_max"] == 0 and row["signal_db"] is None
        assert list(row["nodes"]) == [CPU]
        assert provider_matrix.cell(row) == f"identical, all {row['nodes'][CPU]} nodes"


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here"
)
def test_a_provider_that_does_not_run_a_graph_says_why(made, tmp_path):
    folder, vectors = made
    out = tmp_path / "cuda"
    rows = provider_matrix.compare(vectors, folder, out, told(folder, out, "CUDAExecutionProvider"))
    for row in rows:
        assert row["agrees"] is None
        assert provider_matrix.cell(row).startswith("no: CUDAExecutionProvider is not on")


def off(by, wanted=None):
    wanted = np.ones(1000, np.float32) if wanted is None else wanted
    return [(wanted, wanted + np.asarray(by, wanted.dtype))]


@pytest.mark.parametrize(
    ("pairs", "form", "agrees"),
    [
        (off(0), "fp32", True),
        (off(0.003), "fp32", True),  # within 1/255
        (off(0.005), "fp32", False),
        (off(0.005, np.full(10, 100, np.float32)), "fp32", True),  # 86 dB
        (off(0.009), "int8", True),  # 41 dB
        (off(0.009), "a16w8", True),
        (off(0.009), "portable", False),
        (off(0.011), "int8", False),  # 39 dB
        (off(1, np.arange(9, dtype=np.int32)), "int8", False),
        (off(0, np.arange(9, dtype=np.int32)), "fp32", True),
        (off(np.nan), "fp32", False),
        (off(np.nan), "int8", False),
        (off(0) + off(0.5), "fp32", False),  # the worst output counts
    ],
)
def test_agreement_is_what_was_promised(pairs, form, agrees):
    assert provider_matrix.agreement(pairs, form=form)["agrees"] is agrees


def test_the_table_has_a_row_for_each_graph_and_a_column_for_each_environment():
    rows = [
        {"model": "m", "graph": "g", "environment": "cpu", "agrees": True, "signal_db": None,
         "nodes": {CPU: 3}},
        {"model": "m", "graph": "g", "environment": "npu", "agrees": False, "signal_db": 20.2,
         "nodes": {"NPUExecutionProvider": 2, CPU: 1}},
    ]  # fmt: skip
    assert provider_matrix.table(rows) == [
        "| model | graph | cpu | npu |",
        "|---|---|---|---|",
        "| m | g | identical, all 3 nodes | 20 dB, 2 on NPU and 1 on CPU, TOO FAR OFF |",
    ]
    rows.append({**rows[0], "graph": "context0"})
    assert provider_matrix.table(rows)[-1].endswith("| identical, all 3 nodes | stays on the CPU |")


def test_an_environment_is_run_as_a_process_of_its_own(made, tmp_path, monkeypatch):
    folder, vectors = made
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    command = [sys.executable, "-m", "benchmarks.provider_run"]
    monkeypatch.setattr(provider_matrix, "_pip", lambda environment, home: command)
    environment = provider_matrix.Environment((), CPU)
    found = provider_matrix.run("mine", environment, copied, tmp_path / "environments")
    assert f"onnxruntime {onnxruntime.__version__}" in found["version"]
    rows = provider_matrix.compare(vectors, copied, copied / "mine", found)
    assert all(row["agrees"] for row in rows)


@pytest.mark.skipif(ENVIRONMENTS is None, reason="EDGEAE_PROVIDER_ENVIRONMENTS names no folder")
@pytest.mark.parametrize("name", list(provider_matrix.ENVIRONMENTS))
def test_what_an_installed_provider_gives_agrees_with_the_cpu(made, name, tmp_path):
    if not (Path(ENVIRONMENTS) / name).exists():
        pytest.skip(f"{name} is not installed there")
    folder, vectors = made
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    environment = provider_matrix.ENVIRONMENTS[name]
    found = provider_matrix.run(name, environment, copied, Path(ENVIRONMENTS))
    rows = provider_matrix.compare(vectors, copied, copied / name, found)
    if not environment.contexts:
        rows = [row for row in rows if not row["graph"].startswith("context")]
    assert [row["graph"] for row in rows if not row["agrees"]] == []
