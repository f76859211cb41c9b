"""A first config for a folder of a user's own data, with the reasons for what it says."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.autoencoder.data import (
    ARRAY_SUFFIXES,
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    MISSING,
    TABLE_SUFFIXES,
    AutoencoderData,
    UnreadableFile,
    read_array,
    read_items,
    table_rows,
)

__all__ = ["first_config"]

Floats = npt.NDArray[np.float32]

# Files that are looked at, rows of a table, and items whose components are counted.
_FILES, _ROWS, _ITEMS = 40, 5000, 2000
# Latents hold so much of the variance as principal components, within these bounds.
_HELD, _LATENTS = 0.95, (4, 64)
# The largest side of pictures, and the length of windows, that a first run takes.
_SIDE, _WINDOW = 64, 64
# A column is one of a series if each value tells this much of the next, as a correlation.
_FOLLOWS = 0.5
_RATINGS = (
    ("user", "userid", "user_id", "uid"),
    ("item", "itemid", "item_id", "movieid", "movie_id", "product", "productid", "product_id"),
    ("rating", "stars", "score", "value"),
)


@dataclass
class _Choice:
    """What a config says so far, by section and key, each with its reason, and remarks."""

    network: str
    remarks: list[str] = field(default_factory=list)
    keys: dict[str, dict[str, tuple[Any, str]]] = field(default_factory=dict)

    def say(self, section: str, key: str, value: Any, why: str = "") -> None:
        self.keys.setdefault(section, {})[key] = (value, why)


def first_config(folder: Path) -> str:
    """A config as TOML text for the data in a folder.

    Raises:
        ValueError: nothing there can be read; the message says what could be.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    kinds = {
        "pictures": IMAGE_SUFFIXES,
        "tables": TABLE_SUFFIXES,
        "arrays": ARRAY_SUFFIXES,
        "recordings": AUDIO_SUFFIXES,
    }
    found = {
        kind: [file for file in files if file.name.lower().endswith(suffixes)]
        for kind, suffixes in kinds.items()
    }
    kind = max(found, key=lambda one: len(found[one]))
    if not found[kind]:
        raise ValueError(
            f"{folder} holds no pictures, tables (CSV, TSV, Parquet), arrays (NPY, NPZ) or "
            "recordings (WAV, FLAC ...)"
        )
    look = {"pictures": _pictures, "tables": _tables, "arrays": _arrays, "recordings": _recordings}
    choice = look[kind](found[kind])
    choice.remarks.insert(0, f"{len(found[kind])} {kind}.")
    others = [f"{len(rest)} {name}" for name, rest in found.items() if rest and name != kind]
    if others:
        choice.remarks.append(f"Not looked at: {', '.join(others)}. Give each kind a folder.")
    choice.say("data", "folders", [str(folder)])
    _sizes(choice)
    return _text(re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()) or "mine", choice)


def _pictures(files: Sequence[Path]) -> _Choice:
    from PIL import Image

    choice = _Choice("conv2d")
    sizes, gray = Counter[tuple[int, int]](), True
    for file in _some(files):
        try:
            with Image.open(file) as picture:
                sizes[picture.size] += 1
                small = np.asarray(picture.convert("RGB").resize((16, 16)), np.int16)
        except (OSError, Image.DecompressionBombError):
            choice.remarks.append(f"{file.name} cannot be read and is left out.")
            continue
        gray = gray and int(np.ptp(small, axis=2).max()) <= 8
    if not sizes:
        raise ValueError(f"none of {len(files)} pictures can be read, such as {files[0]}")
    largest = max(max(size) for size in sizes)
    if len(sizes) == 1 and largest <= _SIDE:
        width, height = next(iter(sizes))
        choice.remarks.append(f"All are {width} x {height}, and are taken as they are.")
    else:
        side = min(_SIDE, 2 ** int(math.log2(max(8, min(min(size) for size in sizes)))))
        why = (
            f"they have {len(sizes)} sizes, up to {largest}" if len(sizes) > 1 else f"of {largest}"
        )
        choice.say("data", "side_pixels", side, f"{why}; a small side trains in minutes")
    choice.say("data", "gray", gray, "none has color" if gray else "some have color")
    choice.say("data", "shift_pixels", 1.0, "a little movement makes few pictures many")
    return choice


