"""How long packets take beside one file: CPU time of one thread, all in one run.

    python -m benchmarks.packets FOLDER --joined 2 --json benchmarks/results/packets.json

Each image of FOLDER is compressed and decompressed, and sent in packets and received, at several
qualities; the figures are medians over repeats that take turns, so that other work on the machine
meets all of them alike. With `--joined N` there is one larger image more, of the first N side by
side. The ratio of packets to compress, and of receive to decompress, is what counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.machine import machine, versions
from edgeae.image.codec import ImageCodec
from edgeae.media import IMAGE_SUFFIXES, read_image

QUALITIES = (1, 3, 5, 7, 9)
PACKET_BYTES = 1200
PACKAGES = ("edgeae", "numpy", "onnxruntime")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packets", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="images")
    parser.add_argument("--images", type=int, help="only the first so many")
    parser.add_argument("--joined", type=int, default=0, help="so many beside each other, too")
    parser.add_argument("--repeats", type=int, default=5, help="of each call")
    parser.add_argument("--packet-bytes", type=int, default=PACKET_BYTES, help="of each packet")
    parser.add_argument("--qualities", type=int, nargs="+", default=QUALITIES, help="1 to 9")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args(arguments)
    files = [f for f in sorted(options.folder.iterdir()) if f.suffix.lower() in IMAGE_SUFFIXES]
    codec = ImageCodec.load("photo-codec")
    images = {file.stem: read_image(file)[:, :, :3] for file in files[: options.images]}
    if options.joined:
        parts = [read_image(file)[:, :, :3] for file in files[: options.joined]]
        images[f"{options.joined} joined"] = np.ascontiguousarray(np.concatenate(parts, axis=1))
    rows = []
    for name, image in images.items():
        for quality in options.qualities:
            row = measure(codec, image, quality, options.packet_bytes, options.repeats)
            row = {"image": name, **row}
            rows.append(row)
            print(
                f"{row['image']:20} quality {quality}: packets {row['packets_over_compress']:.2f} "
                f"times compress, receive {row['receive_over_decompress']:.2f} times decompress",
                flush=True,
            )
    report = {
        "what": "CPU time of packets and receive beside compress and decompress, one thread",
        "bundle": codec.bundle.id,
        "packet_bytes": options.packet_bytes,
        "repeats": options.repeats,
        "machine": machine(),
        "versions": versions(PACKAGES),
        **{
            f"most_{name}": max(row[name] for row in rows)
            for name in ("packets_over_compress", "receive_over_decompress")
        },
        "rows": rows,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(
    codec: ImageCodec, image: NDArray[np.uint8], quality: int, packet_bytes: int, repeats: int
) -> dict[str, Any]:
    """The row of one image at one quality: medians of CPU milliseconds, and their ratios."""
    blob = codec.compress(image, quality=quality)
    packets = codec.packets(image, max_packet_bytes=packet_bytes, quality=quality)
    calls: dict[str, Callable[[], object]] = {
        "compress": lambda: codec.compress(image, quality=quality),
        "packets": lambda: codec.packets(image, max_packet_bytes=packet_bytes, quality=quality),
        "decompress": lambda: codec.decompress(blob),
        "receive": lambda: codec.receive(packets),
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.process_time()
            call()
            spent[name].append(time.process_time() - began)
    ms = {name: 1000 * statistics.median(times) for name, times in spent.items()}
    return {
        "pixels": image.shape[0] * image.shape[1],
        "quality": quality,
        "file_bytes": len(blob),
        "packets": len(packets),
        "packets_bytes": sum(map(len, packets)),
        **{f"{name}_ms": round(value, 2) for name, value in ms.items()},
        "packets_over_compress": round(ms["packets"] / ms["compress"], 3),
        "receive_over_decompress": round(ms["receive"] / ms["decompress"], 3),
    }


if __name__ == "__main__":
    main()
