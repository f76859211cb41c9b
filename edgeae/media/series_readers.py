"""Readers of tables, arrays, recordings and WFDB records, each to a table of numbers."""

from __future__ import annotations

import csv
import io
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import MediaError, printable
from edgeae.media.files import Source, first_line, named, opened, read_bytes, unreadable

__all__ = ["Table", "channel_names", "column_index", "read_npy", "read_npz", "read_parquet"]
__all__ += ["read_text", "read_wav", "read_wfdb"]

# A text of a gigabyte is an hour of ten channels at a kilohertz.
_MOST_TEXT_BYTES = 2**30
_MOST_ARRAY_BYTES = 2**31
# How far a time step may be from the usual one: clocks of loggers write whole milliseconds.
_STEP_TOLERANCE = 0.01

_MISSING_WORDS = {"", "na", "n/a", "nan", "null", "none", "-", "?"}
_TIME_NAMES = {"time", "timestamp", "datetime", "date", "t", "seconds", "elapsed", "elapsed_time"}
_SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_SECONDS |= {"min": 60.0, "h": 3600.0}
_UNIT = re.compile(r"^(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]$")


@dataclass(frozen=True)
class Table:
    """What a reader found: float64 with NaN for what is missing, or integers."""

    values: NDArray[Any]
    names: tuple[str, ...]
    units: tuple[str, ...]
    rate_hz: float | None = None
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


def column_index(source: Source, names: Sequence[str], name: str) -> int:
    if name not in names:
        there = ", ".join(printable(n) for n in names[:20])
        raise ValueError(f"no column {name!r} in {named(source)}, expected one of {there}")
    return list(names).index(name)


# --- text -------------------------------------------------------------------------------------