def _tables(files: Sequence[Path]) -> _Choice:
    header, rows = _first_table(files)
    lower = [name.lower() for name in header]
    ratings = [next((n for n in names if n in lower), None) for names in _RATINGS]
    if all(ratings):
        choice = _Choice("dense")
        pivot = [header[lower.index(name)] for name in ratings if name]
        choice.say("data", "pivot", pivot, "a rating a line: an item of training is a user's row")
        choice.say("network", "masked", True, "nobody has rated everything")
        choice.say("network", "shared_scale", True, "all ratings have one unit")
        choice.say("network", "dropout", 0.5, "there are few ratings for each weight")
        choice.say("loss", "hide", 0.3, "hidden ratings are what it learns to predict")
        choice.say("optimize", "weight_decay", 1.0, "few ratings of a user say little")
        return choice
    left_out, values, timed = _columns(header, rows)
    if not values:
        raise ValueError(f"{files[0]} has no column of numbers")
    follows = [_correlation(column) for column in values.values()]
    series = timed or float(np.median(follows)) > _FOLLOWS
    choice = _Choice("conv1d" if series and len(rows) >= 4 * _WINDOW else "dense")
    if series and choice.network == "dense":
        choice.remarks.append(
            f"The rows follow each other in time, but {len(rows)} are too few for windows."
        )
    if left_out:
        told = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        choice.say("data", "leave_out", list(left_out), told)
    if choice.network == "conv1d":
        _series(choice, f"each row tells {np.median(follows):.0%} of the next, as a correlation")
    missing = float(np.mean([np.isnan(column).mean() for column in values.values()]))
    if missing:
        choice.say("network", "masked", True, f"{missing:.1%} of the values are missing")
        choice.say("loss", "hide", 0.2, "more are hidden, and the network learns to fill them in")
    still = [name for name, column in values.items() if np.nanstd(column) == 0]
    if still:
        choice.remarks.append(f"Columns that never change say nothing: {', '.join(still)}.")
    return choice


def _arrays(files: Sequence[Path]) -> _Choice:
    values = next((found for found in map(_array, files) if found is not None), None)
    if values is None:
        raise ValueError(f"none of {len(files)} arrays can be read, such as {files[0]}")
    shape = " x ".join(map(str, values.shape))
    if values.ndim == 4 or (values.ndim == 3 and min(values.shape[1:]) >= 6):
        choice = _Choice("conv2d")
        choice.remarks.append(
            f"{files[0].name} is {shape}: taken as pictures, the first axis theirs."
        )
    elif values.ndim == 3:
        choice = _Choice("conv1d")
        choice.remarks.append(f"{files[0].name} is {shape}: taken as windows of a series.")
        choice.say("data", "window_samples", values.shape[1], "the windows are cut already")
    elif values.ndim == 1 or (
        values.shape[1] <= 32
        and len(values) >= 4 * _WINDOW
        and np.median([_correlation(column) for column in values.T]) > _FOLLOWS
    ):
        choice = _Choice("conv1d")
        _series(choice, f"{files[0].name} is {shape} and each row tells much of the next")
    elif values.ndim == 2:
        choice = _Choice("dense")
        choice.remarks.append(f"{files[0].name} is {shape}: a row is an item.")
    else:
        raise ValueError(f"{files[0]} has shape {values.shape}, expected 1 to 4 axes")
    missing = float(np.isnan(values).mean())
    if missing:
        choice.say("network", "masked", True, f"{missing:.1%} of the values are missing")
        choice.say("loss", "hide", 0.2, "more are hidden, and the network learns to fill them in")
    return choice


def _recordings(files: Sequence[Path]) -> _Choice:
    choice = _Choice("conv1d")
    choice.remarks.append("Recordings are cut into windows of their own sample rate.")
    _series(choice, f"{len(files)} recordings", window=256)
    return choice


def _series(choice: _Choice, why: str, *, window: int = _WINDOW) -> None:
    choice.say("data", "window_samples", window, f"{why}; make it as long as what should be seen")


def _first_table(files: Sequence[Path]) -> tuple[list[str], list[list[Any]]]:
    reasons = []
    for file in files:
        try:
            header, rows = table_rows(file)
        except UnreadableFile as error:
            reasons.append(f"{file.name}: {error}")
            continue
        return header, rows[:_ROWS]
    raise ValueError(f"no table can be read: {'; '.join(reasons[:3])}")


