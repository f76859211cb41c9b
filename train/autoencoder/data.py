"""A user's own data for an autoencoder: tables, series, arrays and pictures from plain folders."""

from __future__ import annotations

import csv
import gzip
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.image import data as image_data
from train.speech import corpus

Floats = npt.NDArray[np.float32]

TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
ARRAY_SUFFIXES = (".npy", ".npz")
AUDIO_SUFFIXES, IMAGE_SUFFIXES = tuple(corpus.SUFFIXES), tuple(image_data.SUFFIXES)
# What tables write where a value is missing.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})


@dataclass(frozen=True)
class AutoencoderData:
    """Which files are read, and how items are cut from them.

    Attributes:
        folders: where the files are.
        columns: columns of tables to use, in this order; none means all that are not left out.
        leave_out: columns of tables that are no data, such as times and labels.
        pivot: user, item and value columns of a table of ratings: an item is then one user's row.
        window_samples: length of an item of a series.
        hop_samples: distance between items of a series; 0 is half a window.
        side_pixels: pictures are scaled to squares of this side; 0 keeps them, all of one size.
        gray: pictures lose their color.
        held_out: share of the items that are kept for validation: the last part of each series,
            items drawn at random elsewhere.
        shift_pixels, rotate_degrees, flip: how far pictures are moved, turned and mirrored, at
            random, in training.
    """

    folders: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    pivot: tuple[str, ...] = ()
    window_samples: int = 0
    hop_samples: int = 0
    side_pixels: int = 0
    gray: bool = False
    held_out: float = 0.2
    shift_pixels: float = 0.0
    rotate_degrees: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}, expected a share between 0 and 1")
        if self.pivot and len(self.pivot) != 3:
            raise ValueError(f"pivot is {list(self.pivot)}, expected user, item and value columns")


@dataclass(frozen=True)
class Items:
    """Items in their own units.

    Attributes:
        training, validation: float32 (N, *shape); NaN where a value is missing.
        names: names of the entries along the last axis, if the files tell them.
        files: how many files were read.
        skipped: names of files that could not be read, and why.
        pictures: items are pixels of picture files, in [0, 1].
    """

    training: Floats
    validation: Floats
    names: tuple[str, ...]
    files: int
    skipped: dict[str, str]
    pictures: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return self.training.shape[1:]


def read_items(config: AutoencoderData, network: str, seed: int = 0) -> Items:
    """The items of the configured folders.

    Args:
        config: which files and how they are cut.
        network: "dense" reads vectors, "conv1d" series, "conv2d" images.
        seed: of the choice of held-out items.

    Raises:
        ValueError: nothing readable is there, or the files do not fit together; the message says
            what to do.
    """
    files = _files(config, network)
    parts: list[Floats] = []
    names: tuple[str, ...] = ()
    skipped: dict[str, str] = {}
    shape: tuple[int, ...] | None = None
    for file in files:
        try:
            items, file_names = _read(file, config, network)
        except (OSError, UnreadableFile) as error:
            skipped[file.name] = str(error)
            continue
        if shape is not None and items.shape[1:] != shape:
            raise ValueError(
                f"{file} has items of shape {items.shape[1:]}, those before it {shape}: "
                "give files of one shape" + (", or side_pixels" if network == "conv2d" else "")
            )
        shape = items.shape[1:]
        if names and file_names and names != file_names:
            raise ValueError(
                f"{file} has columns {list(file_names)}, those before it {list(names)}"
            )
        names = names or file_names
        parts.append(items)
    count = sum(len(part) for part in parts)
    if count < 2:
        where = ", ".join(config.folders) or "no folders"
        reasons = [f"{name}: {why}" for name, why in list(skipped.items())[:3]]
        told = f"; skipped: {'; '.join(reasons)}" if skipped else ""
        raise ValueError(f"{count} items found in {where}, expected at least 2{told}")
    training, validation = _split(parts, config, network, seed)
    pictures = any(file.name.lower().endswith(IMAGE_SUFFIXES) for file in files)
    return Items(training, validation, names, len(parts), skipped, pictures)


class UnreadableFile(Exception):
    """One file cannot be used; the others can."""


def _files(config: AutoencoderData, network: str) -> list[Path]:
    suffixes = {
        "dense": TABLE_SUFFIXES + ARRAY_SUFFIXES,
        "conv1d": TABLE_SUFFIXES + ARRAY_SUFFIXES + AUDIO_SUFFIXES,
        "conv2d": IMAGE_SUFFIXES + ARRAY_SUFFIXES,
    }[network]
    found: list[Path] = []
    for folder in map(Path, config.folders):
        if not folder.exists():
            raise ValueError(f"{folder} is not there")
        inside = [folder] if folder.is_file() else sorted(folder.rglob("*"))
        found += [file for file in inside if file.name.lower().endswith(suffixes)]
    return found


