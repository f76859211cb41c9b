"""Tiny detectors of images, for which brighter is stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny
from onnx import helper


def brightness(path: Path, *, tile: int = 1024, halo: int = 8, **sections: Any) -> Path:
    """A detector bundle in the directory `path`: its map is the mean of 12 x 12 pixels around each
    square of 4 x 4, less what padding takes away at the edges."""
    path.mkdir(parents=True, exist_ok=True)
    weight = np.full((1, 3, 12, 12), 1 / (3 * 144), np.float32)
    model = tiny.make_model(
        [
            helper.make_node(
                "Conv", ["pixels", "weight"], ["map"], strides=[4, 4], pads=[4, 4, 4, 4]
            )
        ],
        {"pixels": (1, 3, "height", "width")},
        {"map": (1, 1, "rows", "columns")},
        {"weight": weight},
    )
    onnx.save(model, path / "map.fp32.onnx")
    (path / "CARD.md").write_text("# brightness\n")
    layout = {
        "kind": "image",
        "channels": 3,
        "stride": 8,
        "map_stride": 4,
        "tile": tile,
        "halo": halo,
    }
    detection = {"threshold": 0.5, "strongest": 3, "false_alarm_rate": 0.1}
    manifest: dict[str, Any] = {
        "task": "detector",
        "name": "brightness",
        "layout": layout | sections.pop("layout", {}),
        "detection": detection | sections.pop("detection", {}),
        "graphs": {"map": {"fp32": "map.fp32.onnx"}},
        "files": ["CARD.md"],
    }
    return tiny.write_manifest(path, **{**manifest, **sections})
