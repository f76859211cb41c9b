"""What the largest images cost: time and memory for a square of many megapixels, both ways.

    python -m benchmarks.large_picture [--side 16000] [--image FILE] --json OUT.json

The image is one photograph repeated, by default the one of the demo. Memory is what the process
held at its peak beyond what it held with the image and the loaded model.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import edgeae
from edgeae.bench.machine import machine, versions
from edgeae.bench.workloads import ASSETS
from edgeae.image.header import Limits
from edgeae.media import read_image
from edgeae.metrics import psnr_db

Result = TypeVar("Result")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, compress and decompress, and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_picture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--side", type=int, default=16_000, help="pixels a side")
    parser.add_argument("--image", type=Path, help="the photograph to repeat")
    parser.add_argument("--model", default="photo-codec", help="a bundled name or a directory")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args(arguments)
    report = measure(options.model, options.side, options.image)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def measure(model: str, side: int, source: Path | None) -> dict[str, Any]:
    """Seconds, bytes and peak memory of one image (side, side, 3)."""
    part = read_image(source or ASSETS / "photo.webp")
    part = part[:side, :side]
    # Filled in place: a copy made on the way would hide what comes later below its own peak.
    image = np.empty((side, side, 3), np.uint8)
    for top in range(0, side, part.shape[0]):
        for left in range(0, side, part.shape[1]):
            hole = image[top : top + part.shape[0], left : left + part.shape[1]]
            hole[:] = part[: hole.shape[0], : hole.shape[1]]
    codec = edgeae.ImageCodec.load(model)
    codec.decompress(codec.compress(part))  # first calls allocate
    before = _peak_bytes()
    blob, encode_seconds = _timed(lambda: codec.compress(image))
    encoded = _peak_bytes()
    limits = Limits(pixels=side * side, pixels_per_byte=side * side)
    restored, decode_seconds = _timed(lambda: codec.decompress(blob, limits=limits))
    decoded = _peak_bytes()
    quality_db = float(
        np.mean([psnr_db(a, b) for a, b in zip(_strips(image), _strips(restored), strict=True)])
    )
    return {
        "what": "one large image",
        "bundle": {"name": codec.bundle.manifest.name, "id": codec.bundle.id},
        "machine": machine(),
        "versions": versions(("edgeae", "numpy", "onnxruntime")),
        "side_pixels": side,
        "image_bytes": image.nbytes,
        "file_bytes": len(blob),
        "psnr_db": round(quality_db, 2),
        "encode_cpu_seconds": round(encode_seconds, 1),
        "decode_cpu_seconds": round(decode_seconds, 1),
        "encode_peak_bytes": encoded - before,
        # The image that comes back is as large as the one that went in.
        "decode_peak_bytes_beyond_image": max(0, decoded - encoded - image.nbytes),
    }


def _strips(image: np.ndarray) -> list[np.ndarray]:
    return np.array_split(image, max(1, len(image) // 1000))


def _timed(call: Callable[[], Result]) -> tuple[Result, float]:
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
