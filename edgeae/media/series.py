"""Signals from tables, arrays, recordings and WFDB records, and back.

Whatever the file, what comes is (samples, channels) at an even rate, with names and units. Missing
values are refused, or filled by a rule that the caller names; they are never passed on.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import printable
from edgeae.media.files import (
    Source,
    Target,
    atomic_write,
    named,
    unreadable,
)
from edgeae.media.series_readers import (
    Table,
    channel_names,
    column_index,
    read_npy,
    read_npz,
    read_parquet,
    read_text,
    read_wav,
    read_wfdb,
)

__all__ = ["SERIES_SUFFIXES", "Series", "read_series", "write_series"]

SERIES_SUFFIXES = frozenset({".csv", ".tsv", ".npy", ".npz", ".parquet", ".wav", ".hea"})

# More than any sensor has; a table with so many columns lies on its side.
_MOST_CHANNELS = 4096
MISSING_RULES = ("refuse", "hold", "interpolate")


@dataclass(frozen=True)
class Series:
    """A signal: (samples, channels), float32 in physical units, or integers as they were stored.

    `sample_rate_hz` is None where the file does not say it. A stored integer times its channel's
    `scale` plus its `offset` is the physical value. `notes` tell what was left out or filled.
    """

    samples: NDArray[Any]
    sample_rate_hz: float | None = None
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


def read_series(
    source: Source,
    *,
    columns: Sequence[str] | None = None,
    time_column: str | None = None,
    sample_rate_hz: float | None = None,
    missing: str = "refuse",
    integers: bool = False,
    format: str | None = None,
) -> Series:
    """A signal of CSV, TSV, NPY, NPZ, Parquet, WAV or a WFDB header (.hea).

    Args:
        source: a path, or bytes or a binary file object with the suffix in `format` (not WFDB).
        columns: the channels, by name and in this order; by default every column of numbers.
        time_column: what gives the sample rate, in seconds, in the unit behind its name ("t [ms]")
            or as ISO 8601. By default a column called time, timestamp, datetime or the like.
        sample_rate_hz: the rate where the file does not say it; it comes before a time column.
        missing: "refuse", "hold" (the value before; at the beginning the first one there is) or
            "interpolate" (on a line between neighbours, held at both ends).
        integers: counts as they are stored, int16 or int32, instead of physical float32.
        format: the suffix, where it is not the path's.

    Returns:
        The signal; float32, or integers if asked for.

    Raises:
        ValueError: an unknown suffix, rule or column.
        MediaError: the file cannot be read, is no table of numbers, has missing or infinite values
            that no rule fills, or uneven time steps.
    """
    if missing not in MISSING_RULES:
        raise ValueError(f"missing is {missing!r}, expected one of {', '.join(MISSING_RULES)}")
    if sample_rate_hz is not None and not 0 < sample_rate_hz < np.inf:
        raise ValueError(f"sample_rate_hz is {sample_rate_hz}, expected a positive number")
    suffix = _suffix(source, format)
    time_rate = sample_rate_hz is None
    if suffix in (".csv", ".tsv"):
        table = read_text(source, columns, time_column, time_rate)
    elif suffix == ".npy":
        table = read_npy(source)
    elif suffix == ".npz":
        table = read_npz(source)
    elif suffix == ".parquet":
        table = read_parquet(source, columns, time_column, time_rate)
    elif suffix == ".hea":
        table = read_wfdb(source, integers)
    else:
        table = read_wav(source, integers)
    if suffix not in (".csv", ".tsv", ".parquet"):
        table = _chosen(source, table, columns)
    return _finished(source, table, sample_rate_hz, missing, integers)


def _suffix(source: Source | Target, format: str | None) -> str:
    if format is not None:
        suffix = "." + format.lower().lstrip(".")
    elif isinstance(source, str | os.PathLike):
        suffix = Path(os.fsdecode(source)).suffix.lower()
    else:
        raise ValueError('format is None, expected a suffix such as "csv" for bytes or a file')
    if suffix not in SERIES_SUFFIXES:
        raise ValueError(
            f"the suffix of {named(source)!r} is {suffix!r}, expected one of"
            f" {' '.join(sorted(SERIES_SUFFIXES))}"
        )
    return suffix


def _chosen(source: Source, table: Table, columns: Sequence[str] | None) -> Table:
    """The channels that were asked for, of a file that has them all."""
    if columns is None:
        return table
    indices = [column_index(source, table.names, name) for name in columns]

    def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[i] for i in indices) if values else ()

    return Table(
        table.values[:, indices],
        pick(table.names),
        pick(table.units),
        table.rate_hz,
        pick(table.scale),
        pick(table.offset),
        table.notes,
    )


def _finished(
    source: Source, table: Table, asked_rate_hz: float | None, missing: str, integers: bool
) -> Series:
    """The signal with every value there, of the type that was asked for."""
    values, notes = table.values, list(table.notes)
    if values.ndim != 2 or 0 in values.shape:
        raise unreadable(source, f"it holds {values.shape} values, expected (samples, channels)")
    if values.shape[1] > _MOST_CHANNELS:
        raise unreadable(
            source,
            f"it has {values.shape[1]} channels of {values.shape[0]} samples, expected (samples,"
            f" channels) with at most {_MOST_CHANNELS} channels: is it to be transposed?",
        )
    if values.dtype.kind == "f":
        values, filled = _filled(source, values, table.names, missing)
        if filled:
            notes.append(f"{filled} missing values were filled: {missing}")
    if integers and values.dtype.kind == "f":
        values = _whole(source, values)
    return Series(
        values if integers else _single(source, values, table.names),
        asked_rate_hz if asked_rate_hz is not None else table.rate_hz,
        table.names,
        table.units or ("",) * len(table.names),
        (table.scale or (1.0,) * len(table.names)) if integers else (1.0,) * len(table.names),
        (table.offset or (0.0,) * len(table.names)) if integers else (0.0,) * len(table.names),
        tuple(notes),
    )


def _filled(
    source: Source, values: NDArray[Any], names: Sequence[str], missing: str
) -> tuple[NDArray[Any], int]:
    """The values with what is missing filled by the rule, and how many those were."""
    gaps = ~np.isfinite(values)
    count = int(gaps.sum())
    if not count:
        return values, 0
    if missing == "refuse" or np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values) if np.isinf(values).any() else gaps)[0]
        what = "infinite" if np.isinf(values).any() else "missing"
        raise unreadable(
            source,
            f"{count} values are missing or infinite, the first ({what}) in row {row + 1} of"
            f" {printable(names[int(column)])!r}"
            + ("; missing='hold' or 'interpolate' fills gaps" if what == "missing" else ""),
        )
    values = values.copy()
    for column in np.flatnonzero(gaps.any(axis=0)):
        there = np.flatnonzero(~gaps[:, column])
        if not len(there):
            raise unreadable(source, f"no value of {printable(names[int(column)])!r} is there")
        wanted = np.flatnonzero(gaps[:, column])
        if missing == "interpolate":
            values[wanted, column] = np.interp(wanted, there, values[there, column])
        else:
            before = np.maximum(np.searchsorted(there, wanted) - 1, 0)
            values[wanted, column] = values[there[before], column]
    return values, count


def _single(source: Source, values: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
    """The values as float32, which must hold them."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        row, column = np.argwhere(~np.isfinite(single))[0]
        raise unreadable(
            source,
            f"row {row + 1} of {printable(names[int(column)])!r} is {values[row, column]:g}, beyond"
            " what 32 bits hold",
        )
    return single


