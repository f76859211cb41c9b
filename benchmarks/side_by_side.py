"""Crops side by side: what each codec makes of the same images in the same number of bytes.

    python -m benchmarks.side_by_side OUT.png PICTURE... [--efforts photo-codec-ms-ssim] [--bpp 0.5]

Each codec takes its finest setting whose file is no larger than asked; crops are enlarged twice. A
column is of one codec, its title of the whole image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.rate_distortion import (
    Contender,
    Pixels,
    effort_contenders,
    our_contenders,
    peer_contenders,
)
from edgeae.media import read_image
from edgeae.metrics import ms_ssim, psnr_db

PEERS = ("jpeg", "webp", "avif6")
CROP_SIDE = 160
# Qualities between the whole ones, so that the files can be equally large.
OUR_STEPS = 8


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and draw the crops."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.side_by_side",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="the image to write, .png")
    parser.add_argument("images", type=Path, nargs="+", help="images not used in training")
    parser.add_argument("--model", default="photo-codec", help="a bundled name or a directory")
    parser.add_argument("--efforts", help="a second model, with each of its encoders")
    parser.add_argument("--bpp", type=float, default=0.5, help="bits per pixel of every file")
    options = parser.parse_args(arguments)
    ours = next(our_contenders(options.model, ["int8"]))
    others = effort_contenders(options.efforts) if options.efforts else ()
    contenders = [ours, *others, *peer_contenders(PEERS)]
    draw(options.out, options.images, contenders, options.bpp)


def draw(out: Path, files: Sequence[Path], contenders: Sequence[Contender], bpp: float) -> None:
    """Write the figure: a row for each file, the original and then each contender's crop."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    columns = len(contenders) + 1
    figure, axes = pyplot.subplots(
        len(files),
        columns,
        figsize=(2.9 * columns, 3.2 * len(files)),
        layout="constrained",
        squeeze=False,
    )
    for row, file in zip(axes, files, strict=True):
        image = read_image(file)
        top, left = busiest(image, CROP_SIDE)
        window = (slice(top, top + CROP_SIDE), slice(left, left + CROP_SIDE))
        row[0].imshow(image[window], interpolation="nearest")
        row[0].set_title(f"original, {file.stem}", fontsize=9)
        budget = int(bpp * image.shape[0] * image.shape[1] / 8)
        for axis, contender in zip(row[1:], contenders, strict=True):
            restored, size = finest(contender, image, budget)
            axis.imshow(restored[window], interpolation="nearest")
            structure = -10 * np.log10(1 - ms_ssim(image, restored))
            title = (
                f"{contender.name}\n{size:,} bytes, {psnr_db(image, restored):.1f} dB, "
                f"MS-SSIM {structure:.1f} dB"
            )
            axis.set_title(title, fontsize=9)
        for axis in row:
            axis.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    pyplot.close(figure)


def finest(contender: Contender, image: Pixels, budget_bytes: int) -> tuple[Pixels, int]:
    """The image at the finest setting that fits, and its size; at the coarsest if none does."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "image"
        settings = list(_settings(contender))
        low, high = 0, len(settings)
        while high - low > 1:
            middle = (low + high) // 2
            contender.encode(image, settings[middle], target)
            low, high = (middle, high) if target.stat().st_size <= budget_bytes else (low, middle)
        contender.encode(image, settings[low], target)
        return contender.decode(target), target.stat().st_size


def _settings(contender: Contender) -> Iterator[float]:
    low, high = contender.settings[0], contender.settings[-1]
    steps = OUR_STEPS if high < 10 else 1
    yield from np.arange(low, high + 1 / steps, 1 / steps).tolist()


def busiest(image: Pixels, side: int) -> tuple[int, int]:
    """Top and left of the square with the most detail, on a grid of half its side."""
    if min(image.shape[:2]) < side:
        sys.exit(f"images must be at least {side} pixels a side")
    light = image.mean(axis=2)
    detail = np.abs(np.diff(light, axis=0))[:, :-1] + np.abs(np.diff(light, axis=1))[:-1]
    tops = range(0, image.shape[0] - side + 1, side // 2)
    lefts = range(0, image.shape[1] - side + 1, side // 2)
    return max(
        ((t, x) for t in tops for x in lefts),
        key=lambda at: detail[at[0] : at[0] + side, at[1] : at[1] + side].mean(),
    )


if __name__ == "__main__":
    main()
