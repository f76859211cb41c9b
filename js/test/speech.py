"""Writes what denoiser.test.ts compares with: the package's recording at several rates, and what
Python's stream makes of it, float32.

    python speech.py FOLDER
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

import edgeae
from edgeae.media import read_audio

SECONDS = 4


def hard_cases(mono, rate, model, folder: Path) -> None:
    """What a stream meets beside speech: silence, overload, two channels, rates without a ratio."""
    part = mono[: 2 * rate]
    silent = part.copy()
    silent[: rate // 2] = 0.0  # digital silence, then noise at once
    silent[rate : rate + rate // 4] = 0.0
    loud = part.copy()
    loud[rate // 2 : rate // 2 + 3000] *= 300.0 / max(1e-9, float(abs(part).max()))
    right = (0.3 * np.roll(part, 3) + 0.01 * np.sin(np.arange(len(part)) / 5)).astype(np.float32)
    right[: rate // 3] = 0.0
    both = np.stack([part, right], axis=1)
    for name, noisy, target, link in (
        ("silence", silent, rate, True),
        ("silence-48000", silent, 48_000, True),
        ("overload", loud, rate, True),
        ("linked", both, rate, True),
        ("linked-48000", both, 48_000, True),
        ("apart", both, 48_000, False),
        ("near-15999", part, 15_999, True),
        ("near-44101", part, 44_101, True),
        ("near-16007", part, 16_007, True),
    ):
        noisy.T.tofile(folder / f"{name}.noisy")  # a channel after the other
        channels = 1 if noisy.ndim == 1 else noisy.shape[1]
        stream = model.stream(sample_rate=target, channels=channels, link_channels=link)
        clean = np.concatenate([stream.process(noisy), stream.flush()])[stream.delay :]
        clean.T.tofile(folder / f"{name}.clean")


def main(folder: Path) -> None:
    noisy, rate = read_audio(files("edgeae") / "assets" / "noisy.flac")
    mono = noisy if noisy.ndim == 1 else noisy[:, 0]
    model = edgeae.load("speech-denoiser")
    hard_cases(mono, rate, model, folder)
    for target in (8000, 16000, 44100, 48000):
        times = np.arange(SECONDS * target) * (rate / target)
        # Straight lines between samples: what is heard need not be right, only the same.
        part = np.interp(times, np.arange(len(mono)), mono).astype(np.float32)
        part.tofile(folder / f"{target}.noisy")
        stream = model.stream(sample_rate=target)
        clean = np.concatenate([stream.process(part), stream.flush()])[stream.delay :]
        clean.tofile(folder / f"{target}.clean")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
