"""Items through an autoencoder: files of arrays, tables and images to latents, and new items to
files."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae import media
from edgeae.autoencoder import Autoencoder, file_info
from edgeae.batch import Done, Job, Loading, Tick, loaded
from edgeae.cli import pipes
from edgeae.cli.folder import refuse_existing
from edgeae.cli.options import UsageError, in_words_of_the_command
from edgeae.errors import MediaError

__all__ = [
    "SUFFIXES",
    "Compression",
    "Restoring",
    "check_items_name",
    "check_page_target",
    "check_rows_target",
    "check_samples_target",
    "compress_file",
    "decompress_file",
    "read_items",
    "write_page",
    "write_rows",
    "write_samples",
]

# What `latents` reads: arrays, and images one by one or as a folder.
ARRAY_SUFFIXES = frozenset({".npy"})
SUFFIXES = ARRAY_SUFFIXES | media.IMAGE_SUFFIXES
MAX_ARRAY_BYTES = 1 << 32


@dataclass(frozen=True)
class Compression:
    """How to compress items: a quality, or a budget in bytes instead."""

    loading: Loading
    quality: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class Restoring:
    """How to restore items: with which model, and as what where OUT does not say it."""

    loading: Loading
    to: str = ".npy"


def compress_file(how: Compression, job: Job, tick: Tick) -> Done:
    """Compresses the items of one array, or one image.

    Raises what reading, `Autoencoder.compress` and writing raise.
    """
    model = loaded(how.loading)
    if job.source == pipes.PIPE:
        raise UsageError("IN is -, expected a file of items")
    items, _ = read_items(job.source, model)
    with in_words_of_the_command():
        blob = model.compress(items, quality=how.quality, max_bytes=how.max_bytes)
    pipes.write_bytes(job.target, blob)
    before = job.source.stat().st_size
    line = (
        f"{job.source} -> {pipes.name(job.target, 'stdout')}  {before:,} -> {len(blob):,} bytes"
        f"  {8 * len(blob) / len(items):.1f} bit/item"
    )
    if how.max_bytes is not None:
        line += f"  quality {file_info(blob)['quality']:g}"
    return Done(line, before, len(blob), None)


def decompress_file(how: Restoring, job: Job, tick: Tick) -> Done:
    """Restores the items of one .eae file.

    Raises what reading, `Autoencoder.decompress` and writing raise.
    """
    blob = pipes.read_bytes(job.source)
    model = loaded(how.loading)
    with in_words_of_the_command():
        items = model.decompress(blob)
    items = items if items.ndim > len(model.shape) else items[None]
    suffix = how.to if job.target == pipes.PIPE else job.target.suffix.lower()
    if suffix == ".png":
        if job.target == pipes.PIPE or model.kind != "image":
            raise UsageError(f"OUT is {job.target}, expected .npy for {model.kind}s, or a file")
        write_samples(job.target, items)
        written = job.target.stat().st_size
    else:
        data = _npy(items)
        pipes.write_bytes(job.target, data)
        written = len(data)
    line = (
        f"{pipes.name(job.source, 'stdin')} -> {pipes.name(job.target, 'stdout')}"
        f"  {len(items)} items of {' x '.join(map(str, model.shape))}"
    )
    return Done(line, len(blob), written, None)


def check_items_name(shown: Path) -> None:
    """UsageError for a name that cannot hold items."""
    if shown.suffix.lower() not in (".npy", ".png"):
        raise UsageError(f"OUT ends in {shown.suffix!r}, expected .npy or .png: see --to")


def read_items(source: Path, model: Autoencoder) -> tuple[NDArray[np.float32], list[str]]:
    """The items of a file or a folder of images, and a name for each.

    Returns:
        float32 (N, *model.shape) and N names: images in [0, 1], arrays in the units of the file.

    Raises:
        MediaError: nothing that the model takes is there; the message says what it takes.
    """
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise MediaError(f"{source} holds no file that ends in {' '.join(sorted(SUFFIXES))}")
    else:
        files = [source]
    items: list[NDArray[np.float32]] = []
    names: list[str] = []
    for file in files:
        found = _array(file) if file.suffix.lower() == ".npy" else _image(file, model)
        found = _with_channel(found, model)
        if found.shape == model.shape:
            found = found[None]
        if found.shape[1:] != model.shape:
            raise MediaError(
                f"{file} has shape {found.shape}, expected {model.shape} or a batch of them"
            )
        items.append(found)
        one = len(found) == 1
        names += [file.name] if one else [f"{file.name}[{i}]" for i in range(len(found))]
    return np.concatenate(items), names


def _with_channel(found: NDArray[np.float32], model: Autoencoder) -> NDArray[np.float32]:
    """Gray pictures (H, W) or (N, H, W) as the model takes them, with their one channel: training
    reads them without one."""
    *sides, channels = model.shape
    gray = model.kind == "image" and channels == 1
    return found[..., None] if gray and list(found.shape[-2:]) == sides else found


def _array(file: Path) -> NDArray[np.float32]:
    data = media.read_bytes(file, max_bytes=MAX_ARRAY_BYTES)
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MediaError(f"{file} is no .npy file of numbers: {error}") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise MediaError(f"{file} is no .npy file of numbers")
    return np.asarray(values, np.float32)


def _image(file: Path, model: Autoencoder) -> NDArray[np.float32]:
    if model.kind != "image":
        raise MediaError(f"{file} is an image, expected a .npy file: the model takes {model.kind}s")
    pixels = media.read_image(file)
    channels = model.shape[2]
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if channels == 1 and pixels.shape[2] >= 3:
        # Luma of ITU-R BT.601, as images lose their color in training too.
        luma = pixels[:, :, :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return np.asarray(luma[:, :, None] / np.float32(255), np.float32)
    if pixels.shape[2] == 1 and channels == 3:
        pixels = pixels.repeat(3, axis=2)
    return np.asarray(pixels[:, :, :channels] / np.float32(255), np.float32)


def check_rows_target(target: Path, *, force: bool) -> None:
    """Raises MediaError for an OUT that cannot hold rows, or that is there."""
    _check_target(target, (".npy", ".csv"), force=force)


def check_samples_target(target: Path, *, force: bool) -> None:
    """Raises MediaError for an OUT that cannot hold items, or that is there."""
    _check_target(target, (".npy", ".png"), force=force)


def check_page_target(target: Path, *, force: bool) -> None:
    """Raises MediaError for a name that is no page's, or that is there."""
    _check_target(target, (".html",), force=force)


