"""Signals for the codec: records of an electrocardiogram or series of plain folders, each channel
scaled to a deviation of 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from train.signal.ecg import HELD_OUT, SAMPLE_RATE_HZ, read_records
from train.signal.files import read_folders

__all__ = ["CodecData", "Signals", "has_records", "normalized"]

Floats = npt.NDArray[np.float32]
# Samples of a latent step.
STRIDE = 16
# How much faster or slower time may run.
_STRETCH = (0.8, 1.25)


@dataclass(frozen=True)
class CodecData:
    """Where signals come from and how pieces are cut.

    Attributes:
        folders: of an electrocardiogram's records (with `records.tsv`), or of series of the same
            channels: tables, arrays, recordings.
        columns, leave_out: of tables, see `train.signal.files.read_folders`.
        sample_rate_hz: of the signals.
        held_out: share of each series, its end, that is kept for validation. Of an
            electrocardiogram the records `train.signal.ecg.HELD_OUT` are.
        crop_steps: length of a piece in latent steps of 16 samples.
        gain_jitter: deviation of the logarithm of a random gain: what stands in the header is not
            exactly what the codec was trained with.
        first_lead: of an electrocardiogram, the share of the pieces that are cut from the first
            lead. Of other series every channel comes as often as any other.
        mixed: share that is a mixture of the first and the last lead; the rest is cut from the last
            lead.
        stretched: share whose time is stretched, for other hearts and rates.
        held_out_seconds: how much of each held-out record is measured.
    """

    folders: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    sample_rate_hz: float = SAMPLE_RATE_HZ
    held_out: float = 0.1
    crop_steps: int = 256
    gain_jitter: float = 0.15
    first_lead: float = 0.55
    mixed: float = 0.25
    stretched: float = 0.3
    held_out_seconds: float = 90.0

    def __post_init__(self) -> None:
        if self.crop_steps < 16 or self.crop_steps & (self.crop_steps - 1):
            raise ValueError(f"crop_steps is {self.crop_steps}, expected a power of two from 16")
        if not 0 < self.sample_rate_hz < 1e9:
            raise ValueError(f"sample_rate_hz is {self.sample_rate_hz}, expected above 0")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}, expected a share between 0 and 1")
        for name in ("first_lead", "mixed", "stretched"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")


class Signals:
    """Training and held-out signals in memory, float32, mean 0 and deviation 1 each channel."""

    def __init__(self, config: CodecData) -> None:
        """Raises ValueError if the folders hold no records and no series, or too short ones."""
        if not config.folders:
            raise ValueError("no folder of signals is given: --data FOLDER")
        self._config = config
        self._records: list[Floats] = []
        self.held_out: list[Floats] = []
        self._skipped: dict[str, str] = {}
        self._leads_differ = has_records(config.folders)
        if self._leads_differ:
            self._read_records(config)
        else:
            self._read_series(config)
        self._correlations = [float(np.mean(r[0] * r[-1])) for r in self._records]
        self.seconds = sum(r.size for r in self._records) / config.sample_rate_hz

    def _read_records(self, config: CodecData) -> None:
        if config.sample_rate_hz != SAMPLE_RATE_HZ:
            raise ValueError(
                f"sample_rate_hz is {config.sample_rate_hz}, expected {SAMPLE_RATE_HZ}"
            )
        length = int(config.held_out_seconds * SAMPLE_RATE_HZ) // STRIDE * STRIDE
        for folder in map(Path, config.folders):
            for record in read_records(folder, "DS1", without=HELD_OUT):
                leads = [normalized(lead) for lead in record.counts.T]
                self._records.append(np.stack(leads))
            for record in read_records(folder, "DS1", only=HELD_OUT):
                # From a few minutes in, where leads have settled.
                begin = 300 * SAMPLE_RATE_HZ
                piece = record.counts[begin : begin + length, 0]
                self.held_out.append(normalized(piece))

    def _read_series(self, config: CodecData) -> None:
        found = read_folders(config.folders, columns=config.columns, leave_out=config.leave_out)
        self._skipped = found.skipped
        # A piece that is stretched takes more; its end is held out.
        least = int(STRIDE * config.crop_steps * _STRETCH[1]) + 2
        length = int(config.held_out_seconds * config.sample_rate_hz) // STRIDE * STRIDE
        for name, series in zip(found.files, found.series, strict=True):
            if not np.isfinite(series).all():
                raise ValueError(f"{name}: values are missing, fill them or leave the columns out")
            channels = np.stack([normalized(channel) for channel in series.T])
            cut = int(len(series) * (1 - config.held_out))
            if cut < least:
                continue
            self._records.append(channels[:, :cut])
            rest = channels[:, cut : cut + length]
            whole = rest[:, : rest.shape[1] // STRIDE * STRIDE]
            # What does not move there is no measure.
            self.held_out += [one for one in whole if one.size and one.std() > 1e-3]
        if not self._records or not self.held_out:
            longest = max(map(len, found.series))
            raise ValueError(
                f"the longest series has {longest} samples, expected {least} and as many more as "
                f"are held out: crop_steps of [data] is {config.crop_steps}"
            )

    def batch(self, rng: np.random.Generator, count: int, steps: int) -> torch.Tensor:
        """Pieces float32 (count, STRIDE * steps), drawn at random."""
        pieces = [self._piece(rng, STRIDE * steps) for _ in range(count)]
        return torch.from_numpy(np.stack(pieces))

    def _piece(self, rng: np.random.Generator, samples: int) -> Floats:
        """One channel, or a mixture of leads, which is what another electrode would see."""
        config = self._config
        which = int(rng.integers(len(self._records)))
        record = self._records[which]
        stretch = rng.uniform(*_STRETCH) if rng.random() < config.stretched else 1.0
        taken = int(np.ceil(samples * stretch)) + 1
        begin = int(rng.integers(record.shape[1] - taken))
        part = record[:, begin : begin + taken]
        drawn = rng.random()
        if not self._leads_differ:
            piece = part[int(drawn * len(part))]
        elif drawn < config.first_lead:
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
            "unit": f"{self.seconds / 3600:.2g} h of channels to train on",
            "skipped": self._skipped,
        }


def has_records(folders: tuple[str, ...]) -> bool:
    """Whether folders hold records of an electrocardiogram, and not series of a user's own."""
    return all((Path(folder) / "records.tsv").is_file() for folder in folders)


def normalized(counts: npt.NDArray[Any]) -> Floats:
    """A signal (samples,) less its mean and over its deviation, float32 (samples,)."""
    values = counts.astype(np.float64)
    values -= values.mean()
    scaled: Floats = (values / max(float(values.std()), 1e-6)).astype(np.float32)
    return scaled