def _split(
    parts: list[Floats], config: AutoencoderData, network: str, seed: int
) -> tuple[Floats, Floats]:
    if network == "conv1d":
        # Neighbouring windows overlap: only time apart keeps what is held out unseen.
        kept = [max(1, round(len(part) * (1 - config.held_out))) for part in parts]
        training = np.concatenate([part[:k] for part, k in zip(parts, kept, strict=True)])
        rest = [part[k:] for part, k in zip(parts, kept, strict=True)]
        validation = np.concatenate(rest)
        if len(validation):
            return training, validation
    everything = np.concatenate(parts)
    order = np.random.default_rng(seed).permutation(len(everything))
    held = max(1, round(len(everything) * config.held_out))
    return everything[order[held:]], everything[order[:held]]


def _read(file: Path, config: AutoencoderData, network: str) -> tuple[Floats, tuple[str, ...]]:
    """The items (N, *shape) of a file, and the names of their columns."""
    name = file.name.lower()
    if name.endswith(IMAGE_SUFFIXES):
        return _read_image(file, config)[None], ()
    if name.endswith(TABLE_SUFFIXES) and config.pivot:
        header, rows = table_rows(file)
        values, names = _pivot(file, header, rows, config.pivot)
    else:
        values, names = read_values(file, columns=config.columns, leave_out=config.leave_out)
    if network == "conv1d":
        return windows(values, config.window_samples, config.hop_samples, file), names
    if network == "conv2d" and values.ndim == 3:
        values = values[..., None]
    expected = {"dense": 2, "conv2d": 4}[network]
    if values.ndim != expected:
        raise ValueError(
            f"{file} has shape {values.shape}, expected {expected} axes for the network {network}"
        )
    return values, names


def read_values(
    file: Path, *, columns: tuple[str, ...] = (), leave_out: tuple[str, ...] = ()
) -> tuple[Floats, tuple[str, ...]]:
    """The numbers of a table, an array or a recording, and the names of a table's columns.

    `columns` and `leave_out` are those of `AutoencoderData`. NaN stands where a value is missing.
    Raises UnreadableFile for a file that is not what its name says, ValueError for what could be
    read in another way.
    """
    name = file.name.lower()
    if name.endswith(TABLE_SUFFIXES):
        return _read_table(file, columns, leave_out)
    if name.endswith(AUDIO_SUFFIXES):
        return _read_audio(file), ()
    return read_array(file), ()


def windows(values: Floats, length: int, hop: int, file: Path | str = "the series") -> Floats:
    """Windows of a series, float32 (N, length, channels) in its units.

    Args:
        values: (samples,) or (samples, channels), float32; or (N, samples, channels), whose items
            are kept as they are.
        length: samples of a window, from 2.
        hop: samples from one window to the next; 0 is half a window.
        file: what messages call the series.

    Raises:
        ValueError: another shape, or a length below 2.
        UnreadableFile: the series is shorter than a window.
    """
    if values.ndim == 3:
        return values
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"{file} has shape {values.shape}, expected (samples, channels)")
    if length < 2:
        raise ValueError(f"window_samples is {length}, expected at least 2 for a series")
    if len(values) < length:
        raise UnreadableFile(f"{len(values)} samples, a window has {length}")
    hop = hop or max(1, length // 2)
    starts = range(0, len(values) - length + 1, hop)
    return np.stack([values[start : start + length] for start in starts])


def read_array(file: Path) -> Floats:
    """The numbers of an NPY or NPZ file in its shape. Raises UnreadableFile, or ValueError for
    other than one array of numbers."""
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            values = loaded
        else:
            if len(loaded.files) != 1 and "x" not in loaded.files:
                raise ValueError(
                    f"{file} holds {', '.join(loaded.files)}, expected one array or one called x"
                )
            values = loaded["x" if "x" in loaded.files else loaded.files[0]]
    except (ValueError, EOFError) as error:
        if "expected one array" in str(error):
            raise
        raise UnreadableFile(f"not an array that can be read: {error}") from None
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{file} holds {values.dtype}, expected numbers")
    return np.asarray(values, np.float32)


def _read_audio(file: Path) -> Floats:
    import soundfile

    try:
        audio, _ = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise UnreadableFile(str(error)) from None
    return np.asarray(audio, np.float32)


def _read_image(file: Path, config: AutoencoderData) -> Floats:
    """Pixels in [0, 1], float32 (H, W, channels), upright."""
    from PIL import Image, ImageOps

    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of odd metadata: a broken image raises
            Image.open(file, formats=image_data.pillow_formats(file)) as opened,
        ):
            one_channel = config.gray or opened.mode in ("1", "L", "I;16")
            upright = ImageOps.exif_transpose(opened)
            picture: Image.Image = upright.convert("L" if one_channel else "RGB")
        if config.side_pixels:
            size = (config.side_pixels, config.side_pixels)
            picture = picture.resize(size, Image.Resampling.BOX)
        pixels = np.asarray(np.asarray(picture) / np.float32(255), np.float32)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UnreadableFile(str(error)) from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _read_table(
    file: Path, columns: tuple[str, ...], leave_out: tuple[str, ...]
) -> tuple[Floats, tuple[str, ...]]:
    """Rows (N, columns) with NaN where a value is missing, and the names of the columns."""
    header, rows = table_rows(file)
    wanted = columns or tuple(n for n in header if n not in leave_out)
    for name in (*wanted, *leave_out):
        if name not in header:
            raise ValueError(f"{file} has no column {name!r}, expected one of {', '.join(header)}")
    places = [header.index(name) for name in wanted]
    values = np.empty((len(rows), len(wanted)), np.float32)
    for column, place in enumerate(places):
        for line, row in enumerate(rows):
            values[line, column] = _number(row[place], file, line + 2, wanted[column])
    return values, tuple(wanted)