def write_rows(target: Path, rows: NDArray[np.float32], names: list[str]) -> None:
    """Write rows as .npy, or as .csv with a name before each row.

    Args:
        target: a name that `check_rows_target` has passed.
        rows: float32 (N, columns).
        names: N texts, the first column of a .csv.

    Raises:
        MediaError: the file cannot be written.
    """
    if target.suffix.lower() == ".npy":
        media.atomic_write(target, _npy(rows))
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *(f"latent_{i}" for i in range(rows.shape[1]))])
    for name, row in zip(names, rows, strict=True):
        writer.writerow([name, *(str(value) for value in row)])
    media.atomic_write(target, text.getvalue().encode())


def write_samples(target: Path, items: NDArray[np.float32]) -> None:
    """Write items as .npy, or images as one sheet of them.

    Args:
        target: a name that `check_samples_target` has passed.
        items: float32 (N, *shape) as .npy; for a sheet (N, H, W, C) of 1 or 3 channels in [0, 1],
            or in other units, which are spread from their smallest to their largest value.

    Raises:
        MediaError: the file cannot be written.
    """
    if target.suffix.lower() == ".npy":
        media.atomic_write(target, _npy(items))
        return
    count, height, width, channels = items.shape
    columns = math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), np.uint8)
    low, high = (0.0, 1.0) if items.max() <= 2 else (float(items.min()), float(items.max()))
    pixels = np.rint(np.clip((items - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    for i, one in enumerate(pixels):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = one
    media.write_image(target, sheet if channels == 3 else sheet[:, :, 0])


def write_page(target: Path, text: str) -> None:
    """Write a page of HTML."""
    media.atomic_write(target, text.encode())


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _check_target(target: Path, suffixes: tuple[str, ...], *, force: bool) -> None:
    if target.suffix.lower() not in suffixes:
        raise MediaError(f"{target} ends in {target.suffix!r}, expected {' or '.join(suffixes)}")
    refuse_existing(target, force=force)
