"""Clean signals and noises, mixed anew for every batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfiltfilt

from train.signal.ecg import HELD_OUT, SAMPLE_RATE_HZ, read_records
from train.signal.files import kind_of, read_folders

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SignalDenoiserData:
    """Where clean signals and noises come from and how they are mixed.

    Attributes:
        clean: folders of clean series, or one with `records.tsv` of an electrocardiogram, of which
            DS1 is taken.
        noise: folders of noises; a kind is a file's name up to a number of its own.
        columns, leave_out: of tables, see `train.signal.files.read_folders`.
        segment_samples: length of an item.
        high_pass_hz: clean signals lose what lies below, forwards and backwards by a Butterworth
            filter of second order: their own wander is no part of what is to be restored. 0 keeps
            all of it.
        snr_db: lowest and highest ratio of signal to noise, over whole recordings.
        gain_db: how much louder or softer an item may be.
        speed: how much slower or faster, as a share.
        second_noise_chance: that a noise of another kind is added, and both are weaker.
        weights: how often each kind of noise is drawn, beside its name: "ma=2" twice as often.
        held_out: share of the clean series, the last of them, and of each noise, its end, that are
            kept for validation. Of an electrocardiogram `train.signal.ecg.HELD_OUT` is kept.
        validation_mixes: items of the validation for each kind of noise.
    """

    clean: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    segment_samples: int = 3072
    high_pass_hz: float = 0.5
    snr_db: tuple[int, ...] = (-9, 15)
    gain_db: float = 6.0
    speed: float = 0.2
    second_noise_chance: float = 0.15
    weights: tuple[str, ...] = ()
    held_out: float = 0.1
    validation_mixes: int = 24

    def __post_init__(self) -> None:
        if len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db is {self.snr_db}, expected lowest and highest")
        if not 0 <= self.speed < 1:
            raise ValueError(f"speed is {self.speed}, expected a share from 0 to below 1")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}, expected a share between 0 and 1")


@dataclass(frozen=True)
class _Pool:
    """Recordings (samples, channels) of zero mean and an RMS of one, all channels together."""

    recordings: list[Floats]

    def draw(self, rng: np.random.Generator, length: int, speed: float) -> Floats:
        """A piece (length,) of a mix of a recording's channels at another speed."""
        sizes = np.array([len(one) for one in self.recordings], float)
        chosen = self.recordings[rng.choice(len(sizes), p=sizes / sizes.sum())]
        rate = float(np.exp(rng.uniform(-1, 1) * np.log1p(speed)))
        # Spare samples around, so that every place to read from lies inside.
        needed = min(len(chosen), int(length * rate) + 2)
        start = int(rng.integers(len(chosen) - needed + 1))
        piece = chosen[start : start + needed]
        weights = rng.standard_normal(piece.shape[1:], np.float32)
        if rng.random() < 0.5:
            weights[:] = 0
            weights[rng.integers(len(weights))] = rng.choice((-1, 1))
        mono = piece @ (weights / np.sqrt(np.square(weights).sum()))
        places = np.arange(length) * rate
        return np.asarray(np.interp(places, np.arange(needed), mono), np.float32)