def _columns(
    header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[dict[str, str], dict[str, Floats], bool]:
    """Columns to leave out and why, the values of the others, and whether the rows have times."""
    left_out: dict[str, str] = {}
    values: dict[str, Floats] = {}
    timed = False
    for place, name in enumerate(header):
        cells = [row[place] for row in rows]
        numbers = [_number(cell) for cell in cells]
        if None in numbers:
            other = next(
                cell for cell, number in zip(cells, numbers, strict=True) if number is None
            )
            left_out[name] = f"text such as {str(other)[:24]!r}"
            timed = timed or bool(re.match(r"\d{4}-\d\d-\d\d", str(other)))
            continue
        column = np.array(numbers, np.float64)
        steps = np.diff(column)
        if len(steps) > 2 and (steps > 0).all() and np.ptp(steps) < 0.01 * abs(steps.mean()):
            left_out[name] = "it counts up evenly, as a time or an index"
            timed = timed or bool(re.search(r"time|date|sec|^t$", name.lower()))
            continue
        values[name] = column.astype(np.float32)
    return left_out, values, timed


def _number(cell: Any) -> float | None:
    """The number of a cell, NaN where it is missing, None where it is text."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING):
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _correlation(column: npt.NDArray[Any]) -> float:
    """How much a value tells of the next one."""
    kept = column[np.isfinite(column)].astype(np.float64)
    if len(kept) < 8 or kept[:-1].std() == 0 or kept[1:].std() == 0:
        return 0.0
    return float(np.corrcoef(kept[:-1], kept[1:])[0, 1])


def _array(file: Path) -> Floats | None:
    try:
        return read_array(file)
    except UnreadableFile:
        return None


def _sizes(choice: _Choice) -> None:
    """Bottleneck, depth and schedule, from the items as training will see them."""
    data = {key: value for key, (value, _) in choice.keys["data"].items()}
    lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
    items = read_items(AutoencoderData(**{**data, **lists}), choice.network)
    count, shape = len(items.training) + len(items.validation), items.shape
    entries = math.prod(shape)
    choice.remarks.append(f"{count} items of {' x '.join(map(str, shape))} numbers.")
    held = _components(items.training[:_ITEMS])
    latent = min(max(held, _LATENTS[0]), _LATENTS[1], entries)
    choice.say(
        "network", "latent", latent,
        f"{held} principal components hold {_HELD:.0%} of the variance",
    )  # fmt: skip
    if choice.network == "dense":
        wide = min(256, max(32, 2 ** math.ceil(math.log2(2 * entries))))
        hidden = [wide, wide // 2] if "pivot" not in data else [256]
        why = "about twice the columns, then half of that"
    else:
        stages = 3 if max(shape[:-1]) >= 32 else 2
        hidden = [16, 32, 64][:stages] if count >= 500 else [8, 16, 32][:stages]
        why = "each halves every side" + ("" if count >= 500 else "; narrow, as items are few")
    choice.say("network", "hidden", hidden, why)
    if choice.network == "dense" and count < 2000 and "dropout" not in choice.keys["network"]:
        choice.say("network", "dropout", 0.1, "items are few")
    batch = min(128, max(8, 2 ** int(math.log2(max(1, count // 4)))))
    choice.say("optimize", "steps", 3000)
    choice.say("optimize", "batch_size", batch)
    choice.say("optimize", "learning_rate", 1e-3)
    choice.say("optimize", "warmup_steps", 100)
    choice.say("optimize", "ema_decay", 0.998)
    choice.say("optimize", "precision", "float32", "small networks gain nothing from less")
    choice.say("validate", "every_steps", 250)
    if count < 100:
        choice.remarks.append("So few items teach little: expect a score near that of PCA.")


def _components(items: Floats) -> int:
    """How many principal components hold most of the variance, NaN standing for the mean."""
    flat = items.reshape(len(items), -1).astype(np.float64)
    seen = ~np.isnan(flat)
    mean = np.where(seen, flat, 0).sum(0) / np.maximum(seen.sum(0), 1)
    centred = np.where(seen, flat - mean, 0)
    deviation = centred.std(0)
    power = np.linalg.svd(centred / np.where(deviation > 0, deviation, 1), compute_uv=False) ** 2
    if not power.sum() > 0:
        return 1
    return int(np.searchsorted(np.cumsum(power) / power.sum(), _HELD) + 1)


def _some(files: Sequence[Path]) -> list[Path]:
    """Some of many files, evenly spread."""
    places = np.unique(np.linspace(0, len(files) - 1, min(len(files), _FILES)).astype(int))
    return [files[place] for place in places]


def _text(name: str, choice: _Choice) -> str:
    lines = [f"# {remark}" for remark in choice.remarks]
    lines += ["", f'name = "{name}"', 'task = "autoencoder"']
    choice.keys.setdefault("loss", {})
    for section in ("network", "data", "loss", "optimize", "validate"):
        lines += ["", f"[{section}]"]
        if section == "network":
            lines.append(f'network = "{choice.network}"')
        for key, (value, why) in choice.keys.get(section, {}).items():
            said = f"{key} = {json.dumps(value, ensure_ascii=False)}"
            # A reason may quote the data: no line of it may end the comment.
            lines.append(f"{said}  # {' '.join(why.split())}" if why else said)
    return "\n".join(lines) + "\n"
