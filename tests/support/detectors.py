"""Tiny detectors whose errors are the squares of what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import tiny
from onnx import TensorProto, helper


def squares(path: Path, *, window: int = 8, channels: int = 1, **sections: Any) -> Path:
    """A detector bundle in the directory `path`: the error of a value is its square."""
    path.mkdir(parents=True, exist_ok=True)
    shape = ["n", window, channels]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "x"], ["errors"])],
        "errors",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("errors", TensorProto.FLOAT, shape)],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=10), path / "errors.fp32.onnx"
    )
    (path / "CARD.md").write_text("# squares\n")
    manifest: dict[str, Any] = {
        "task": "detector",
        "name": "squares",
        "layout": {"kind": "signal", "shape": [window, channels], "names": []},
        "graphs": {"errors": {"fp32": "errors.fp32.onnx"}},
        "files": ["CARD.md"],
    }
    detection = {"hop_samples": 2, "merge_samples": 4, "threshold": 0.0}
    detection |= sections.pop("detection", {})
    return tiny.write_manifest(path, **{**manifest, "detection": detection, **sections})
