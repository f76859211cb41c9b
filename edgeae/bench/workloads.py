"""What a model is for, as calls that can be timed: a photo, a hop of sound."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae import media
from edgeae.image.codec import ImageCodec
from edgeae.signal.denoiser import SignalDenoiser, Stream

__all__ = ["Task", "tasks_of"]

ASSETS = Path(__file__).parent.parent / "assets"
# Rows and columns of a picture of Kodak's set, which codecs are compared on.
PHOTO_SHAPE = 512, 768
QUALITY = 5
SOUND_S = 4
# The usual block and rate of an audio callback.
BLOCK_MS, BLOCK_RATE_HZ = 10, 48_000


@dataclass(frozen=True)
class Task:
    """One call of a model's API: how much it works through (`amount` of `unit`), and in words."""

    name: str
    what: str
    amount: float
    unit: str
    call: Callable[[], object]


def tasks_of(model: ImageCodec | SignalDenoiser, *, source: Path | None = None) -> list[Task]:
    """The tasks of a model on the photo or recording that comes with the package, or on `source`.

    Raises MediaError for a source that cannot be read.
    """
    if isinstance(model, ImageCodec):
        return _codec_tasks(model, source)
    return _denoiser_tasks(model, source)


def _codec_tasks(codec: ImageCodec, source: Path | None) -> list[Task]:
    if source is None:
        image = media.read_image(ASSETS / "photo.webp")[: PHOTO_SHAPE[0], : PHOTO_SHAPE[1]]
    else:
        image = media.read_image(source)
    rows, columns = image.shape[:2]
    what = f"a photo of {columns}x{rows} pixels, quality {QUALITY}"
    amount, unit = rows * columns / 1e6, "megapixel"
    blobs: list[bytes] = []

    def compress() -> None:
        blobs[:] = [codec.compress(image, quality=QUALITY)]

    def decompress() -> None:
        if not blobs:  # nobody has compressed yet, and a first call has to be a first call
            compress()
        codec.decompress(blobs[0])

    return [
        Task("compress", f"compress {what}", amount, unit, compress),
        Task("decompress", f"decompress {what}", amount, unit, decompress),
    ]


def _denoiser_tasks(denoiser: SignalDenoiser, source: Path | None) -> list[Task]:
    sound, rate_hz = media.read_audio(ASSETS / "noisy.flac" if source is None else source)
    if sound.ndim == 2:
        sound = sound.mean(axis=1, dtype=np.float32)
    manifest = denoiser.bundle.manifest
    model_hz, hop = manifest.layout["sample_rate_hz"], (manifest.stream or {})["hop_samples"]
    block = BLOCK_RATE_HZ * BLOCK_MS // 1000
    return [
        _stream_task(
            "hop",
            f"stream.process of one hop, {hop} samples at {model_hz} Hz",
            denoiser.stream(sample_rate=model_hz),
            _resampled(sound, rate_hz, model_hz),
            hop,
            model_hz,
        ),
        _stream_task(
            "block",
            f"stream.process of {BLOCK_MS} ms at {BLOCK_RATE_HZ} Hz, {block} samples;"
            " not every block completes a hop",
            denoiser.stream(sample_rate=BLOCK_RATE_HZ, block_samples=block),
            _resampled(sound, rate_hz, BLOCK_RATE_HZ),
            block,
            BLOCK_RATE_HZ,
        ),
    ]


def _stream_task(
    name: str, what: str, stream: Stream, sound: NDArray[np.float32], size: int, rate_hz: int
) -> Task:
    starts = range(0, len(sound) - size + 1, size)
    blocks = itertools.cycle([sound[start : start + size] for start in starts])
    return Task(name, what, size / rate_hz, "second of sound", lambda: stream.process(next(blocks)))


def _resampled(sound: NDArray[np.float32], rate_hz: int, new_hz: int) -> NDArray[np.float32]:
    """A few seconds of the sound at another rate, well enough to be timed; a short one repeats."""
    frames = np.arange(SOUND_S * new_hz) * (rate_hz / new_hz)
    found = np.interp(frames, np.arange(len(sound)), sound, period=len(sound))
    return np.asarray(found, np.float32)
