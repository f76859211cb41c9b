"""Speech for the codec: clean recordings at many levels, at times with noise that is to be kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.speech.codec_signal import FRAME_SAMPLES
from train.speech.corpus import SAMPLE_RATE_HZ, held_out_split, read_corpus
from train.speech.data import (
    Source,
    _narrow_band,
    _summary,
    _tone,
    at_speed,
    crop,
    noise_gain,
    speech_segment,
)
from train.speech.pack import read_pack

__all__ = ["CodecSpeech", "SpeechPieces"]

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CodecSpeech:
    """Where speech comes from and what is done to it; chances are per item of a batch.

    `held_out_percent` of the speakers are kept for validation (see `train.speech.data.SpeechData`,
    as for `cache`). With folders of `noise`, `noise_chance` of the pieces have some, which belongs
    to what is coded. A frame begins a burst of lost ones so often that `lost_share` of the frames
    of `lost_chance` of the pieces do not arrive, `burst_frames` at a time on average. `pack`, a
    file that `python -m train.pack` wrote, takes the place of `speech` and `noise`.
    """

    speech: tuple[str, ...]
    noise: tuple[str, ...] = ()
    cache: str = "runs/cache"
    segment_samples: int = 32_000
    level_db: tuple[int, ...] = (-40, -14)
    equalize_db: float = 4.0
    speed_chance: float = 0.3
    speeds: tuple[float, ...] = (0.8, 1.3)
    narrow_band_chance: float = 0.05
    noise_chance: float = 0.2
    snr_db: tuple[int, ...] = (5, 30)
    lost_chance: float = 0.3
    lost_share: float = 0.15
    burst_frames: float = 2.5
    held_out_percent: float = 5.0
    validation_pieces: int = 24
    pack: str = ""

    def __post_init__(self) -> None:
        for key in ("level_db", "speeds", "snr_db"):
            pair = getattr(self, key)
            if len(pair) != 2 or pair[0] > pair[1]:
                raise ValueError(f"{key} is {pair}, expected lowest and highest")
        if self.speeds[0] <= 0:
            raise ValueError(f"speeds is {self.speeds}, expected more than 0")
        # STOI needs 30 frames of speech, and as much again may be pauses.
        if self.segment_samples % FRAME_SAMPLES or self.segment_samples < 32 * FRAME_SAMPLES:
            raise ValueError(
                f"segment_samples is {self.segment_samples}, expected a multiple of "
                f"{FRAME_SAMPLES}, at least {32 * FRAME_SAMPLES}"
            )
        if not 0 <= self.lost_share < 1 or self.burst_frames < 1:
            raise ValueError("lost_share must be 0 to below 1, burst_frames at least 1")


class SpeechPieces:
    """Endless batches of speech."""

    def __init__(self, config: CodecSpeech) -> None:
        """Raises ValueError if there is no speech to read."""
        self.config = config
        noise = None
        if config.pack:
            speech, noise = read_pack(Path(config.pack))
        else:
            speech = read_corpus(config.speech, config.cache, kind="speech")
            if config.noise:
                noise = read_corpus(config.noise, config.cache, kind="noise")
        speech, talkers, held = held_out_split(speech, config.held_out_percent)
        self.speech = Source(speech, talkers, longest_s=8.0)
        self.held_out = Source(speech, held, longest_s=8.0)
        self.noise: Source | None = None
        if noise is not None:
            noise, kinds, self._held_kinds = held_out_split(noise, config.held_out_percent)
            self.noise = Source(noise, kinds, longest_s=10.0)

    def summary(self) -> dict[str, Any]:
        """What there is, for a recipe's `data_summary`."""
        config = self.config
        found = {"speech": _summary(self.speech, self.held_out, config.speech, "speakers")}
        if self.noise is not None:
            kept = Source(self.noise.corpus, self._held_kinds, longest_s=10.0)
            found["noise"] = _summary(self.noise, kept, config.noise, "kinds of noise")
        return found

    def batch(self, rng: np.random.Generator, size: int) -> Audio:
        """`size` pieces of speech, float32 (size, segment_samples)."""
        config, length = self.config, self.config.segment_samples
        out = np.stack([self._piece(length, rng) for _ in range(size)])
        spectrum = np.fft.rfft(out, axis=1)
        frequency_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, spectrum.shape[1], dtype=np.float32)
        for row in spectrum:
            row *= _tone(frequency_hz, config.equalize_db, rng)
            if rng.random() < config.narrow_band_chance:
                row *= _narrow_band(frequency_hz, rng)
        out = np.fft.irfft(spectrum, n=length, axis=1).astype(np.float32)
        for i in range(size):
            if self.noise is not None and rng.random() < config.noise_chance:
                noise = crop(self.noise.corpus.clip(self.noise.draw(rng)), length, rng)
                snr_db = rng.uniform(config.snr_db[0], config.snr_db[1])
                out[i] += noise * noise_gain(out[i], noise, snr_db=snr_db)
            level = float(np.sqrt(np.mean(np.square(out[i]))))
            gain = 10 ** (rng.uniform(config.level_db[0], config.level_db[1]) / 20)
            out[i] *= np.float32(gain / max(level, 1e-6))
        return np.clip(out, -1, 1)

    def lost(self, rng: np.random.Generator, size: int) -> npt.NDArray[np.bool_]:
        """Which frames of a batch do not arrive, bool (size, frames): bursts after Gilbert."""
        config, frames = self.config, self.config.segment_samples // FRAME_SAMPLES
        out = np.zeros((size, frames), np.bool_)
        if not config.lost_share:
            return out
        ends = 1 / config.burst_frames
        begins = ends * config.lost_share / (1 - config.lost_share)
        losing = rng.random(size) < config.lost_chance
        state = np.zeros(size, np.bool_)
        for t in range(frames):
            drawn = rng.random(size)
            state = np.where(state, drawn >= ends, drawn < begins)
            out[:, t] = state & losing
        return out

    def validation(self) -> Audio:
        """Fixed pieces of held-out speakers, float32 (validation_pieces, 64000), at -26 dB."""
        rng = np.random.default_rng(20_261_127)
        count, length = self.config.validation_pieces, 4 * SAMPLE_RATE_HZ
        found = np.stack(
            [speech_segment(self.held_out, length, rng, lead_chance=0.0) for _ in range(count)]
        )
        level = np.sqrt(np.mean(np.square(found), axis=1, keepdims=True))
        return (found * (0.05 / np.maximum(level, 1e-6))).astype(np.float32)

    def _piece(self, length: int, rng: np.random.Generator) -> Audio:
        config = self.config
        if rng.random() >= config.speed_chance:
            return speech_segment(self.speech, length, rng)
        speed = rng.uniform(config.speeds[0], config.speeds[1])
        return at_speed(speech_segment(self.speech, int(length * speed) + 1, rng), speed, length)
