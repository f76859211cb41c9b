"""Tiny denoisers of sensor signals: what comes out is half of what went in, late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny
from onnx import helper

HOP, LATE = 4, 6


def late_half(path: Path, *, state_shape: tuple[int, ...] = (1, LATE), **sections: Any) -> Path:
    """A denoiser that gives half of its input, `LATE` samples late."""
    path.mkdir(parents=True, exist_ok=True)
    node = helper.make_node
    model = tiny.make_model(
        [
            node("Concat", ["before", "noisy"], ["both"], axis=1),
            node("Split", ["both", "sizes"], ["now", "after"], axis=1),
            node("Mul", ["now", "half"], ["clean"]),
        ],
        {"noisy": (1, HOP), "before": (1, LATE)},
        {"clean": (1, HOP), "after": (1, LATE)},
        {"sizes": np.int64([HOP, LATE]), "half": np.float32([0.5])},
    )
    onnx.save(model, path / "step.fp32.onnx")
    (path / "CARD.md").write_text("# half\n")
    manifest: dict[str, Any] = {
        "task": "denoiser",
        "name": "half",
        "layout": {"kind": "signal", "channels": 1, "sample_rate_hz": 360, "unit": "mV"},
        "stream": {
            "hop_samples": HOP,
            "lookahead_samples": LATE,
            "state": {"before": list(state_shape)},
        },
        "graphs": {"step": {"fp32": "step.fp32.onnx"}},
        "files": ["CARD.md"],
    }
    return tiny.write_manifest(path, **{**manifest, **sections})
