"""The Python side of measure_codec.mjs.

python measure_codec.py make PICTURES WORK    writes files, their symbols' hashes and pixels
python measure_codec.py read WORK             reads the files that JavaScript wrote
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np

import edgeae
from edgeae.media import read_image

QUALITIES = (2, 4, 7)
BUNDLE = Path(__file__).resolve().parents[2] / "edgeae" / "models" / "photo-codec"


def timed(call):
    """Its result, and its CPU time, which other work on the machine does not change."""
    start = time.process_time()
    result = call()
    return result, 1e3 * (time.process_time() - start)


def make(pictures: Path, work: Path) -> None:
    codec, plain = (edgeae.load(BUNDLE, precision=name) for name in ("int8", "fp32"))
    files = []
    for path in sorted(p for p in pictures.iterdir() if p.suffix in (".png", ".webp")):
        image = np.ascontiguousarray(read_image(path)[:, :, :3])
        opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
        np.concatenate([image, opaque], axis=2).tofile(work / f"{path.stem}.rgba")
        for quality in QUALITIES:
            name = f"{path.stem}-{quality}"
            blob, encode_ms = timed(lambda q=quality, x=image: codec.compress(x, quality=q))
            restored, decode_ms = timed(lambda b=blob: codec.decompress(b))
            (work / f"{name}.eae").write_bytes(blob)
            restored.tofile(work / f"{name}.int8.rgb")
            plain.decompress(blob).tofile(work / f"{name}.fp32.rgb")
            symbols = codec.encode(image, quality=quality).symbols.astype("<i4")
            files.append(
                {
                    "name": name, "picture": path.stem, "quality": quality,
                    "height": image.shape[0], "width": image.shape[1],
                    "symbols_sha256": hashlib.sha256(symbols.tobytes()).hexdigest(),
                    "encode_ms": encode_ms, "decode_ms": decode_ms,
                }
            )  # fmt: skip
    (work / "files.json").write_text(json.dumps({"bundle": codec.bundle.id, "files": files}))


def read(work: Path) -> None:
    """Prints, for each file of JavaScript's, the largest difference to what JavaScript restores."""
    codec = edgeae.load(BUNDLE, precision="int8")
    worst = {}
    for path in sorted(work.glob("*.js.eae")):
        restored = codec.decompress(path.read_bytes())
        theirs = np.fromfile(path.with_suffix("").with_suffix(".jsrgba"), np.uint8)
        difference = theirs.reshape(*restored.shape[:2], 4)[:, :, :3].astype(int) - restored
        worst[path.name] = int(np.abs(difference).max())
    print(json.dumps(worst))


if __name__ == "__main__":
    {"make": make, "read": read}[sys.argv[1]](*map(Path, sys.argv[2:]))
