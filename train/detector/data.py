"""Normal series for a detector: windows to learn from, and what is held back to calibrate on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.signal.ecg import HELD_OUT, SAMPLE_RATE_HZ, Record, read_records
from train.signal.files import read_folders

Floats = npt.NDArray[np.float32]

# Beats that are normal ones or of a bundle branch block or an escape: class N of AAMI EC57.
NORMAL_BEATS = "NLRej"
# Windows of one heart that are learned from: records differ less in length than in beats.
_BEATS_OF_A_RECORD = 1500


@dataclass(frozen=True)
class DetectorData:
    """Which series are normal, how windows lie in them, and how scores become alarms.

    Attributes:
        folders: where they are; one with `records.tsv` is of an electrocardiogram, and `beats`
            then takes windows around the beats of DS1.
        columns, leave_out: of tables, see `train.signal.files.read_folders`.
        sample_rate_hz: of the series; 0 if it is not known.
        window_samples: length of a window.
        hop_samples: from window to window when scoring; 0 is a quarter of a window.
        train_hop_samples: the same in training; 0 is a quarter of a window.
        held_out: share of each series, its end, that is held back; of series that are shorter than
            two windows the last ones.
        false_alarm_rate: share of normal windows that may be flagged: fixes the threshold.
        smooth_windows, relative_windows, prematurity: how scores take the past into account, see
            `edgeae.detection`.
        beats: windows lie around heart beats, `beat_before` samples before them.
        lead: of an electrocardiogram.
    """

    folders: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    sample_rate_hz: float = 0.0
    window_samples: int = 64
    hop_samples: int = 0
    train_hop_samples: int = 0
    held_out: float = 0.2
    false_alarm_rate: float = 0.001
    smooth_windows: int = 1
    relative_windows: int = 0
    prematurity: float = 0.0
    beats: bool = False
    beat_before: int = 0
    lead: int = 0

    def __post_init__(self) -> None:
        if self.window_samples < 1:
            raise ValueError(f"window_samples is {self.window_samples}, expected at least 1")
        for key in ("held_out", "false_alarm_rate"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, expected a share from 0 to 1")

    @property
    def hop(self) -> int:
        """Samples from window to window when scoring."""
        return self.hop_samples or max(1, self.window_samples // 4)

    @property
    def train_hop(self) -> int:
        """Samples from window to window in training."""
        return self.train_hop_samples or max(1, self.window_samples // 4)


@dataclass(frozen=True)
class HeldBack:
    """A normal series (samples, channels) that was not learned from; of an electrocardiogram with
    its beats, and which of them are normal."""

    series: Floats
    beats: npt.NDArray[np.int64] | None = None
    normal: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class NormalSeries:
    """Windows to learn from, float32 (N, window_samples, channels), and what is held back.

    Windows around beats begin `beat_before` samples before them.
    """

    training: Floats
    held: list[HeldBack]
    names: tuple[str, ...]
    sample_rate_hz: float
    skipped: dict[str, str]
    beat_before: int = 0

    @property
    def validation(self) -> Floats:
        """Windows (count, samples, channels) of what is held back: one after the other, or those of
        its normal beats."""
        return self.held_windows(self.training.shape[1])

    def held_windows(self, hop: int) -> Floats:
        """Windows (count, samples, channels) of what is held back, every `hop` samples, or those of
        its normal beats."""
        length = self.training.shape[1]
        found = []
        for one in self.held:
            if one.beats is None or one.normal is None:
                found.append(cut(one.series, length, hop))
            else:
                starts = one.beats[one.normal] - self.beat_before
                found.append(np.stack([one.series[start : start + length] for start in starts]))
        return np.concatenate(found)


def read_normal(config: DetectorData) -> NormalSeries:
    """The normal series of the configured folders.

    Raises:
        ValueError: nothing readable is there, values are missing, or the series are too short; the
            message says what to do.
    """
    if config.beats:
        return _read_beats(config)
    found = read_folders(config.folders, columns=config.columns, leave_out=config.leave_out)
    for name, one in zip(found.files, found.series, strict=True):
        if not np.isfinite(one).all():
            raise ValueError(f"{name}: values are missing, fill them or leave the columns out")
    length = config.window_samples
    long = [one for one in found.series if len(one) >= 2 * length]
    short = [one for one in found.series if length <= len(one) < 2 * length]
    kept, held = [], []
    for one in long:
        end = min(len(one) - length, int(len(one) * (1 - config.held_out)))
        kept.append(one[:end])
        held.append(one[end:])
    last = max(1, round(len(short) * config.held_out)) if len(short) > 1 else 0
    kept += short[: len(short) - last]
    held += short[len(short) - last :]
    windows = [cut(one, length, config.train_hop) for one in kept]
    count = sum(map(len, windows))
    if count < 2 or not held:
        longest = max(map(len, found.series))
        raise ValueError(
            f"{count} windows of {length} samples to learn from and {len(held)} series held back: "
            f"the longest series has {longest} samples, expected several windows"
        )
    return NormalSeries(
        np.concatenate(windows),
        [HeldBack(one) for one in held],
        found.names,
        config.sample_rate_hz,
        found.skipped,
    )


def cut(series: Floats, length: int, hop: int) -> Floats:
    """Windows (N, length, channels) of a series (samples, channels), every `hop` samples."""
    starts = range(0, len(series) - length + 1, hop)
    if not len(starts):
        return np.empty((0, length, series.shape[1]), np.float32)
    return np.stack([series[start : start + length] for start in starts]).astype(np.float32)


def _read_beats(config: DetectorData) -> NormalSeries:
    if len(config.folders) != 1 or not (Path(config.folders[0]) / "records.tsv").is_file():
        raise ValueError(f"folders is {list(config.folders)}, expected one with records.tsv")
    folder = Path(config.folders[0])
    rng = np.random.default_rng(0)
    windows = []
    for record in read_records(folder, "DS1", without=HELD_OUT):
        signal, places, normal = _lead(record, config)
        chosen = places[normal]
        chosen = chosen[rng.permutation(len(chosen))[:_BEATS_OF_A_RECORD]]
        windows += [signal[p : p + config.window_samples] for p in chosen - config.beat_before]
    held = []
    for record in read_records(folder, "DS1", only=HELD_OUT):
        signal, places, normal = _lead(record, config)
        held.append(HeldBack(signal, places, normal))
    names, rate_hz = ("ecg [mV]",), float(SAMPLE_RATE_HZ)
    return NormalSeries(np.stack(windows), held, names, rate_hz, {}, config.beat_before)


def _lead(
    record: Record, config: DetectorData
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """A record's lead (samples, 1) in mV, its beats with a whole window, and which are normal."""
    signal = record.millivolts[:, config.lead : config.lead + 1]
    places, symbols = record.positions, np.array(record.symbols)
    after = config.window_samples - config.beat_before
    whole = (places >= config.beat_before) & (places + after <= len(signal))
    return signal, places[whole], np.isin(symbols[whole], list(NORMAL_BEATS))


def data_summary(config: DetectorData, normal: NormalSeries) -> dict[str, Any]:
    """What is learned from, for a recipe's `data_summary`."""
    unit = "windows of " + " x ".join(map(str, normal.training.shape[1:]))
    return {
        "normal": {
            "folders": list(config.folders),
            "train": len(normal.training),
            "held_out": len(normal.held),
            "unit": f"{unit}, and series held back",
            "skipped": normal.skipped,
        }
    }
