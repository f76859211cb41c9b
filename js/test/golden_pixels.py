"""Writes golden-pixels.json: the pixels of the golden files as the Python package restores them.

python js/test/golden_pixels.py
"""

from __future__ import annotations

import json
from pathlib import Path

import edgeae

HERE = Path(__file__).parent
GOLDEN = HERE.parent.parent / "tests" / "golden"


def main() -> None:
    codec = edgeae.load(GOLDEN / "tiny-codec")
    pixels = {}
    for file in sorted(GOLDEN.glob("*.eae")):
        pixels[file.name] = codec.decompress(file.read_bytes()).tobytes().hex()
    for file in sorted(GOLDEN.glob("*.hex")):
        packets = [bytes.fromhex(line) for line in file.read_text().split()]
        pixels[file.name] = codec.receive(packets)[0].tobytes().hex()
    (HERE / "golden-pixels.json").write_text(json.dumps(pixels, indent=0) + "\n")


if __name__ == "__main__":
    main()