def _whole(source: Source, values: NDArray[Any]) -> NDArray[Any]:
    if not np.array_equal(values, np.rint(values)) or np.abs(values).max() >= 2**31:
        raise unreadable(source, "its values are not whole numbers of 32 bits, as was asked for")
    return values.astype(np.int32)


# --- writing ----------------------------------------------------------------------------------


def write_series(target: Target, series: Series, *, format: str | None = None) -> None:
    """Write a signal as CSV, TSV, NPY or NPZ, by suffix, to a path atomically or to a file object.

    CSV has a column of time in seconds where the rate is known, names with units ("pressure
    [bar]"), and as many digits as bring every float32 back exactly. NPY holds the samples alone,
    NPZ all of it. ValueError for another suffix, shape or NaN; MediaError if it cannot be written.
    """
    samples = series.samples
    if samples.ndim != 2 or samples.size == 0 or samples.dtype.kind not in "fiu":
        raise ValueError(
            f"samples are {samples.dtype} {samples.shape}, expected numbers (samples, channels)"
        )
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise ValueError("samples hold NaN or infinity, expected finite numbers")
    suffix = _suffix(target, format)
    names = series.names or channel_names(samples.shape[1])
    units = series.units or ("",) * samples.shape[1]
    if len(names) != samples.shape[1] or len(units) != samples.shape[1]:
        raise ValueError(
            f"{len(names)} names and {len(units)} units, expected {samples.shape[1]} of both"
        )
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, samples, allow_pickle=False)
    elif suffix == ".npz":
        known: dict[str, Any] = {"scale": series.scale, "offset": series.offset}
        known = {key: np.array(value) for key, value in known.items() if value}
        if series.sample_rate_hz is not None:
            known["sample_rate_hz"] = series.sample_rate_hz
        np.savez(buffer, samples=samples, names=np.array(names), units=np.array(units), **known)
    elif suffix in (".csv", ".tsv"):
        buffer.write(_text(series, names, units, "\t" if suffix == ".tsv" else ",").encode())
    else:
        raise ValueError(f"cannot write {suffix}, expected .csv .tsv .npy or .npz")
    if isinstance(target, str | os.PathLike):
        atomic_write(target, buffer.getvalue())
    else:
        target.write(buffer.getvalue())


def _text(series: Series, names: Sequence[str], units: Sequence[str], delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    titles = [f"{n} [{u}]" if u else n for n, u in zip(names, units, strict=True)]
    rate = series.sample_rate_hz
    writer.writerow(titles if rate is None else ["time [s]", *titles])
    digits = 9 if series.samples.dtype == np.float32 else 17
    whole = series.samples.dtype.kind != "f"
    for index, row in enumerate(series.samples.tolist()):
        cells = [str(value) if whole else f"{value:.{digits}g}" for value in row]
        writer.writerow(cells if rate is None else [f"{index / rate:.12g}", *cells])
    return out.getvalue()
