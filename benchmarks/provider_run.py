"""Runs the vectors of `benchmarks.provider_matrix` on one provider, in that provider's environment.

    python -m benchmarks.provider_run FOLDER OUT PROVIDER

Needs numpy and onnxruntime only.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.errors import EdgeaeError
from edgeae.onnx_check import read_graph
from edgeae.providers import parse
from edgeae.runtime import Graph


def main(folder: Path, out: Path, provider: str) -> None:
    graphs: dict[str, Any] = {}
    for vector in json.loads((folder / "vectors.json").read_text()):
        inputs = [
            np.fromfile(folder / port["file"], np.dtype(port["dtype"]).newbyteorder("<"))
            .astype(port["dtype"])
            .reshape(port["shape"])
            for port in vector["inputs"]
        ]
        try:
            graph = Graph(read_graph(folder / vector["file"]), providers=[parse(provider)])
            outputs = graph(*inputs)
        except EdgeaeError as error:
            graphs[vector["graph"]] = {"error": str(error)}
            continue
        for port, array in zip(vector["outputs"], outputs, strict=True):
            (out / port["file"]).write_bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())
        graphs[vector["graph"]] = {"nodes": graph.report()["nodes"]}
    found = {d.metadata["Name"].lower(): d.version for d in distributions()}
    told = " ".join(f"{n} {v}" for n, v in sorted(found.items()) if n.startswith("onnxruntime"))
    (out / "report.json").write_text(json.dumps({"version": told, "graphs": graphs}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