class SignalMixer:
    """Endless batches of noisy signals with their clean targets."""

    def __init__(self, config: SignalDenoiserData, rate_hz: int) -> None:
        """Raises ValueError if there are no signals or no noises to read."""
        self.config, self.rate_hz = config, rate_hz
        clean, held, self._skipped = self._read_clean()
        self.clean = _Pool([_unit(self._high_pass(one)) for one in clean])
        self.held_clean = _Pool([_unit(self._high_pass(one)) for one in held])
        self.level = float(np.sqrt(np.mean([np.square(one).mean() for one in self._levels])))
        self.noise, self.held_noise = self._read_noise()
        given = dict(one.split("=", 1) for one in config.weights)
        if unknown := sorted(set(given) - set(self.noise)):
            raise ValueError(f"weights has {unknown}, expected kinds of {sorted(self.noise)}")
        self.kinds = sorted(self.noise)
        chances = np.array([float(given.get(kind, 1)) for kind in self.kinds])
        self._chances = chances / chances.sum()

    def _read_clean(self) -> tuple[list[Floats], list[Floats], dict[str, str]]:
        folders = self.config.clean
        if len(folders) == 1 and (Path(folders[0]) / "records.tsv").is_file():
            if self.rate_hz != SAMPLE_RATE_HZ:
                raise ValueError(f"rate_hz is {self.rate_hz}, expected {SAMPLE_RATE_HZ}")
            folder = Path(folders[0])
            clean = [one.millivolts for one in read_records(folder, "DS1", without=HELD_OUT)]
            held = [one.millivolts for one in read_records(folder, "DS1", only=HELD_OUT)]
            self._levels = [one - one.mean(0) for one in clean]
            return clean, held, {}
        found = read_folders(folders, columns=self.config.columns, leave_out=self.config.leave_out)
        self._levels = [one - one.mean(0) for one in found.series]
        for one in found.series:
            if not np.isfinite(one).all():
                raise ValueError("values are missing in the clean series: fill or leave them out")
        kept = len(found.series) - max(1, round(len(found.series) * self.config.held_out))
        if kept:
            return found.series[:kept], found.series[kept:], found.skipped
        # A single recording: its end is held out.
        (one,) = found.series
        cut = int(len(one) * (1 - self.config.held_out))
        return [one[:cut]], [one[cut:]], found.skipped

    def _read_noise(self) -> tuple[dict[str, _Pool], dict[str, _Pool]]:
        found = read_folders(self.config.noise)
        kept: dict[str, list[Floats]] = {}
        held: dict[str, list[Floats]] = {}
        for name, one in zip(found.files, found.series, strict=True):
            cut = int(len(one) * (1 - self.config.held_out))
            kept.setdefault(kind_of(name), []).append(_unit(one[:cut]))
            held.setdefault(kind_of(name), []).append(_unit(one[cut:]))
        self._skipped |= found.skipped
        return (
            {kind: _Pool(parts) for kind, parts in kept.items()},
            {kind: _Pool(parts) for kind, parts in held.items()},
        )

    def _high_pass(self, series: Floats) -> Floats:
        if not self.config.high_pass_hz:
            return series
        sections = butter(2, self.config.high_pass_hz, "highpass", fs=self.rate_hz, output="sos")
        return np.asarray(sosfiltfilt(sections, series, axis=0), np.float32)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
        """Noisy segments and their clean targets, float32 (size, segment_samples) each."""
        pairs = [self._mix(rng, self.clean, self.noise, None) for _ in range(size)]
        return np.stack([noisy for noisy, _ in pairs]), np.stack([clean for _, clean in pairs])

    def validation(self) -> dict[str, tuple[Floats, Floats]]:
        """Held-out mixes of each kind of noise, float32 (count, samples) noisy and clean, as
        `batch` gives them."""
        rng = np.random.default_rng(1)
        found = {}
        for kind in self.kinds:
            pairs = [
                self._mix(rng, self.held_clean, self.held_noise, kind)
                for _ in range(self.config.validation_mixes)
            ]
            found[kind] = (np.stack([n for n, _ in pairs]), np.stack([c for _, c in pairs]))
        return found

    def _mix(
        self,
        rng: np.random.Generator,
        signals: _Pool,
        noises: dict[str, _Pool],
        kind: str | None,
    ) -> tuple[Floats, Floats]:
        config, length = self.config, self.config.segment_samples
        gain = self.level * 10 ** (rng.uniform(-1, 1) * config.gain_db / 20)
        clean = signals.draw(rng, length, config.speed) * np.float32(gain)
        first = kind or str(rng.choice(self.kinds, p=self._chances))
        noise = noises[first].draw(rng, length, config.speed)
        if kind is None and rng.random() < config.second_noise_chance:
            second = str(rng.choice(self.kinds, p=self._chances))
            share = rng.uniform(0.2, 0.8)
            other = noises[second].draw(rng, length, config.speed)
            noise = np.sqrt(share) * noise + np.sqrt(1 - share) * other
        snr_db = rng.uniform(config.snr_db[0], config.snr_db[1])
        noise = noise * np.float32(gain * 10 ** (-snr_db / 20))
        noisy = clean + noise
        # A stream takes its first sample for the level of nothing; the network sees no more of it.
        return (noisy - noisy[0]).astype(np.float32), clean

    def summary(self) -> dict[str, Any]:
        """What there is, for a recipe's `data_summary`."""

        def told(pools: list[_Pool], held: list[_Pool], folders: tuple[str, ...]) -> dict[str, Any]:
            counts = [
                round(sum(len(one) for pool in some for one in pool.recordings) / self.rate_hz / 60)
                for some in (pools, held)
            ]
            return {
                "folders": list(folders),
                "train": counts[0],
                "held_out": counts[1],
                "unit": "minutes",
                "skipped": self._skipped,
            }

        return {
            "clean": told([self.clean], [self.held_clean], self.config.clean),
            "noise": told(
                list(self.noise.values()), list(self.held_noise.values()), self.config.noise
            ),
        }


def _unit(series: Floats) -> Floats:
    centred = series - series.mean(0)
    rms = np.sqrt(np.square(centred).mean(0))
    return np.asarray(centred / np.maximum(rms, 1e-9), np.float32)
