"""The smartphone recordings of Matey-Sanz et al. (2023): six people who stand up, walk, turn and
sit down, an accelerometer and a gyroscope at about 100 Hz, in m/s2 and rad/s.

    python -m benchmarks.movements FOLDER OUT

FOLDER has `sNN.npz`, a file a person, whose arrays are hundredths. OUT gets a .npy for each walk of
the people that are trained on, for `python -m train train/configs/detector-har.toml --data OUT`;
the others are measured by `python -m benchmarks.detection`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["MEASURED", "NORMAL", "Recording", "recordings", "windows"]

# Who is not trained on.
MEASURED = ("s05", "s06")
NORMAL = "WALKING"
# Counts in a unit, and samples from window to window.
SCALE, HOP = 100.0, 16

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """One timed-up-and-go test: float32 (samples, 6), and what is done at each sample."""

    name: str
    series: Floats
    labels: npt.NDArray[np.str_]

    def stretches(self, label: str, least: int) -> Iterator[Floats]:
        """The stretches of at least so many samples in which one thing is done."""
        same = np.concatenate([[False], self.labels == label, [False]])
        edges = np.flatnonzero(same[1:] != same[:-1])
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            if end - begin >= least:
                yield self.series[begin:end]


def recordings(folder: Path, *, measured: bool) -> Iterator[Recording]:
    """The smartphone's recordings of the people who are measured, or of the others."""
    for file in sorted(folder.glob("s*.npz")):
        if (file.stem in MEASURED) != measured:
            continue
        with np.load(file) as held:
            for key in sorted(held.files):
                if key.endswith("_sp"):
                    series = (held[key] / SCALE).astype(np.float32)
                    yield Recording(key, series, held[f"{key}_label"])


def windows(of: Iterable[Recording], label: str, length: int) -> Floats:
    """Windows (N, length, 6) of one activity, `HOP` samples apart."""
    found = [
        np.lib.stride_tricks.sliding_window_view(part, length, axis=0)[::HOP].transpose(0, 2, 1)
        for recording in of
        for part in recording.stretches(label, length)
    ]
    return np.concatenate(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the walks; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.movements", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="with sNN.npz")
    parser.add_argument("out", type=Path, help="gets the walks")
    parser.add_argument("--least", type=int, default=128, help="samples of a walk")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    count = 0
    for recording in recordings(options.folder, measured=False):
        for number, walk in enumerate(recording.stretches(NORMAL, options.least)):
            np.save(options.out / f"{recording.name}_{number}.npy", walk)
            count += 1
    print(f"{options.out}: {count} walks")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
