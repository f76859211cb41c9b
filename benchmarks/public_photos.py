"""A second set of photographs, of other origin than what the photo codec was trained on.

    python -m benchmarks.public_photos UNPACKED OUT

UNPACKED holds the contents of public packages: the PyPI wheels scikit-image 0.16.2, scikit-learn
0.24.2 and scipy 1.5.4, and the Debian packages mate-backgrounds and opencv-doc. OUT gets their
photographs as PNG for `python -m benchmarks.rate_distortion OUT`. What was stored as JPEG is halved
at least, so that its blocks and its lack of fine noise favor no codec; what is larger than 768
pixels a side is shrunk to that.
"""

from __future__ import annotations

import argparse
import bz2
import sys
from pathlib import Path

import numpy as np
from PIL import Image

LONGEST_PIXELS = 768
# scipy keeps its raccoon as bare numbers.
RACCOON, RACCOON_SHAPE = "scipy/misc/face.dat", (768, 1024, 3)
PHOTOS = (
    *(f"skimage/data/{name}.png" for name in ("astronaut", "chelsea", "coffee", "motorcycle_left")),
    RACCOON,
    *(f"sklearn/datasets/images/{name}.jpg" for name in ("china", "flower")),
    *(f"examples/data/{name}" for name in ("aloeL.jpg", "basketball1.png", "graf1.png")),
    "examples/data/rubberwhale2.png",
    *(
        f"backgrounds/mate/nature/{name}.jpg"
        for name in (
            "Aqua",
            "Dune",
            "FreshFlower",
            "Garden",
            "GreenMeadow",
            "LadyBird",
            "RainDrops",
            "Storm",
            "TwoWings",
            "Wood",
            "YellowFlower",
        )
    ),
)


def main() -> None:
    """Read the command line, find the photographs and write them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.public_photos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("unpacked", type=Path, help="folder with the packages' contents")
    parser.add_argument("out", type=Path, help="where the images go")
    arguments = parser.parse_args()
    found = {name: find(arguments.unpacked, name) for name in PHOTOS}
    missing = [name for name, file in found.items() if file is None]
    if missing:
        sys.exit(f"{arguments.unpacked} lacks {', '.join(missing)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file in found.values():
        assert file is not None
        shrunk(file).save(arguments.out / f"{file.stem.lower()}.png")
    print(f"{len(found)} images in {arguments.out}")


def find(folder: Path, name: str) -> Path | None:
    """The file whose path ends in `name`, if one is there."""
    return next(iter(sorted(folder.rglob(name))), None)


def shrunk(file: Path) -> Image.Image:
    """The image, halved if it was stored with loss, and at most 768 pixels a side."""
    image = _read(file)
    scale = min(1.0 if file.suffix != ".jpg" else 0.5, LONGEST_PIXELS / max(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    return image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)


def _read(file: Path) -> Image.Image:
    if file.suffix == ".dat":
        data = np.frombuffer(bz2.decompress(file.read_bytes()), np.uint8)
        return Image.fromarray(data.reshape(RACCOON_SHAPE))
    return Image.open(file).convert("RGB")


if __name__ == "__main__":
    main()
