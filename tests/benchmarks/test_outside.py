"""Timing from outside, and the rows that say which target takes a graph."""

from __future__ import annotations

import json
import time

import numpy as np
import onnx
import pytest
import tiny

from benchmarks import mobile, outside, targets
from edgeae.bundle import find
from edgeae.runtime import Graph


def test_time_inside_wrapped_methods_is_told_apart_from_the_rest():
    def spin(seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    inside = outside._Inside()
    timed = inside.timed(spin)

    def call():
        timed(0.004)
        spin(0.002)

    samples = outside._sample(call, inside, 0.0)
    assert len(samples) == 5
    for processor, within, wall in samples:
        assert 0.004 <= within <= processor - 0.002 and wall > 0


def test_a_wrapped_method_that_fails_is_counted_and_fails_on():
    inside = outside._Inside()

    def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        inside.timed(fail)()
    assert inside.seconds >= 0


@pytest.mark.parametrize(("median", "verdict"), [(1.05, "agrees"), (1.3, "TOO FAR"), (0.8, "TOO")])
def test_a_bench_result_more_than_a_tenth_apart_is_said_so(tmp_path, median, verdict):
    result = {
        "bundle": {"name": "speech-denoiser"},
        "configurations": [{"tasks": {"hop": {"ms": {"p50": 1.0}}, "block": {"ms": {"p50": 9.0}}}}],
    }
    (tmp_path / "bench.json").write_text(json.dumps(result))
    (line,) = outside._apart(tmp_path / "bench.json", {"hop": {"wall_ms": median}})
    assert line.startswith("hop: ") and verdict in line


def test_an_older_side_is_shown_beside_the_newer():
    result = {
        "before": "abc",
        "calls": {
            "before": {"hop": {"processor_ms": 2.0, "outside": 0.5}},
            "after": {"hop": {"processor_ms": 1.0, "outside": 0.25}},
        },
    }
    (row,) = outside.outside_rows(result)
    assert list(row.values()) == ["hop", "2", "50%", "1", "25%"]
    del result["calls"]["before"]
    assert list(outside.outside_rows(result)[0].values()) == ["hop", "1", "25%"]


CPU, NPU = "CPUExecutionProvider", "NPUExecutionProvider"


def ran(environment, **changes):
    return {"model": "m", "graph": "g.fp32.8x8", "environment": environment, "agrees": True,
            "signal_db": None, "nodes": {CPU: 3}, **changes}  # fmt: skip


def listed(taken, left=(), target="NNAPI", by="checker"):
    return {"model": "m", "graph": "g.fp32.8x8", "target": target, "taken": taken, "nodes": 3,
            "left": list(left), "by": by}  # fmt: skip


def test_a_target_has_a_row_and_says_what_it_rests_on():
    result = {
        "results": [ran("cpu"), ran("web", nodes=None, signal_db=99.6), ran("cpu", model="other"),
                    ran("cpu", graph="context0.fp32.8x8")],
        "listed": [listed(3), listed(1, ["Add"], "XNNPACK", "documentation")],
    }  # fmt: skip
    assert targets.target_rows(result, "m") == [
        {"target": "onnxruntime, CPU", "known by": "run", "g.fp32": "all, identical"},
        {"target": "onnxruntime-web, WebAssembly", "known by": "run", "g.fp32": "all, 100 dB"},
        {"target": "NNAPI", "known by": "checked", "g.fp32": "all"},
        {"target": "XNNPACK", "known by": "documented", "g.fp32": "1 of 3: not Add"},
    ]


@pytest.mark.parametrize(
    ("row", "cell"),
    [
        (ran("qnn", nodes={NPU: 2, CPU: 1}, signal_db=50.0), "2 of 3, 50 dB"),
        (ran("qnn", agrees=False, signal_db=5.0), "all, 5 dB, too far off"),
        (ran("qnn", error="it fell over"), "none: it fails"),
        (listed(0, ["Add"]), "none: not Add"),
        (listed(1, "ABCD"), "1 of 3: not A, B, C, D"),
        (listed(1, "ABCDE"), "1 of 3: not A, B, C and 2 others"),
    ],
)
def test_a_cell_tells_how_much_is_taken_and_what_is_left(row, cell):
    assert (targets._listed if "left" in row else targets._ran)(row) == cell


def test_half_precision_rounds_what_every_node_gives():
    node = tiny.helper.make_node
    model = tiny.make_model(
        [node("Mul", ["x", "w"], ["a"]), node("Sub", ["a", "x"], ["y"])],
        {"x": (1, 2)}, {"y": (1, 2)}, {"w": np.float32([1.0001])},
    )  # fmt: skip
    found = mobile.rounded_to_half(model)
    (y,) = onnx.reference.ReferenceEvaluator(found).run(None, {"x": np.float32([[1, 1000.3]])})
    # The weight is 1 in half precision, and so the product is the input, rounded itself.
    assert y.tolist() == [[0.0, np.float32(np.float16(np.float16(1000.3) - np.float32(1000.3)))]]


def test_every_form_of_a_bundles_graphs_runs(tmp_path):
    bundle = find(tiny.tiny_denoiser_bundle(tmp_path / "denoiser"))
    files = mobile.forms(bundle, tmp_path / "out")
    assert list(files) == ["fp32", "portable", "fp16", "a16w8"]
    spectrum, state = np.ones((1, 2, 257), np.float32), np.zeros((1, 1, 4), np.float32)
    outputs = [
        mobile._graph(by_role["step"], form)(spectrum, state)[0] for form, by_role in files.items()
    ]
    for other in outputs[1:]:
        assert 0 <= np.abs(other - outputs[0]).max() < 0.1
    assert isinstance(mobile._graph(files["fp16"]["step"], "fp16"), Graph)
