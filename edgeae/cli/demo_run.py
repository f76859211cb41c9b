"""`edgeae demo`: the bundled models on one photograph and one recording, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeae import media, metrics
from edgeae.bench.self_test import where_it_runs
from edgeae.bench.workloads import ASSETS
from edgeae.cli import illustrations, plain_coding, terminal
from edgeae.errors import MediaError
from edgeae.image.codec import ImageCodec
from edgeae.providers import Provider
from edgeae.signal.denoiser import SignalDenoiser
from edgeae.signal.resample import resampled
from edgeae.signal.speech_codec import SpeechCodec
from edgeae.signal.speech_signal import RATE_HZ

__all__ = ["run_demo"]

# The demo photo at a size where a JPEG of the same bytes begins to fall apart.
QUALITY = 3
# About 3 kbit/s: half of what Opus needs.
SPEECH_QUALITY = 4.125
# Left, top, width, height of the close look: the eye and the stripes of the left macaw.
CLOSE_LOOK = 96, 160, 180, 150

Image = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class Photo:
    """One way to store the demo photo, and what came back."""

    name: str
    restored: Image
    size_bytes: int
    encode_ms: float
    decode_ms: float


def run_demo(
    folder: Path,
    *,
    precision: str | None = None,
    providers: Sequence[Provider] | None = None,
    threads: int = 1,
) -> None:
    """Writes the results into `folder`, which is made if need be, and prints a table.

    Files of an earlier run are replaced. Raises MediaError if the folder cannot be made or written,
    and what the models raise.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot make the folder {folder}: {error.strerror}") from error
    codec = ImageCodec.load(
        "photo-codec", precision=precision, providers=providers, threads=threads
    )
    denoiser = SignalDenoiser.load("speech-denoiser", providers=providers, threads=threads)
    voice = SpeechCodec.load("speech-codec", providers=providers, threads=threads)
    photo = _photo(folder, codec)
    audio = [*_audio(folder, denoiser), *_voice(folder, voice)]
    models = [("photo-codec", codec), ("speech-denoiser", denoiser), ("speech-codec", voice)]
    _tell(folder, models, photo, audio)


def _photo(folder: Path, codec: ImageCodec) -> list[tuple[str, ...]]:
    """Stores the photo both ways, writes the files, and gives the rows of the table."""
    original = media.read_image(ASSETS / "photo.webp")
    blob, encode_s = _timed(lambda: codec.compress(original, quality=QUALITY))
    restored, decode_s = _timed(lambda: codec.decompress(blob))
    ours = Photo("photo-codec", restored, len(blob), 1000 * encode_s, 1000 * decode_s)
    jpeg_bytes, jpeg = jpeg_of_size(original, len(blob))

    media.write_image(folder / "photo-original.png", original)
    media.atomic_write(folder / "photo.eae", blob)
    media.write_image(folder / "photo-restored.png", restored)
    media.atomic_write(folder / "photo-same-size.jpg", jpeg_bytes)
    rows, columns = original.shape[:2]
    panels = [
        illustrations.Panel(
            original, "original", f"{original.size:,} bytes as {columns}x{rows} pixels"
        )
    ]
    told: list[tuple[str, ...]] = []
    for stored in (ours, jpeg):
        psnr = metrics.psnr_db(original, stored.restored)
        rate = metrics.bits_per_pixel(stored.size_bytes, original.shape)
        caption = f"{stored.size_bytes:,} bytes, {rate:.3f} bit/pixel, PSNR {psnr:.2f} dB"
        panels.append(illustrations.Panel(stored.restored, stored.name, caption))
        told.append(
            (
                stored.name,
                f"{stored.size_bytes:,}",
                f"{rate:.3f}",
                f"{psnr:.2f} dB",
                f"{metrics.ms_ssim(original, stored.restored):.4f}",
                f"{stored.encode_ms:.0f} ms",
                f"{stored.decode_ms:.0f} ms",
            )
        )
    figure = illustrations.side_by_side(panels, close_look=CLOSE_LOOK)
    media.write_image(folder / "photo-comparison.png", figure)
    return told


