"""Series of plain folders for training: one array (samples, channels) a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.autoencoder.data import (
    ARRAY_SUFFIXES,
    AUDIO_SUFFIXES,
    TABLE_SUFFIXES,
    UnreadableFile,
    read_values,
    table_rows,
)

__all__ = ["SeriesFiles", "kind_of", "read_folders"]

Floats = npt.NDArray[np.float32]

# As `edgeae.media.series` takes a column for the time, which then is no channel of what is scored:
# training may not import the package, and a test holds both equal.
_TIME_NAMES = {"time", "timestamp", "datetime", "date", "t", "seconds", "elapsed", "elapsed_time"}


@dataclass(frozen=True)
class SeriesFiles:
    """What folders held.

    Attributes:
        series: float32 (samples, channels) of each file, in the files' order.
        files: their names.
        names: of the channels, if the files tell them.
        skipped: files that could not be read, and why.
    """

    series: list[Floats]
    files: list[str]
    names: tuple[str, ...]
    skipped: dict[str, str]


def kind_of(file: str) -> str:
    """A file's name up to a number of its own: "em_1.flac" and "em_2.flac" are of one kind."""
    return re.sub(r"[-_ ]?\d*$", "", Path(file).name.split(".")[0]) or file


def read_folders(
    folders: tuple[str, ...], *, columns: tuple[str, ...] = (), leave_out: tuple[str, ...] = ()
) -> SeriesFiles:
    """All series of folders (or of single files): tables, arrays, recordings.

    Args:
        folders: where they are.
        columns: of tables, those wanted, in this order; none means all that are not left out.
        leave_out: columns of tables that are no data, such as labels. The first that is called
            time, timestamp, datetime or the like is left out unless `columns` are given.

    Raises:
        ValueError: nothing readable is there, or files have different channels; the message says
            what to do.
    """
    suffixes = TABLE_SUFFIXES + ARRAY_SUFFIXES + AUDIO_SUFFIXES
    found = SeriesFiles([], [], (), {})
    names: tuple[str, ...] = ()
    for folder in map(Path, folders):
        if not folder.exists():
            raise ValueError(f"{folder} is not there")
        inside = [folder] if folder.is_file() else sorted(folder.rglob("*"))
        for file in (one for one in inside if one.name.lower().endswith(suffixes)):
            try:
                values, own = read_values(
                    file,
                    columns=columns,
                    leave_out=leave_out if columns else _left(file, leave_out),
                )
            except (OSError, UnreadableFile) as error:
                found.skipped[file.name] = str(error)
                continue
            if values.ndim == 1:
                values = values[:, None]
            if values.ndim != 2:
                raise ValueError(f"{file} has shape {values.shape}, expected (samples, channels)")
            first = found.series[0].shape[1] if found.series else values.shape[1]
            if values.shape[1] != first or (names and own and own != names):
                raise ValueError(
                    f"{file} has {values.shape[1]} channels {list(own)}, those before it {first} "
                    f"{list(names)}: columns or leave_out of [data] choose them"
                )
            names = names or own
            found.series.append(values)
            found.files.append(file.name)
    if not found.series:
        where = ", ".join(folders) or "no folders"
        reasons = [f"{name}: {why}" for name, why in list(found.skipped.items())[:3]]
        told = f"; skipped: {'; '.join(reasons)}" if reasons else ""
        raise ValueError(f"no series found in {where}, expected {' '.join(suffixes)}{told}")
    return SeriesFiles(found.series, found.files, names, found.skipped)


def _left(file: Path, leave_out: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a file that are no data: `leave_out` and its time."""
    if not file.name.lower().endswith(TABLE_SUFFIXES):
        return leave_out
    for name in table_rows(file)[0]:
        plain = re.sub(r"\s*[\[(][^\])]*[\])]$", "", name.lower())
        if re.sub(r"[_ ](s|ms|us|ns|sec)$", "", plain) in _TIME_NAMES:
            return leave_out if name in leave_out else (*leave_out, name)
    return leave_out
