"""The bundle of a detector: its graph, held against torch, and a threshold from normal data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeae.bench.detector import self_test
from edgeae.detection import detection_spec
from edgeae.detector import Detector as RunningDetector
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.scoring import Scorer
from export.parity import ExportError
from export.torch_graph import write_torch_graph
from train.config import Config
from train.detector.data import DetectorData, NormalSeries, read_normal
from train.detector.network import Detector

# Graph and torch may differ by rounding alone: so much of the largest error.
_TOLERANCE = 2e-4
# The tail of normal scores is what lies above this share of them (see `threshold_of`).
_TAIL = 0.9

TASK = "detector"


def calibration(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The folders to calibrate on; without any, what the run held back is taken."""
    return () if folders == ("synthetic",) else folders


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, inputs: tuple[str, ...]
) -> dict[str, Any]:
    """What a detector's manifest needs, with the graph written into `out`.

    Raises:
        ExportError: the graph disagrees with torch.
        ValueError: the data are not there any more, or of another shape.
    """
    data = dataclasses.replace(config.data, folders=inputs) if inputs else config.data
    normal = read_normal(data)
    shape = (data.window_samples, normal.training.shape[2])
    network = Detector(config.network, shape)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the folders' series do not fit the model: {error}") from None
    file = out / "errors.fp32.onnx"
    count = torch.export.Dim("n", min=1, max=1 << 16)
    model = write_torch_graph(
        network,
        (torch.from_numpy(normal.training[:4]),),
        file,
        name="errors",
        inputs=["x"],
        outputs=["errors"],
        dynamic_shapes=({0: count},),
    )
    graph = Graph(read_graph(file))
    _check_parity(network, graph, normal.training)
    detection = _detection(graph, data, normal)
    return {
        "graphs": {"errors": {"fp32": file}},
        "layout": {
            "kind": "signal",
            "shape": list(shape),
            "names": list(normal.names),
            **({"sample_rate_hz": normal.sample_rate_hz} if normal.sample_rate_hz else {}),
        },
        "detection": detection,
        "figures": {
            "nodes": len(model.graph.node),
            "parameters": sum(p.numel() for p in network.parameters()),
            "graph_bytes": file.stat().st_size,
        },
    }


def verify(bundle: Path, inputs: tuple[str, ...]) -> dict[str, Any]:
    """No figures; the package must take the bundle and its own checks must hold of it."""
    list(self_test(RunningDetector.load(bundle)))
    return {}


def _check_parity(network: Detector, graph: Graph, windows: npt.NDArray[Any]) -> None:
    for count in (1, min(13, len(windows))):
        x = windows[:count]
        with torch.no_grad():
            wanted = network(torch.from_numpy(x)).numpy()
        (got,) = graph(np.ascontiguousarray(x))
        worst = float(np.abs(got - wanted).max()) / max(float(np.abs(wanted).max()), 1e-6)
        if got.shape != wanted.shape or not worst <= _TOLERANCE:  # NaN fails too
            raise ExportError(
                f"the graph at {wanted.shape} is {worst:.2g} of the largest error away from torch, "
                f"expected at most {_TOLERANCE:.0e}"
            )


def _detection(graph: Graph, data: DetectorData, normal: NormalSeries) -> dict[str, Any]:
    """The manifest's section: how scores are made, and the threshold from held-back scores."""
    section: dict[str, Any] = {
        "hop_samples": data.hop,
        "merge_samples": data.window_samples,
        "smooth_windows": data.smooth_windows,
        "relative_windows": data.relative_windows,
        "relative_prior": 0.0,
        "beats": data.beats,
        "beat_before": data.beat_before,
        "prematurity": data.prematurity,
    }
    if data.relative_windows:
        levels = [
            np.log(float(graph(np.ascontiguousarray(one[None]))[0].mean()) + 1e-9)
            for one in normal.training[:: max(1, len(normal.training) // 2000)]
        ]
        section["relative_prior"] = round(float(np.median(levels)), 6)
    scores = _held_back_scores(graph, section, data, normal)
    threshold = threshold_of(scores, data.false_alarm_rate)
    return {
        **section,
        "threshold": round(threshold, 6),
        "false_alarm_rate": data.false_alarm_rate,
        "calibrated_on": {
            "folders": [Path(folder).name for folder in data.folders],
            "series": len(normal.held),
            "windows": len(scores),
            "highest_score": round(float(scores.max()), 6),
        },
    }


def _held_back_scores(
    graph: Graph, section: dict[str, Any], data: DetectorData, normal: NormalSeries
) -> npt.NDArray[np.float64]:
    """The scores of the normal windows that were held back, as the package makes them."""
    layout = {
        "kind": "signal",
        "shape": [data.window_samples, normal.training.shape[2]],
        "sample_rate_hz": normal.sample_rate_hz or None,
    }
    scorer = Scorer(graph, detection_spec("detector", layout, {**section, "threshold": 0.0}))
    found = []
    for held in normal.held:
        if len(held.series) < data.window_samples:
            continue
        scores = scorer.score(held.series, held.beats).windows
        found.append(scores if held.normal is None else scores[held.normal])
    return np.concatenate(found).astype(np.float64)


def threshold_of(scores: npt.NDArray[np.float64], rate: float) -> float:
    """The score that a share `rate` of normal windows exceeds.

    Where enough were seen, their quantile; else the tail above their 90 % quantile is taken for
    exponential (peaks over threshold, Siffer et al. 2017, with a shape of zero) and carried on.
    """
    if len(scores) * rate >= 5:
        return float(np.quantile(scores, 1 - rate))
    start = float(np.quantile(scores, _TAIL))
    above = scores[scores > start] - start
    excess = float(above.mean()) if len(above) else 0.0
    return start + excess * max(0.0, float(np.log((1 - _TAIL) / rate)))
