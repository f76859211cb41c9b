"""Series files: compressed and restored. One file a call, as in `edgeae.cli.image_files`."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.batch import Done, Job, Loading, Tick, loaded
from edgeae.bundle import bundled_with_codec_id
from edgeae.cli import pipes
from edgeae.cli.file_kinds import check_kind
from edgeae.cli.options import in_words_of_the_command
from edgeae.loading import file_codec_id, file_info
from edgeae.media.series import Series, read_series, write_series
from edgeae.signal.codec_file import read as read_file

__all__ = ["SUFFIXES", "WRITTEN", "Compression", "Restoring", "compress_file", "decompress_file"]

# The files of a folder that are series to this verb, and what can be written.
SUFFIXES = frozenset({".csv", ".tsv", ".npy", ".npz", ".parquet", ".hea"})
WRITTEN = frozenset({".csv", ".tsv", ".npy", ".npz"})


@dataclass(frozen=True)
class Compression:
    """How to compress series: one of a quality, a budget in bytes, a bound on errors, lossless."""

    loading: Loading
    quality: float | None = None
    max_bytes: int | None = None
    max_error: float | None = None
    lossless: bool = False


@dataclass(frozen=True)
class Restoring:
    """How to restore series; without a model each file says which bundled codec it needs."""

    loading: Loading
    to: str = ".csv"


def compress_file(how: Compression, job: Job, tick: Tick) -> Done:
    """Compresses the series in one file, with its names and units.

    Raises what reading, `SignalCodec.compress` and writing raise.
    """
    codec = loaded(how.loading)
    read_bytes = job.source.stat().st_size
    series = _counts(read_series(job.source))
    asked: dict[str, Any] = {
        "quality": how.quality,
        "max_bytes": how.max_bytes,
        "max_error": how.max_error,
        "lossless": how.lossless,
    }
    with in_words_of_the_command():
        blob = codec.compress(
            series.samples,
            sample_rate=series.sample_rate_hz,
            names=series.names,
            units=series.units,
            **asked,
        )
    pipes.write_bytes(job.target, blob)
    line = (
        f"{pipes.name(job.source, 'stdin')} -> {pipes.name(job.target, 'stdout')}"
        f"  {read_bytes:,} -> {len(blob):,} bytes"
        f"  {8 * len(blob) / series.samples.size:.3f} bit/sample"
    )
    if how.max_bytes is not None:
        line += f"  quality {file_info(blob)['quality']:g}"
    return Done(line, read_bytes, len(blob), "; ".join(series.notes) or None)


def decompress_file(how: Restoring, job: Job, tick: Tick) -> Done:
    """Restores the series in one .eae file.

    Raises what reading, `SignalCodec.decompress` and writing raise.
    """
    blob = pipes.read_bytes(job.source)
    # Speech is a series too.
    check_kind(blob, "signal", "audio")
    loading = how.loading
    if loading.model is None:
        name = bundled_with_codec_id(file_codec_id(blob)).manifest.name
        loading = dataclasses.replace(loading, model=name)
    with in_words_of_the_command():
        samples = loaded(loading).decompress(blob)
    content = read_file(blob)
    series = Series(
        samples.reshape(len(samples), -1),
        content.header.sample_rate_hz,
        content.names,
        content.units,
    )
    buffer = io.BytesIO()
    write_series(buffer, series, format=_suffix(job.target, how.to).lstrip("."))
    pipes.write_bytes(job.target, buffer.getvalue())
    leads = series.samples.shape[1]
    size = f"{len(samples)} samples of {leads} channel{'' if leads == 1 else 's'}"
    line = f"{pipes.name(job.source, 'stdin')} -> {pipes.name(job.target, 'stdout')}  {size}"
    return Done(line, len(blob), len(buffer.getvalue()), None)


def _suffix(target: Path, to: str) -> str:
    return to if target == pipes.PIPE else target.suffix.lower()


def _counts(series: Series) -> Series:
    """The series as integers where all of its samples are whole numbers of 32 bits: text does not
    say which it has."""
    samples = series.samples
    if samples.dtype.kind == "f":
        whole = np.rint(samples)
        # float32 holds whole numbers of 24 bits one by one.
        if np.array_equal(whole, samples) and np.abs(whole).max() <= 1 << 24:
            kind = np.int16 if np.abs(whole).max() < 1 << 15 else np.int32
            return dataclasses.replace(series, samples=whole.astype(kind))
    return series
