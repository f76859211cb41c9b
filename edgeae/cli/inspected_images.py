"""Image files through a detector of images: a line each, JSON, and heat maps. One file a call.

A model is loaded once in each process.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgeae import batch, media
from edgeae.batch import NO_FILE, Done, Job, Loading, Tick, loaded
from edgeae.cli import folder, options, terminal
from edgeae.cli.folder import Settings
from edgeae.image.detector import ImageDetector, ImageScore

__all__ = [
    "PLOT_SUFFIXES",
    "SUFFIXES",
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


def inspect_file(how: Inspection, job: Job, tick: Tick) -> Done:
    """Scores the image in one file, and draws its heat map beside it into the job's target, if it
    has one. Raises what reading, the detector and writing raise."""
    image = media.read_image(job.source)
    model: ImageDetector = loaded(how.loading)
    found = model.score(image)
    limit = model.threshold if how.threshold is None else how.threshold
    plot = b"" if job.target == NO_FILE else heat_map(image, found, limit)
    if plot:
        media.atomic_write(job.target, plot)
    flagged = found.score > limit
    word = "strange" if flagged else "good"
    told = {
        "file": str(job.source),
        "model": model.bundle.manifest.name,
        "bundle": model.bundle.id,
        "score": round(found.score, 6),
        "threshold": limit,
        "flagged": flagged,
    }
    line = f"{job.source}  {word}  score {found.score:.3f}, threshold {limit:.3f}"
    return Done(line, job.source.stat().st_size, len(plot), found=told)


def inspect_images(
    how: Inspection, source: Path, plot: Path | None, settings: Settings, *, as_json: bool
) -> None:
    """Scores the image in a file or those in a folder, and says what was found of each.

    `plot` is the heat map's file, of a folder the folder of heat maps. Raises MediaError if there
    is nothing to read, or of a single file what cannot be done; of a folder's files, failures end
    the command with exit code 1 after the others.
    """
    planned = options.checked(
        batch.plan,
        [source],
        plot,
        suffixes=SUFFIXES,
        new_suffix=None,
        why_not=lambda path: "no image",
    )
    if plot is not None and planned.many:
        # Files of one stem keep apart by their whole names.
        jobs = [
            Job(job.source, job.target.with_name(f"{job.target.name}.png")) for job in planned.jobs
        ]
        planned = dataclasses.replace(planned, jobs=jobs)
    if plot is not None and not planned.many and not settings.skip_existing:
        folder.refuse_existing(planned.jobs[0].target, force=settings.force)
    options.load_for(how.loading, "detector", processes=settings.processes_for(planned))
    found: list[dict[str, Any]] = []

    def tell(job: Job, done: Done) -> None:
        found.append(done.found or {})
        if not as_json:
            terminal.say(done.line)

    work = functools.partial(inspect_file, how)
    tally = folder.run_jobs(planned, work, settings, tell=tell)
    if as_json:
        found.sort(key=lambda one: Path(one["file"]))
        told = found if planned.many else next(iter(found), None)
        print(json.dumps(told, indent=1))
    elif planned.many:
        flagged = sum(one["flagged"] for one in found)
        terminal.say(f"{flagged} of {terminal.count(len(found), 'image')} flagged")
    folder.end(tally, settings)


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
