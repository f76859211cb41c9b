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


def main(folder: Path) -> None:
    noisy, rate = read_audio(files("edgeae") / "assets" / "noisy.flac")
    mono = noisy if noisy.ndim == 1 else noisy[:, 0]
    model = edgeae.load("speech-denoiser")
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