def table_rows(file: Path) -> tuple[list[str], list[list[Any]]]:
    """Names of the columns of a CSV, TSV or Parquet file, and its rows.

    Raises:
        UnreadableFile: it is no table.
        ValueError: a line has another number of values, or pyarrow is missing.
    """
    header, rows = _parquet(file) if file.name.lower().endswith(".parquet") else _csv(file)
    return header, rows


def _csv(file: Path) -> tuple[list[str], list[list[str]]]:
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="") as stream:
            sample = stream.read(8192)
            stream.seek(0)
            delimiter = max(",;\t", key=sample.partition("\n")[0].count)
            lines = [row for row in csv.reader(stream, delimiter=delimiter) if row]
    except (UnicodeDecodeError, csv.Error, EOFError) as error:
        raise UnreadableFile(f"not a table in UTF-8: {error}") from None
    if len(lines) < 2:
        raise UnreadableFile("a table needs a line of names and at least one row")
    header = [name.strip() for name in lines[0]]
    for number, row in enumerate(lines[1:], 2):
        if len(row) != len(header):
            raise ValueError(f"{file}, line {number}: {len(row)} values, expected {len(header)}")
    return header, lines[1:]


def _parquet(file: Path) -> tuple[list[str], list[list[Any]]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{file}: Parquet files need pyarrow: pip install pyarrow") from None
    table = pyarrow.parquet.read_table(file)
    columns = [table.column(name).to_pylist() for name in table.column_names]
    return list(table.column_names), [list(row) for row in zip(*columns, strict=True)]


def _number(value: Any, file: Path, line: int, column: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING:
            return math.nan
        try:
            number = float(text)
        except ValueError:
            raise ValueError(
                f"{file}, line {line}: column {column!r} is {text!r}, expected a number: "
                f"leave_out = [{column!r}] leaves the column out"
            ) from None
    else:
        number = float(value)
    if math.isinf(number):
        raise ValueError(f"{file}, line {line}: column {column!r} is {number}, expected a number")
    return number


def _pivot(
    file: Path, header: list[str], rows: list[list[Any]], pivot: tuple[str, ...]
) -> tuple[Floats, tuple[str, ...]]:
    """A matrix of users by items from rows of user, item, value; NaN where there is none."""
    for name in pivot:
        if name not in header:
            raise ValueError(f"{file} has no column {name!r}, expected one of {', '.join(header)}")
    user, item, value = (header.index(name) for name in pivot)
    users = sorted({str(row[user]) for row in rows})
    items = sorted({str(row[item]) for row in rows})
    user_place = {name: i for i, name in enumerate(users)}
    item_place = {name: i for i, name in enumerate(items)}
    matrix = np.full((len(users), len(items)), np.nan, np.float32)
    for line, row in enumerate(rows, 2):
        rating = _number(row[value], file, line, pivot[2])
        matrix[user_place[str(row[user])], item_place[str(row[item])]] = rating
    return matrix, tuple(items)


def augment(items: Floats, config: AutoencoderData, rng: np.random.Generator) -> Floats:
    """Images moved, turned and mirrored at random; bilinear, edges repeated.

    Args:
        items: float32 (N, H, W, C).
        config: how far.
        rng: what the random numbers come from.

    Returns:
        As many, of the same shape, dtype and units.
    """
    if not (config.shift_pixels or config.rotate_degrees or config.flip):
        return items
    count, height, width, _ = items.shape
    angle = np.deg2rad(rng.uniform(-1, 1, count) * config.rotate_degrees)[:, None, None]
    shift = rng.uniform(-1, 1, (2, count, 1, 1)) * config.shift_pixels
    mirrored = np.where(config.flip & (rng.random(count) < 0.5), -1.0, 1.0)[:, None, None]
    y, x = np.mgrid[0:height, 0:width] - np.array([height - 1, width - 1])[:, None, None] / 2
    rows = np.cos(angle) * y - np.sin(angle) * x + (height - 1) / 2 + shift[0]
    columns = mirrored * (np.sin(angle) * y + np.cos(angle) * x) + (width - 1) / 2 + shift[1]
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    top = np.minimum(rows.astype(np.int64), max(0, height - 2))
    left = np.minimum(columns.astype(np.int64), max(0, width - 2))
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, along = (rows - top)[..., None], (columns - left)[..., None]
    each = np.arange(count)[:, None, None]
    upper = items[each, top, left] * (1 - along) + items[each, top, right] * along
    lower = items[each, bottom, left] * (1 - along) + items[each, bottom, right] * along
    return np.asarray(upper * (1 - down) + lower * down, np.float32)
