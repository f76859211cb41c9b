"""Files of sensor signals through a denoiser. `denoise_file` is picklable and loads its model once
in each process."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from edgeae.batch import Done, Job, Loading, Tick, loaded
from edgeae.cli.options import UsageError
from edgeae.errors import MediaError
from edgeae.media.series import SERIES_SUFFIXES, Series, read_series, write_series
from edgeae.signal.denoiser import SignalDenoiser

__all__ = ["SUFFIXES", "WRITTEN", "Cleaning", "check_target", "denoise_file", "series_at"]

# The files of a folder that are series, and those that can be written.
SUFFIXES = SERIES_SUFFIXES
WRITTEN = (".csv", ".tsv", ".npy", ".npz")


@dataclass(frozen=True)
class Cleaning:
    """How to denoise."""

    loading: Loading
    attenuation_limit_db: float | None = None


def check_target(target: Path) -> None:
    """Raises UsageError for an OUT that cannot hold a series."""
    if target.suffix.lower() not in WRITTEN:
        raise UsageError(f"OUT is {target}, expected a name that ends in {' '.join(WRITTEN)}")


def series_at(source: Path, rate_hz: float | None, missing: str = "refuse") -> Series:
    """The series of a file, float32 (samples, channels) in physical units, at the rate of a model.

    Raises:
        MediaError: it cannot be read, or says another rate.
    """
    series = read_series(source, missing=missing)
    own = series.sample_rate_hz
    # A time column of a few digits says a rate of as many.
    if own is not None and rate_hz is not None and abs(own - rate_hz) > 1e-3 * rate_hz:
        raise MediaError(
            f"{source} has {own:g} samples a second, expected {rate_hz:g}, those of the model: "
            "resample it first"
        )
    return series


def denoise_file(how: Cleaning, job: Job, tick: Tick) -> Done:
    """Denoises one file. Raises what reading, the denoiser and writing raise."""
    denoiser: SignalDenoiser = loaded(how.loading)
    rate_hz = denoiser.bundle.manifest.layout["sample_rate_hz"]
    series = series_at(job.source, rate_hz)
    began = time.perf_counter()
    clean = denoiser.denoise(series.samples, attenuation_limit_db=how.attenuation_limit_db)
    seconds = time.perf_counter() - began
    tick(1.0)
    write_series(job.target, dataclasses.replace(series, samples=clean))
    sizes = job.source.stat().st_size, job.target.stat().st_size
    length = len(clean) / rate_hz
    line = f"{job.source} -> {job.target}  {length:.1f} s in {seconds:.1f} s"
    notes = list(series.notes)
    if series.sample_rate_hz is None:
        notes.append(f"the file says no rate, it is taken for {rate_hz} Hz")
    return Done(line, *sizes, "; ".join(notes) or None)
