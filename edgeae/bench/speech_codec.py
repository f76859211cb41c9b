"""What a codec of speech is timed at, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.trials import check_damage
from edgeae.bench.workloads import ASSETS, Workload
from edgeae.errors import EdgeaeError
from edgeae.media import read_audio
from edgeae.signal.resample import resampled
from edgeae.signal.speech_codec import SpeechCodec
from edgeae.signal.speech_signal import FRAME_SAMPLES, RATE_HZ

__all__ = ["made_talk", "self_test", "typical_runs", "workloads"]

QUALITY = 5
CALIBRATION_QUALITIES = (1.0, 5.0, 9.0)

Audio = NDArray[np.float32]


def workloads(codec: SpeechCodec, *, source: Path | None = None) -> list[Workload]:
    """Both ends, whole and as a stream with packets of 40 ms, on the package's recording or the one
    in `source`.

    Raises MediaError for a source that cannot be read.
    """
    audio, rate_hz = read_audio(ASSETS / "clean.flac" if source is None else source)
    if audio.ndim == 2:
        audio = audio.mean(axis=1, dtype=np.float32)
    audio = resampled(audio, rate_hz, RATE_HZ)
    seconds = len(audio) / RATE_HZ
    blobs: list[bytes] = []

    def compress() -> None:
        blobs[:] = [codec.compress(audio, quality=QUALITY)]

    def decompress() -> None:
        if not blobs:  # nobody has compressed yet, and a first call has to be a first call
            compress()
        codec.decompress(blobs[0])

    sender = codec.stream(quality=QUALITY, packet_frames=2)
    receiver = codec.listen(sender.opening)
    block = 2 * FRAME_SAMPLES
    begins: Iterator[int] = iter(())

    def packet() -> None:
        nonlocal begins
        begin = next(begins, None)
        if begin is None:
            begins = iter(range(0, len(audio) - block + 1, block))
            begin = next(begins)
        for sent in sender.send(audio[begin : begin + block]):
            receiver.receive(sent)

    what = f"{seconds:.1f} s of speech, quality {QUALITY}"
    return [
        Workload("compress", f"compress {what}", seconds, "second", compress),
        Workload("decompress", f"decompress {what}", seconds, "second", decompress),
        Workload(
            "packet", "send and receive 40 ms in one packet", block / RATE_HZ, "second", packet
        ),
    ]


def self_test(codec: SpeechCodec) -> Iterator[str]:
    """One line for each check of a voice made here; EdgeaeError says which one failed."""
    talk, told = made_talk(16_001), []
    for quality in (1, 5, 9):
        blob = codec.compress(talk, quality=quality)
        if codec.compress(talk, quality=quality) != blob:
            raise EdgeaeError(f"self-test failed: quality {quality} gave two different files")
        restored = codec.decompress(blob)
        if restored.shape != talk.shape or restored.dtype != talk.dtype:
            raise EdgeaeError(
                f"self-test failed: {talk.shape} came back as {restored.shape} {restored.dtype}"
            )
        told.append(f"{8 * len(blob) * RATE_HZ / len(talk) / 1000:.2f} kbit/s")
    yield f"qualities 1, 5, 9 of a made voice: {', '.join(told)}"
    yield "the same bytes twice"
    sender = codec.stream(quality=QUALITY)
    receiver = codec.listen(sender.opening)
    packets = [*sender.send(talk), *sender.end()]
    said = [receiver.receive(packet) for i, packet in enumerate(packets) if i % 5]
    if sum(map(len, said)) < len(talk) - 5 * len(said[0]):
        raise EdgeaeError("self-test failed: a stream with losses is shorter than what was sent")
    yield f"a stream of {len(packets)} packets, every fifth of them lost"
    yield check_damage(codec.decompress, blob)


def typical_runs(codec: SpeechCodec, *, size: tuple[int, int]) -> int:
    """Compresses and restores a made voice at several qualities; the second number of `size` is its
    samples."""
    talk = made_talk(max(size[1], FRAME_SAMPLES))
    for quality in CALIBRATION_QUALITIES:
        codec.decompress(codec.compress(talk, quality=quality))
    return 1


def made_talk(samples: int) -> Audio:
    """A voice of gliding pitch with syllables and pauses, float32 (samples,) at 16 kHz."""
    time = np.arange(samples) / RATE_HZ
    pitch_hz = 120 + 30 * np.sin(5 * time) + 10 * np.sin(13 * time)
    turns = np.cumsum(pitch_hz) / RATE_HZ
    harmonics = np.arange(1, 21)[:, None]
    voiced = (np.cos(2 * np.pi * harmonics * turns) / harmonics).sum(axis=0)
    noise = np.random.default_rng(0).standard_normal(samples)
    # Four syllables a second; the end of each hisses.
    place = 4 * time % 1
    syllable = np.clip(np.sin(np.pi * np.minimum(place / 0.7, 1)), 0, 1)
    hiss = np.where((place > 0.5) & (place < 0.7), 0.3, 0.01)
    talk: Audio = (0.1 * (syllable * voiced + hiss * noise)).astype(np.float32)
    return talk