def read_text(
    source: Source, columns: Sequence[str] | None, time_column: str | None, time_rate: bool
) -> Table:
    """A table of text: comma, semicolon, tab or spaces between values, names in the first row."""
    data = read_bytes(source, max_bytes=_MOST_TEXT_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")  # what spreadsheets write where they write no UTF-8
    if "\0" in text[:4096]:
        raise unreadable(source, "not a table of text")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise unreadable(source, "it holds no rows")
    delimiter = _delimiter(lines[0])
    comma = delimiter == ";" and "." not in "".join(lines[1:20])  # 3,14 where ; parts values
    first = _fields(source, lines[:1], delimiter)[0]
    has_names = any(_number(field, comma) is None for field in first)
    body = lines[1:] if has_names else lines
    if not body:
        raise unreadable(source, "it holds names and no rows")
    names, units = _names(first if has_names else [f"channel_{i}" for i in range(len(first))])
    rows = _fields(source, body, delimiter, len(names), 2 if has_names else 1)
    return _from_columns(
        source,
        names,
        units,
        lambda i: np.array([_value(row[i], comma) for row in rows]),
        lambda i: [row[i] for row in rows],
        columns,
        time_column,
        time_rate,
        [any(_number(row[i], comma) is not None for row in rows[:50]) for i in range(len(names))],
    )


def _delimiter(line: str) -> str:
    counts = {mark: line.count(mark) for mark in ("\t", ";", ",")}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else (" " if " " in line.strip() else ",")


def _fields(
    source: Source, lines: list[str], delimiter: str, width: int | None = None, first: int = 1
) -> list[list[str]]:
    if delimiter == " ":
        rows = [line.split() for line in lines]
    else:
        try:
            rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
        except csv.Error as error:
            raise unreadable(source, f"not a table of text ({first_line(error)})") from error
    for number, row in enumerate(rows, first):
        if width is not None and len(row) != width:
            raise unreadable(source, f"row {number} has {len(row)} values, expected {width}")
    return rows


def _number(field: str, comma: bool) -> float | None:
    try:
        # Python's own underscores between digits are none of a table's.
        return None if "_" in field else float(field.replace(",", ".") if comma else field)
    except ValueError:
        return None


def _value(field: str, comma: bool) -> float:
    number = _number(field, comma)
    if number is not None:
        return number
    return np.nan if field.strip().lower() in _MISSING_WORDS else np.inf


def _names(titles: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of titles like "pressure [bar]" or "t (ms)"; equal names get a number."""
    names: list[str] = []
    units: list[str] = []
    for title in titles:
        match = _UNIT.match(title.strip())
        name, unit = (match[1], match[2]) if match else (title.strip(), "")
        name = name or f"channel_{len(names)}"
        again = sum(other == name or other.startswith(f"{name}_") for other in names)
        names.append(f"{name}_{again + 1}" if name in names else name)
        units.append(unit)
    return tuple(names), tuple(units)


def _from_columns(
    source: Source,
    names: tuple[str, ...],
    units: tuple[str, ...],
    values_of: Any,
    raw_of: Any,
    columns: Sequence[str] | None,
    time_column: str | None,
    time_rate: bool,
    numeric: Sequence[bool],
) -> Table:
    """The table of the chosen columns, and the sample rate of its time column."""
    time = _time_index(source, names, time_column, columns)
    if columns is not None:
        chosen = [column_index(source, names, name) for name in columns]
    else:
        chosen = [i for i in range(len(names)) if i != time and numeric[i]]
    left_out = [
        names[i] for i in range(len(names)) if columns is None and i != time and i not in chosen
    ]
    if not chosen:
        raise unreadable(source, "it holds no column of numbers")
    values = np.stack([values_of(i) for i in chosen], axis=1)
    words = np.argwhere(np.isposinf(values))
    if len(words):
        row, column = words[0]
        raw = str(raw_of(chosen[column])[row])
        if raw.strip().lower().lstrip("+") not in ("inf", "infinity"):
            raise unreadable(
                source,
                f"row {row + 1} of {printable(names[chosen[column]])!r} is {printable(raw[:40])!r},"
                " expected a number",
            )
    rate = None
    if time is not None and time_rate:
        rate = _rate_of(source, raw_of(time), names[time], units[time])
    notes = (f"columns without numbers were left out: {', '.join(map(printable, left_out))}",)
    return Table(
        values,
        tuple(names[i] for i in chosen),
        tuple(units[i] for i in chosen),
        rate,
        notes=notes if left_out else (),
    )


def _time_index(
    source: Source,
    names: tuple[str, ...],
    time_column: str | None,
    columns: Sequence[str] | None,
) -> int | None:
    if time_column is not None:
        return column_index(source, names, time_column)
    for index, name in enumerate(names):
        plain = re.sub(r"[_ ](s|ms|us|ns|sec)$", "", name.lower())
        if plain in _TIME_NAMES and (columns is None or name not in columns):
            return index
    return None


def _rate_of(source: Source, column: Sequence[Any], name: str, unit: str) -> float | None:
    """The sample rate in Hz that the times of a column have; None for one row."""
    label = printable(name)
    try:
        times: NDArray[Any] = np.array(column, dtype=np.float64)
        if not unit and (match := re.search(r"[_ ](s|ms|us|ns|sec)$", name.lower())):
            unit = match[1]
        if unit and unit not in _SECONDS:
            raise unreadable(
                source, f"the unit of {label!r} is {unit!r}, expected {' '.join(_SECONDS)}"
            )
        times = times * _SECONDS.get(unit, 1.0)
    except ValueError:
        try:
            stamps = [str(value).strip().replace("Z", "").replace(" ", "T") for value in column]
            ticks = np.array(stamps, dtype="datetime64[ns]").astype(np.int64)
            times = (ticks - ticks[0]) * 1e-9  # nanoseconds since 1970 are more than a float holds
        except ValueError as error:
            raise unreadable(
                source, f"the times of {label!r} are neither numbers nor ISO 8601"
            ) from error
    if len(times) < 2:
        return None
    steps = np.diff(times)
    step = float(np.median(steps))
    if not np.isfinite(steps).all() or step <= 0 or steps.min() <= 0:
        raise unreadable(source, f"the times of {label!r} do not rise from row to row")
    # The whole span counts: single stamps are rounded, their errors do not add up.
    even = float(times[-1] - times[0]) / (len(times) - 1)
    resolution = max(_STEP_TOLERANCE * step, 1.001e-3 if step > 2e-3 else 0.0)
    uneven = np.abs(times - times[0] - even * np.arange(len(times))).max()
    if uneven > max(step / 2, resolution) or np.abs(steps - step).max() > step / 2:
        raise unreadable(
            source,
            f"the steps of {label!r} go from {steps.min():.6g} to {steps.max():.6g} s, expected"
            " even ones; resample it, or give sample_rate_hz to take the rows as even",
        )
    return 1.0 / even


# --- arrays, Parquet, WAV, WFDB ---------------------------------------------------------------


def _array(source: Source, data: bytes) -> NDArray[Any]:
    """An array of numbers of a .npy file, (samples, channels), without pickles."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        reader = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reader(file)
        needed = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
        if needed > len(data) - file.tell():
            raise unreadable(
                source, f"cut off, {shape} of {dtype} are {needed:,} bytes, more than are there"
            )
        file.seek(0)
        array = np.load(file, allow_pickle=False)
    except MediaError:
        raise
    except Exception as error:
        raise unreadable(source, f"not an array of numbers ({first_line(error)})") from error
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise unreadable(
            source,
            f"its array is {array.dtype} {array.shape}, expected numbers (samples, channels)",
        )
    if array.dtype.kind in "iu" and array.dtype not in (np.int16, np.int32):
        if array.size and (array.max() >= 2**31 or array.min() < -(2**31)):
            raise unreadable(source, "its numbers are beyond 32 bits")
        array = array.astype(np.int32)
    elif array.dtype.kind == "f":
        # A signalling NaN would warn; what is not finite is a missing value either way.
        with np.errstate(invalid="ignore", over="ignore"):
            array = array.astype(np.float64)
    return np.ascontiguousarray(array[:, None] if array.ndim == 1 else array)


def channel_names(count: int) -> tuple[str, ...]:
    return tuple(f"channel_{i}" for i in range(count))


def read_npy(source: Source) -> Table:
    array = _array(source, read_bytes(source, max_bytes=_MOST_ARRAY_BYTES))
    return Table(array, channel_names(array.shape[1]), ())


def read_npz(source: Source) -> Table:
    """The array `samples` (or the only one); `sample_rate_hz`, `names` and `units` if given."""
    with opened(source, max_bytes=_MOST_ARRAY_BYTES) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > _MOST_ARRAY_BYTES:
                    raise unreadable(source, f"it unfolds to more than {_MOST_ARRAY_BYTES:,} bytes")
                found = {
                    e.filename.removesuffix(".npy"): archive.read(e) for e in archive.infolist()
                }
        except MediaError:
            raise
        except Exception as error:
            raise unreadable(source, f"not an archive of arrays ({first_line(error)})") from error
    small = {}
    for key in ("sample_rate_hz", "sample_rate", "fs", "names", "units", "scale", "offset"):
        if key in found:
            small[key] = np.load(io.BytesIO(found.pop(key)), allow_pickle=False)
    name = "samples" if "samples" in found else next(iter(found), "")
    if not found or (name != "samples" and len(found) > 1):
        raise unreadable(source, f"it holds {len(found)} arrays, expected one called samples")
    array = _array(source, found[name])
    rates = [float(small[k]) for k in ("sample_rate_hz", "sample_rate", "fs") if k in small]
    count = array.shape[1]

    def listed(key: str, kind: type) -> tuple[Any, ...]:
        values = tuple(kind(v) for v in np.atleast_1d(small[key])) if key in small else ()
        return values if len(values) == count else ()

    return Table(
        array,
        listed("names", str) or channel_names(count),
        listed("units", str),
        rates[0] if rates and rates[0] > 0 else None,
        listed("scale", float),
        listed("offset", float),
    )


def read_parquet(
    source: Source, columns: Sequence[str] | None, time_column: str | None, time_rate: bool
) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise unreadable(
            source, "Parquet is read through pyarrow: pip install 'edgeae[parquet]'"
        ) from None
    data = read_bytes(source, max_bytes=_MOST_ARRAY_BYTES)
    try:
        table = parquet.read_table(pyarrow.BufferReader(data))
        if table.nbytes > _MOST_ARRAY_BYTES:
            raise unreadable(source, f"it unfolds to more than {_MOST_ARRAY_BYTES:,} bytes")
        names, units = _names([str(name) for name in table.column_names])
        given = [(field.metadata or {}).get(b"unit", b"") for field in table.schema]
        units = tuple(g.decode("utf-8", "replace") or u for g, u in zip(given, units, strict=True))
        types = pyarrow.types
        numeric = [types.is_integer(f.type) or types.is_floating(f.type) for f in table.schema]

        def values_of(i: int) -> NDArray[Any]:
            if not numeric[i]:
                return np.full(len(table), np.inf)
            return np.asarray(table.column(i).to_numpy(zero_copy_only=False), dtype=np.float64)

        def raw_of(i: int) -> Any:
            column = table.column(i).to_numpy(zero_copy_only=False)
            return column if column.dtype.kind in "fiu" else [str(value) for value in column]

        return _from_columns(
            source, names, units, values_of, raw_of, columns, time_column, time_rate, numeric
        )
    except (MediaError, ValueError) as error:
        if isinstance(error, pyarrow.ArrowException):
            raise unreadable(source, f"damaged or no Parquet ({first_line(error)})") from error
        raise
    except Exception as error:
        raise unreadable(source, f"damaged or no Parquet ({first_line(error)})") from error


def read_wav(source: Source, integers: bool) -> Table:
    from edgeae.media.audio import audio_info, read_audio, read_audio_integers

    if not isinstance(source, str | os.PathLike):
        source = read_bytes(source)
    info = audio_info(source)
    count = info.channels
    if not integers:
        samples, _ = read_audio(source)
        floats = samples.astype(np.float64).reshape(len(samples), -1)
        return Table(floats, channel_names(count), (), float(info.rate_hz), notes=info.notes)
    stored, full_scale = read_audio_integers(source)
    return Table(
        stored,
        channel_names(count),
        (),
        float(info.rate_hz),
        (1.0 / full_scale,) * count,
        (0.0,) * count,
        info.notes,
    )


def read_wfdb(source: Source, integers: bool) -> Table:
    """A WFDB record by its header; samples that are marked as missing are missing."""
    if not isinstance(source, str | os.PathLike):
        raise ValueError("a WFDB record is several files, expected the path of its .hea file")
    try:
        import wfdb
    except ImportError:
        raise unreadable(
            source, "WFDB records are read through wfdb: pip install 'edgeae[wfdb]'"
        ) from None
    path = Path(os.fsdecode(source)).absolute()
    header = read_bytes(path, max_bytes=1 << 20).decode("latin-1")
    rows = [row.split() for row in header.splitlines() if row.strip() and row[0] != "#"]
    if any(re.search(r"[/\\:]", row[0]) for row in rows[1:]):
        raise unreadable(source, "its header names files of other folders")
    try:
        record = wfdb.rdrecord(str(path.with_suffix("")), physical=False)
        stored = np.asarray(record.d_signal, dtype=np.int64)
        physical = record.dac(return_res=64)
    except MediaError:
        raise
    except Exception as error:
        raise unreadable(source, f"damaged or no WFDB record ({first_line(error)})") from error
    for name, samples, told in zip(record.sig_name, stored.T, record.checksum or (), strict=False):
        if told is not None and (int(samples.sum()) - int(told)) % 65536:
            raise unreadable(source, f"the checksum of {printable(name)!r} is wrong")
    if integers and np.isnan(physical).any():
        raise unreadable(source, "it has missing samples, which integers cannot show")
    gains = [float(gain) for gain in record.adc_gain]
    return Table(
        stored.astype(np.int32) if integers else np.asarray(physical, dtype=np.float64),
        tuple(map(str, record.sig_name)),
        tuple(map(str, record.units)),
        float(record.fs),
        tuple(1.0 / gain for gain in gains),
        tuple(-float(b) / g for b, g in zip(record.baseline, gains, strict=True)),
    )
