"""Signals for the codec: records of an electrocardiogram, each scaled to a deviation of 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from train.signal.ecg import HELD_OUT, SAMPLE_RATE_HZ, read_records

__all__ = ["CodecData", "Signals"]

Floats = npt.NDArray[np.float32]
# How much faster or slower time may run.
_STRETCH = (0.8, 1.25)


@dataclass(frozen=True)
class CodecData:
    """Where signals come from and how pieces are cut.

    Attributes:
        folders: of records (`records.tsv`).
        crop_steps: length of a piece in latent steps of 16 samples.
        gain_jitter: deviation of the logarithm of a random gain: what stands in the header is not
            exactly what the codec was trained with.
        first_lead: share of the pieces that are cut from the first lead.
        mixed: share that is a mixture of two leads; the rest is cut from the last lead.
        stretched: share whose time is stretched, for other hearts and rates.
        held_out_seconds: how much of each held-out record is measured.
    """

    folders: tuple[str, ...] = ()
    crop_steps: int = 256
    gain_jitter: float = 0.15
    first_lead: float = 0.55
    mixed: float = 0.25
    stretched: float = 0.3
    held_out_seconds: float = 90.0

    def __post_init__(self) -> None:
        if self.crop_steps < 16 or self.crop_steps & (self.crop_steps - 1):
            raise ValueError(f"crop_steps is {self.crop_steps}, expected a power of two from 16")
        for name in ("first_lead", "mixed", "stretched"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")


class Signals:
    """Training and held-out signals in memory, float32, mean 0 and deviation 1 each lead."""

    def __init__(self, config: CodecData) -> None:
        """Raises ValueError if the folders hold no records."""
        if not config.folders:
            raise ValueError("no folder of records is given: --data FOLDER")
        self._config = config
        self._records: list[Floats] = []
        self.held_out: list[Floats] = []
        for folder in map(Path, config.folders):
            for record in read_records(folder, "DS1", without=HELD_OUT):
                leads = [normalized(lead) for lead in record.counts.T]
                self._records.append(np.stack(leads))
            length = int(config.held_out_seconds * SAMPLE_RATE_HZ) // 16 * 16
            for record in read_records(folder, "DS1", only=HELD_OUT):
                # From a few minutes in, where leads have settled.
                begin = 300 * SAMPLE_RATE_HZ
                piece = record.counts[begin : begin + length, 0]
                self.held_out.append(normalized(piece))
        self._correlations = [float(np.mean(r[0] * r[-1])) for r in self._records]
        self.seconds = sum(r.size for r in self._records) / SAMPLE_RATE_HZ

    def batch(self, rng: np.random.Generator, count: int, steps: int) -> torch.Tensor:
        """Pieces float32 (count, 16 * steps), drawn at random."""
        pieces = [self._piece(rng, 16 * steps) for _ in range(count)]
        return torch.from_numpy(np.stack(pieces))

    def _piece(self, rng: np.random.Generator, samples: int) -> Floats:
        """One lead, or a mixture of both, which is what another electrode would see."""
        config = self._config
        which = int(rng.integers(len(self._records)))
        record = self._records[which]
        stretch = rng.uniform(*_STRETCH) if rng.random() < config.stretched else 1.0
        taken = int(np.ceil(samples * stretch)) + 1
        begin = int(rng.integers(record.shape[1] - taken))
        part = record[:, begin : begin + taken]
        drawn = rng.random()
        if drawn < config.first_lead:
            piece = part[0]
        elif drawn < config.first_lead + config.mixed:
            angle = rng.uniform(0, 2 * np.pi)
            a, b = np.cos(angle), np.sin(angle)
            power = 1 + 2 * a * b * self._correlations[which]
            piece = (a * part[0] + b * part[-1]) / np.sqrt(max(power, 0.05))
        else:
            piece = part[-1]
        if stretch != 1.0:
            piece = np.interp(np.arange(samples) * stretch, np.arange(taken), piece)
        gain = np.exp(config.gain_jitter * rng.standard_normal())
        return (piece[:samples] * gain).astype(np.float32)

    def summary(self) -> dict[str, Any]:
        """What there is, for the first line of a run and the model's card."""
        return {
            "folders": list(self._config.folders),
            "train": len(self._records),
            "held_out": len(self.held_out),
            "unit": f"{self.seconds / 3600:.1f} h of leads to train on",
            "skipped": {},
        }


def normalized(counts: npt.NDArray[Any]) -> Floats:
    """A signal (samples,) less its mean and over its deviation, float32 (samples,)."""
    values = counts.astype(np.float64)
    values -= values.mean()
    scaled: Floats = (values / max(float(values.std()), 1e-6)).astype(np.float32)
    return scaled
