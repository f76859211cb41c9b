"""What a signal codec is timed at, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.trials import check_damage
from edgeae.bench.workloads import Workload
from edgeae.errors import EdgeaeError
from edgeae.media.series import read_series
from edgeae.signal.codec import SignalCodec

__all__ = ["self_test", "typical_runs", "workloads"]

QUALITY = 5
SECONDS = 60
CALIBRATION_QUALITIES = (1.0, 5.0, 9.0)


def workloads(codec: SignalCodec, *, source: Path | None = None) -> list[Workload]:
    """Compressing and decompressing a minute of a made pulse, or the series in `source`.

    Raises MediaError for a source that cannot be read.
    """
    rate = codec.sample_rate_hz
    if source is None:
        signal: NDArray[np.generic] = made_pulse(int(SECONDS * rate), rate)[:, None]
    else:
        series = read_series(source)
        signal, rate = series.samples, series.sample_rate_hz or rate
    seconds = len(signal) / rate
    leads = signal.shape[1]
    what = f"{seconds:g} s of {leads} lead{'' if leads == 1 else 's'}, quality {QUALITY}"
    blobs: list[bytes] = []

    def compress() -> None:
        blobs[:] = [codec.compress(signal, sample_rate=rate, quality=QUALITY)]

    def decompress() -> None:
        if not blobs:  # nobody has compressed yet, and a first call has to be a first call
            compress()
        codec.decompress(blobs[0])

    amount = seconds * leads
    return [
        Workload("compress", f"compress {what}", amount, "second of a lead", compress),
        Workload("decompress", f"decompress {what}", amount, "second of a lead", decompress),
    ]


def self_test(codec: SignalCodec) -> Iterator[str]:
    """One line for each check of a signal made here; EdgeaeError says which one failed."""
    signal = made_pulse(3001, codec.sample_rate_hz)
    told = []
    for quality in (1, 5, 9):
        blob = codec.compress(signal, quality=quality)
        if codec.compress(signal, quality=quality) != blob:
            raise EdgeaeError(f"self-test failed: quality {quality} gave two different files")
        restored = codec.decompress(blob)
        if restored.shape != signal.shape or restored.dtype != signal.dtype:
            raise EdgeaeError(
                f"self-test failed: {signal.shape} came back as {restored.shape} {restored.dtype}"
            )
        if not np.array_equal(restored, codec.decode(codec.encode(signal, quality=quality))):
            raise EdgeaeError(
                "self-test failed: the bytes decode to another signal than the latent"
            )
        told.append(f"{8 * len(blob) / len(signal):.2f} bit/sample")
    yield f"qualities 1, 5, 9 of a made pulse: {', '.join(told)}"
    yield "the same bytes twice, and the bytes decode to what the latent does"
    exact = codec.compress(signal, lossless=True)
    if not np.array_equal(codec.decompress(exact), signal):
        raise EdgeaeError("self-test failed: lossless samples came back otherwise")
    yield f"lossless: {8 * len(exact) / len(signal):.2f} bit/sample"
    yield check_damage(codec.decompress, blob)


def typical_runs(codec: SignalCodec, *, size: tuple[int, int]) -> int:
    """Compresses a made pulse at several qualities and decodes its latents; the second number of
    `size` is its samples."""
    signal = made_pulse(size[1], codec.sample_rate_hz)
    for quality in CALIBRATION_QUALITIES:
        latent = codec.encode(signal, quality=quality)
        codec.pack(latent)
        codec.decode(latent)
    return 1


def made_pulse(samples: int, rate_hz: float) -> NDArray[np.int16]:
    """A pulse of 72 beats a minute on a slow drift, with a little noise, int16 (samples,)."""
    time = np.arange(samples) / rate_hz
    phase = (1.2 * time + 0.02 * np.sin(time)) % 1
    beat = np.exp(-(((phase - 0.4) / 0.02) ** 2)) + 0.2 * np.exp(-(((phase - 0.7) / 0.06) ** 2))
    noise = np.random.default_rng(0).standard_normal(samples)
    signal = np.rint(200 * beat + 40 * np.sin(0.9 * time) + 1.5 * noise)
    whole: NDArray[np.int16] = signal.astype(np.int16)
    return whole
