"""The bundle of a detector of images: its graph, held against torch, and a threshold from good
images that training did not see."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeae.bench.image_detector import self_test
from edgeae.image.detector import ImageDetector, ImageScorer, inspection_spec
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export.parity import check_close
from export.torch_graph import write_torch_graph
from train.config import Config
from train.inspection.data import InspectionData, read_good
from train.inspection.network import MAP_STRIDE, MARGIN, MIRROR, REACH, STRIDE, Inspector

__all__ = ["TASK", "calibration", "export_model", "threshold_of", "verify"]

TASK = "detector"

# Pixels of the side of what is worked on at a time.
TILE = 1024
_TOLERANCE = 1e-4

Pixels = npt.NDArray[np.uint8]


def calibration(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Folders of good images to calibrate on, all of them; without any, what the run held back is
    taken."""
    return () if folders == ("synthetic",) else folders


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, inputs: tuple[str, ...]
) -> dict[str, Any]:
    """What a detector's manifest needs, with the graph written into `out`.

    Raises:
        ExportError: the graph disagrees with torch.
        ValueError: the images are not there any more.
    """
    held = _held_back(config.data, inputs)
    network = Inspector(config.network)
    network.load_state_dict(weights)
    file = out / "map.fp32.onnx"
    height, width = (
        STRIDE * torch.export.Dim(name, min=1, max=1 << 12) for name in ("rows", "columns")
    )
    model = write_torch_graph(
        network,
        (torch.zeros(1, 3, 96, 96),),
        file,
        name="map",
        inputs=["pixels"],
        outputs=["map"],
        dynamic_shapes=({2: height, 3: width},),
    )
    graph = Graph(read_graph(file))
    _compare(network, graph)
    layout = {
        "kind": "image",
        "channels": 3,
        "stride": STRIDE,
        "map_stride": MAP_STRIDE,
        "mirror": MIRROR,
        "margin": MARGIN,
        "tile": TILE,
        "halo": -(-REACH // STRIDE) * STRIDE,
    }
    return {
        "graphs": {"map": {"fp32": file.name}},
        "layout": layout,
        "detection": _calibrated(graph, layout, config.data, held),
        "figures": {
            "nodes": len(model.graph.node),
            "parameters": sum(p.numel() for p in network.parameters()),
            "graph_bytes": file.stat().st_size,
        },
    }


def verify(bundle: Path, inputs: tuple[str, ...]) -> dict[str, Any]:
    """No figures; the package must take the bundle and its own checks must hold of it."""
    list(self_test(ImageDetector.load(bundle)))
    return {}


def _compare(network: Inspector, graph: Graph) -> None:
    rng = np.random.default_rng(0)
    # The second shape is not square and smaller than what the network sees.
    for shape in ((96, 96), (48, 80)):
        pixels = rng.random((1, 3, *shape), np.float32)
        with torch.no_grad():
            wanted = network(torch.from_numpy(pixels)).numpy()
        check_close("map", graph(pixels)[0], wanted, _TOLERANCE * max(1, np.abs(wanted).max()))


def _held_back(data: InspectionData, folders: tuple[str, ...]) -> list[Pixels]:
    """The good images that the run did not learn from, or all of other folders."""
    if not folders:
        return read_good(data).held
    good = read_good(dataclasses.replace(data, folders=folders))
    return [*good.training, *good.held]


def _calibrated(
    graph: Graph, layout: dict[str, Any], data: InspectionData, held: list[Pixels]
) -> dict[str, Any]:
    """The manifest's section: how scores are made, and the threshold from held-back images."""
    section = {"strongest": data.strongest, "threshold": 0.0}
    scorer = ImageScorer(graph, inspection_spec("detector", layout, section))
    scores = [scorer.score(image).score for image in held]
    return {
        **section,
        "threshold": round(threshold_of(scores, data.false_alarm_rate), 6),
        "false_alarm_rate": data.false_alarm_rate,
        "calibrated_on": {
            "folders": [Path(folder).name for folder in data.folders],
            "images": len(scores),
            "highest_score": round(max(scores), 6),
        },
    }


def threshold_of(scores: list[float], rate: float) -> float:
    """The score that a share `rate` of further good images exceeds, if scores are normally
    distributed: the prediction limit of Student's distribution, which knows that `scores` are few.
    """
    count = len(scores)
    if count < 2:
        raise ValueError(f"{count} good images are held back, expected at least 2")
    spread = statistics.stdev(scores) * math.sqrt(1 + 1 / count)
    return statistics.fmean(scores) + _student(1 - rate, count - 1) * spread


def _student(share: float, freedom: int) -> float:
    """The quantile of Student's distribution (Abramowitz and Stegun 1964, 26.7.5)."""
    z = statistics.NormalDist().inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**i for i, term in enumerate(terms))
