"""A second set of photographs: those that the photo codec's training held out.

    python -m benchmarks.held_out FOLDER OUT [--scale 0.75]

FOLDER is the folder that the codec was trained on; OUT gets the images as PNG, for
`python -m benchmarks.rate_distortion OUT`. Shrinking removes what lossy storage left in them, but
weighs the headers of small files more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image
from rich.progress import track

from train.config import read_config
from train.image.data import PhotoData, Photos

CONFIG = Path(__file__).parent.parent / "train" / "configs" / "photo-codec.toml"


def main() -> None:
    """Read the command line and write the images."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.held_out",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="the folder of training photographs")
    parser.add_argument("out", type=Path, help="where the images go")
    parser.add_argument("--scale", type=float, default=1.0, help="of each side, at most 1")
    arguments = parser.parse_args()
    if not 0.1 <= arguments.scale <= 1:
        parser.error(f"--scale is {arguments.scale}, expected 0.1 to 1")
    config = read_config(CONFIG)
    data = PhotoData(
        folders=(arguments.folder,),
        crop_pixels=config.data.crop_pixels,
        held_out=config.data.held_out,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(track(Photos(data).validation, "writing")):
        height, width = (round(side * arguments.scale) for side in image.shape[:2])
        small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        small.save(arguments.out / f"held-out-{i:02}.png")


if __name__ == "__main__":
    main()
