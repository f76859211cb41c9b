"""Image files through a detector of images: a line each, JSON, and heat maps. One file a call.

A model is loaded once in each process.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgeae import media
from edgeae.batch import Loading, loaded
from edgeae.cli import terminal
from edgeae.cli.folder import refuse_existing
from edgeae.errors import EdgeaeError, MediaError
from edgeae.image.detector import ImageDetector, ImageScore

__all__ = [
    "PLOT_SUFFIXES",
    "SUFFIXES",
    "Inspected",
    "Inspection",
    "heat_map",
    "inspect_file",
    "inspect_images",
]

# The files of a folder that are images, and what a plot may be.
SUFFIXES = media.IMAGE_SUFFIXES
PLOT_SUFFIXES = (".png",)
# A plot is no larger than this, whatever the image is.
_LARGEST_PLOT = 1200
# From black through red and yellow to white: a heat map that is told apart in gray too.
_HEAT = np.array([[0, 0, 0], [120, 0, 10], [225, 70, 10], [250, 190, 50], [255, 255, 255]], float)
_LIMIT = "#00bcd4"


@dataclass(frozen=True)
class Inspection:
    """How to score images; None takes the model's own threshold."""

    loading: Loading
    threshold: float | None = None


@dataclass(frozen=True)
class Inspected:
    """What was found of one file."""

    file: str
    score: float
    threshold: float
    flagged: bool
    bundle: str
    model: str

    def line(self) -> str:
        """For people."""
        word = "strange" if self.flagged else "good"
        return f"{self.file}  {word}  score {self.score:.3f}, threshold {self.threshold:.3f}"

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {
            "file": self.file,
            "model": self.model,
            "bundle": self.bundle,
            "score": round(self.score, 6),
            "threshold": self.threshold,
            "flagged": self.flagged,
        }


def inspect_file(how: Inspection, source: Path, plot: Path | None) -> Inspected:
    """Scores the image in one file, and draws its heat map beside it into `plot`.

    Raises what reading, the detector and writing raise.
    """
    image = media.read_image(source)
    model: ImageDetector = loaded(how.loading)
    found = model.score(image)
    limit = model.threshold if how.threshold is None else how.threshold
    if plot is not None:
        media.atomic_write(plot, heat_map(image, found, limit))
    manifest = model.bundle.manifest
    return Inspected(
        str(source), found.score, limit, found.score > limit, model.bundle.id, manifest.name
    )


def inspect_images(
    how: Inspection, source: Path, plot: Path | None, *, as_json: bool, force: bool
) -> bool:
    """Scores the image in a file or those in a folder, and says what was found of each; whether all
    could be read.

    `plot` is the heat map's file, of a folder the folder of heat maps. Raises MediaError if there
    is nothing to read, or a plot is there already and `force` is not set; for a single file what
    `inspect_file` raises.
    """
    jobs = _jobs(source, plot, force=force)
    told: list[dict[str, Any]] = []
    failures: list[str] = []
    with terminal.progress_bar(len(jobs), shown=source.is_dir()) as show:
        for i, job in enumerate(jobs):
            show(i, job.source.name)
            try:
                if job.plot is not None:
                    job.plot.parent.mkdir(parents=True, exist_ok=True)
                found = inspect_file(how, job.source, job.plot)
            except (EdgeaeError, OSError) as error:
                if not source.is_dir():
                    raise
                failures.append(str(error))
                continue
            told.append(found.told())
            if not as_json:
                terminal.say(found.line())
    if as_json:
        print(json.dumps(told if source.is_dir() else told[0], indent=1))
    for failure in failures:
        terminal.complain(failure)
    flagged = sum(one["flagged"] for one in told)
    if source.is_dir() and not as_json:
        terminal.say(f"{flagged} of {terminal.count(len(told), 'image')} flagged")
    return not failures


@dataclass(frozen=True)
class _Job:
    """An image and where its heat map goes."""

    source: Path
    plot: Path | None


def _jobs(source: Path, plot: Path | None, *, force: bool) -> list[_Job]:
    if not source.is_dir():
        jobs = [_Job(source, plot)]
    else:
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise MediaError(f"{source} holds no file that ends in {' '.join(sorted(SUFFIXES))}")
        # Files of one stem keep apart by their whole names.
        jobs = [
            _Job(file, plot and plot / file.relative_to(source).with_name(f"{file.name}.png"))
            for file in files
        ]
    for job in jobs:
        if job.plot is not None:
            refuse_existing(job.plot, force=force)
    return jobs


def heat_map(image: NDArray[Any], found: ImageScore, threshold: float) -> bytes:
    """A PNG: the image (H, W) or (H, W, channels), and beside it its map, from black for what is
    common to white for what is twice as far above it as the threshold; what lies above the
    threshold has a line around it."""
    low = float(np.median(found.map))
    high = max(2 * threshold - low, low + 1e-6, float(found.map.max()) if low > threshold else low)
    share = ((found.map - low) / max(high - low, 1e-6)).clip(0, 1)
    steps = np.linspace(0, 1, len(_HEAT))
    heat = np.stack([np.interp(share, steps, _HEAT[:, c]) for c in range(3)], axis=2)
    above = found.map > threshold
    edge = above & ~_shrunk(above)
    heat[edge] = tuple(int(_LIMIT[i : i + 2], 16) for i in (1, 3, 5))
    colors = image if image.ndim == 3 else image[:, :, None]
    colors = colors[:, :, :3].repeat(3 if colors.shape[2] == 1 else 1, axis=2)
    if colors.dtype == np.uint16:
        colors = colors >> 8
    height, width = found.map.shape
    shown = Image.new("RGB", (2 * width + 8, height + 16), "white")
    shown.paste(Image.fromarray(colors.astype(np.uint8)), (0, 16))
    shown.paste(Image.fromarray(heat.astype(np.uint8)), (width + 8, 16))
    shown.thumbnail((_LARGEST_PLOT, _LARGEST_PLOT))
    word = "strange" if found.score > threshold else "good"
    text = f"{word}: score {found.score:.3f}, threshold {threshold:.3f}"
    ImageDraw.Draw(shown).text((2, 2), text, fill="black")
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    return buffer.getvalue()


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (H, W) without its edge."""
    inner = np.pad(mask, 1)
    found: NDArray[np.bool_] = (
        inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:] & mask
    )
    return found