def _audio(folder: Path, denoiser: SignalDenoiser) -> list[tuple[str, ...]]:
    """Cleans the recording, writes the files, and gives the rows of the table."""
    noisy, rate_hz = media.read_audio(ASSETS / "noisy.flac")
    reference, _ = media.read_audio(ASSETS / "clean.flac")
    clean, seconds = _timed(lambda: denoiser.denoise(noisy, sample_rate=rate_hz))
    media.write_audio(folder / "speech-noisy.wav", noisy, rate_hz)
    media.write_audio(folder / "speech-clean.wav", clean, rate_hz)
    figure = illustrations.spectrograms(
        [("before: the noisy recording", noisy), ("after: edgeae speech-denoiser", clean)],
        rate_hz=rate_hz,
    )
    media.write_image(folder / "speech-spectrograms.png", figure)
    before = metrics.si_sdr_db(reference, noisy)
    after = metrics.si_sdr_db(reference, clean)
    stream = denoiser.stream(sample_rate=rate_hz, block_samples=rate_hz // 100)
    return [
        ("length of the recording", f"{len(noisy) / rate_hz:.2f} s at {rate_hz} Hz"),
        ("SI-SDR before", f"{before:.2f} dB"),
        ("SI-SDR after", f"{after:.2f} dB  ({after - before:+.2f} dB)"),
        ("real-time factor", f"{seconds * rate_hz / len(noisy):.3f}"),
        ("delay in blocks of 10 ms", f"{1000 * stream.delay / rate_hz:.0f} ms"),
    ]


def _voice(folder: Path, codec: SpeechCodec) -> list[tuple[str, ...]]:
    """Stores clean speech in few bits, writes the files, and gives the rows of the table."""
    clean, rate_hz = media.read_audio(ASSETS / "clean.flac")
    audio = resampled(clean, rate_hz, RATE_HZ)
    blob, encode_s = _timed(lambda: codec.compress(audio, quality=SPEECH_QUALITY))
    said, decode_s = _timed(lambda: codec.decompress(blob))
    media.atomic_write(folder / "speech.eae", blob)
    media.write_audio(folder / "speech-restored.wav", said, RATE_HZ)
    seconds = len(audio) / RATE_HZ
    return [
        ("clean speech as speech.eae", f"{len(blob):,} bytes"),
        ("rate of that", f"{8 * len(blob) / seconds / 1000:.2f} kbit/s"),
        ("real-time factor, both ends", f"{(encode_s + decode_s) / seconds:.3f}"),
    ]


def jpeg_of_size(original: Image, size_bytes: int) -> tuple[bytes, Photo]:
    """The best progressive JPEG of at most `size_bytes`, or else the smallest there is.

    Args:
        original: uint8 (H, W, 3).
        size_bytes: what the file may have.
    """
    quality, _ = plain_coding.best_jpeg(original, size_bytes)
    data, encode_s = _timed(lambda: plain_coding.encode_jpeg(original, quality))
    restored, decode_s = _timed(lambda: plain_coding.jpeg_pixels(data))
    title = f"JPEG, quality {quality}"
    return data, Photo(title, restored, len(data), 1000 * encode_s, 1000 * decode_s)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and the seconds of its quickest run of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def _tell(
    folder: Path,
    models: list[tuple[str, Any]],
    photo: list[tuple[str, ...]],
    audio: list[tuple[str, ...]],
) -> None:
    titles = ("photo", "bytes", "bit/pixel", "PSNR", "MS-SSIM", "encode", "decode")
    terminal.table(titles, photo, right=tuple(range(1, len(titles))))
    terminal.table(("speech", ""), audio)
    for name, model in models:
        report = model.report()
        terminal.say(f"{name}, {report['precision']}: {where_it_runs(report)}")
    terminal.say("")
    terminal.say(f"in {folder}:")
    for name in FILES:
        terminal.say(f"  {name}")


FILES = (
    "photo-comparison.png",
    "photo-original.png",
    "photo.eae",
    "photo-restored.png",
    "photo-same-size.jpg",
    "speech-spectrograms.png",
    "speech-noisy.wav",
    "speech-clean.wav",
    "speech.eae",
    "speech-restored.wav",
)
