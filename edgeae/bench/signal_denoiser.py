"""What a denoiser of audio is timed at, and what must hold of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.workloads import ASSETS, Workload
from edgeae.errors import EdgeaeError
from edgeae.media import read_audio
from edgeae.signal.denoiser import SignalDenoiser
from edgeae.signal.sample_stream import SampleStream
from edgeae.signal.stream import Stream

__all__ = ["self_test", "typical_runs", "workloads"]

SOUND_S = 4
# The usual block and rate of an audio callback.
BLOCK_MS, BLOCK_RATE_HZ = 10, 48_000
# Recordings differ by this much in level, and a linear scale must hold them all.
CALIBRATION_LEVELS = (1.0, 0.3, 0.1, 0.03)
# Neighboring hops of a recording are alike.
CALIBRATION_HOPS = 4

Audio = NDArray[np.float32]


def workloads(denoiser: SignalDenoiser, *, source: Path | None = None) -> list[Workload]:
    """One hop and one block of a live stream, on the package's recording or the one in `source`.

    Raises MediaError for a source that cannot be read.
    """
    audio, rate_hz = read_audio(ASSETS / "noisy.flac" if source is None else source)
    if audio.ndim == 2:
        audio = audio.mean(axis=1, dtype=np.float32)
    manifest = denoiser.bundle.manifest
    model_hz, hop = manifest.layout["sample_rate_hz"], (manifest.stream or {})["hop_samples"]
    block = BLOCK_RATE_HZ * BLOCK_MS // 1000
    return [
        _stream_workload(
            "hop",
            f"stream.process of one hop, {hop} samples at {model_hz} Hz",
            denoiser.stream(sample_rate=model_hz),
            _resampled(audio, rate_hz, model_hz),
            hop,
            model_hz,
        ),
        _stream_workload(
            "block",
            f"stream.process of {BLOCK_MS} ms at {BLOCK_RATE_HZ} Hz, {block} samples;"
            " not every block completes a hop",
            denoiser.stream(sample_rate=BLOCK_RATE_HZ, block_samples=block),
            _resampled(audio, rate_hz, BLOCK_RATE_HZ),
            block,
            BLOCK_RATE_HZ,
        ),
    ]


def self_test(denoiser: SignalDenoiser) -> Iterator[str]:
    """One line for each check of audio made here; EdgeaeError says which one failed."""
    rate_hz = 16_000
    noisy = np.random.default_rng(0).normal(0, 0.1, rate_hz).astype(np.float32)
    whole = denoiser.denoise(noisy, sample_rate=rate_hz)
    if whole.shape != noisy.shape or not np.isfinite(whole).all():
        raise EdgeaeError("self-test failed: the audio that came out is not finite")
    stream = denoiser.stream(sample_rate=rate_hz)
    parts = [stream.process(block) for block in np.array_split(noisy, 37)]
    joined = np.concatenate([*parts, stream.flush()])[stream.delay :]
    difference = float(np.abs(joined - whole).max())
    if difference > 1e-6:
        raise EdgeaeError(f"self-test failed: a stream differs from the whole by {difference:.2g}")
    level_db = 20 * np.log10(np.std(whole) / np.std(noisy) + 1e-9)
    yield (
        f"{len(noisy) / rate_hz:.1f} s of noise came out at {level_db:.1f} dB, in blocks as in one"
    )


def typical_runs(denoiser: SignalDenoiser, *, size: tuple[int, int]) -> int:
    """Denoises the package's recording at several levels; the size of images means nothing."""
    noisy, rate_hz = read_audio(ASSETS / "noisy.flac")
    for level in CALIBRATION_LEVELS:
        denoiser.denoise(np.float32(level) * noisy, sample_rate=rate_hz)
    return CALIBRATION_HOPS


def _stream_workload(
    name: str, what: str, stream: Stream | SampleStream, audio: Audio, size: int, rate_hz: int
) -> Workload:
    starts = range(0, len(audio) - size + 1, size)
    blocks = itertools.cycle([audio[start : start + size] for start in starts])
    return Workload(
        name, what, size / rate_hz, "second of sound", lambda: stream.process(next(blocks))
    )


def _resampled(audio: Audio, rate_hz: int, new_hz: int) -> Audio:
    """A few seconds of the audio at another rate, well enough to be timed; a short one repeats."""
    frames = np.arange(SOUND_S * new_hz) * (rate_hz / new_hz)
    found = np.interp(frames, np.arange(len(audio)), audio, period=len(audio))
    return np.asarray(found, np.float32)
