"""Noisy speech for training: clean recordings and noises in memory, mixed anew for every batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from train.speech.corpus import SAMPLE_RATE_HZ, Corpus, held_out_split, read_corpus
from train.speech.formants import shifted_formants
from train.speech.made import made_noise, struck_noise, unit_gain
from train.speech.onsets import change_scenes, draw_timing
from train.speech.pack import read_pack


@dataclass(frozen=True)
class SpeechData:
    """Where speech and noise come from and how they are mixed.

    Chances are per item of a batch. `held_out_percent` of the speakers and of the kinds of noise
    are kept for validation. A speaker is the sub-folder a file lies in or, in a flat folder, the
    part of its name before the first `_`; a kind of noise is the name up to a number of its own.
    Where that gives but one, every file counts as one of its own, and a single file is cut up.
    `cache` is a folder for the decoded samples ("" decodes on every start). `pack`, a file that
    `python -m train.pack` wrote, takes the place of `speech` and `noise`.
    """

    speech: tuple[str, ...]
    noise: tuple[str, ...]
    cache: str = "runs/cache"
    segment_samples: int = 32_000
    snr_db: tuple[int, ...] = (-10, 20)
    level_db: tuple[int, ...] = (-45, -12)
    equalize_db: float = 6.0
    noise_equalize_db: float = 14.0
    noise_speed_chance: float = 0.4
    speech_speed_chance: float = 0.3
    # How many times as fast, so as high, speech is played: 0.7 to 1.6 reaches from giants to small
    # children, beyond what formants of one speaker can do.
    speech_speeds: tuple[float, ...] = (0.88, 1.15)
    # Voices of other throats at the same pitch (`train.speech.formants`).
    formant_chance: float = 0.0
    formant_shifts: tuple[float, ...] = (0.8, 1.3)
    # Mixes whose noise comes late, goes, or changes its level at once (`train.speech.onsets`).
    onset_chance: float = 0.0
    # Mixes that turn into another voice in another noise (`train.speech.onsets`).
    scene_chance: float = 0.0
    swelling_chance: float = 0.2
    rumble_chance: float = 0.25
    # Noises with more below the lowest voices: wind on the microphone, a bus, steps on the floor.
    subsonic_chance: float = 0.0
    reverberation_chance: float = 0.15
    early_ms: float = 50.0
    second_noise_chance: float = 0.35
    babble_chance: float = 0.12
    made_noise_chance: float = 0.12
    narrow_band_chance: float = 0.06
    clipping_chance: float = 0.03
    noise_only_chance: float = 0.04
    speech_only_chance: float = 0.03
    held_out_percent: float = 8.0
    validation_mixes: int = 40
    pack: str = ""

    def __post_init__(self) -> None:
        if len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db is {self.snr_db}, expected lowest and highest")
        if len(self.level_db) != 2 or self.level_db[0] > self.level_db[1]:
            raise ValueError(f"level_db is {self.level_db}, expected lowest and highest")
        if len(self.speech_speeds) != 2 or not 0 < self.speech_speeds[0] <= self.speech_speeds[1]:
            raise ValueError(f"speech_speeds is {self.speech_speeds}, expected lowest and highest")
        if (
            len(self.formant_shifts) != 2
            or not 0 < self.formant_shifts[0] <= self.formant_shifts[1]
        ):
            raise ValueError(
                f"formant_shifts is {self.formant_shifts}, expected lowest and highest"
            )
        if self.segment_samples < SAMPLE_RATE_HZ // 4:
            raise ValueError(f"segment_samples is {self.segment_samples}, expected at least 4000")


class Source:
    """Some clips of a corpus, drawn by chance."""

    def __init__(self, corpus: Corpus, indices: list[int], *, longest_s: float) -> None:
        self.corpus = corpus
        self.indices = np.array(indices)
        seconds = np.diff(corpus.starts)[self.indices] / SAMPLE_RATE_HZ
        # By length within reason, and by the root of the group's size: a speaker with ten times the
        # recordings is drawn about three times as often.
        weight = np.minimum(seconds, longest_s)
        members: dict[str, list[int]] = {}
        for place, index in enumerate(indices):
            members.setdefault(corpus.groups[index], []).append(place)
        self.members = {group: np.array(places) for group, places in members.items()}
        for places in self.members.values():
            weight[places] /= np.sqrt(weight[places].sum())
        self.edges = np.cumsum(weight / weight.sum())

    def seconds(self) -> float:
        """How long all clips are together."""
        return float(np.diff(self.corpus.starts)[self.indices].sum() / SAMPLE_RATE_HZ)

    def draw(self, rng: np.random.Generator) -> int:
        """The number of a clip in the corpus."""
        place = int(np.searchsorted(self.edges, rng.random(), side="right"))
        return int(self.indices[min(place, len(self.indices) - 1)])

    def sibling(self, index: int, rng: np.random.Generator) -> int:
        """Another clip of the same group, or the same one where the group has no other."""
        places = self.members[self.corpus.groups[index]]
        return int(self.indices[places[rng.integers(len(places))]])


class SpeechMixer:
    """Endless batches of noisy speech with their clean targets."""

    def __init__(self, config: SpeechData) -> None:
        """Raises ValueError if there is no speech or no noise to read."""
        self.config = config
        if config.pack:
            speech, noise = read_pack(Path(config.pack))
        else:
            speech = read_corpus(config.speech, config.cache, kind="speech")
            noise = read_corpus(config.noise, config.cache, kind="noise")
        speech, talkers, held_talkers = held_out_split(speech, config.held_out_percent)
        noise, noises, held_noises = held_out_split(noise, config.held_out_percent)
        self.speech = Source(speech, talkers, longest_s=8.0)
        self.noise = Source(noise, noises, longest_s=10.0)
        self.held_speech = Source(speech, held_talkers, longest_s=8.0)
        self.held_noise = Source(noise, held_noises, longest_s=10.0)

    def summary(self) -> dict[str, Any]:
        """What there is, for a recipe's `data_summary`."""
        return {
            "speech": _summary(self.speech, self.held_speech, self.config.speech, "speakers"),
            "noise": _summary(self.noise, self.held_noise, self.config.noise, "kinds of noise"),
        }

    def batch(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """`size` noisy segments and their clean targets, float32 (size, segment_samples) each."""
        config = self.config
        length = config.segment_samples
        speech = np.empty((size, length), np.float32)
        noise = np.empty((size, length), np.float32)
        for i in range(size):
            speech[i] = self._speech_segment(length, rng)
            noise[i] = self._noise_segment(length, rng)
        self._shift_formants(speech, rng)
        clean, wet, noise = _filtered(speech, noise, config, rng)
        noisy = np.empty_like(wet)
        for i in range(size):
            kind = rng.random()
            heard, disturbing = wet[i], noise[i]
            if kind < config.noise_only_chance:
                clean[i] = 0.0
                heard = np.zeros_like(heard)
            elif kind < config.noise_only_chance + config.speech_only_chance:
                disturbing = np.zeros_like(disturbing)
            else:
                snr_db = rng.uniform(config.snr_db[0], config.snr_db[1])
                disturbing = disturbing * noise_gain(heard, disturbing, snr_db=snr_db)
            noisy[i] = heard + disturbing
            # Levels are those of the mix while there is noise, whatever its course.
            level = np.sqrt(np.mean(np.square(noisy[i])))
            gain = np.float32(10 ** (rng.uniform(*config.level_db) / 20) / max(level, 1e-6))
            if config.onset_chance and rng.random() < config.onset_chance:
                timing = draw_timing(length, rng)
                noisy[i] = heard * timing.speech_gain + disturbing * timing.noise_gain
                noisy[i] += timing.room * (1 - timing.noise_gain) / gain
                clean[i] *= timing.speech_gain
            noisy[i] *= gain
            clean[i] *= gain
            if rng.random() < config.clipping_chance:
                ceiling = np.abs(noisy[i]).max() * rng.uniform(0.2, 0.8)
                np.clip(noisy[i], -ceiling, ceiling, out=noisy[i])
        if config.scene_chance:
            change_scenes(noisy, clean, config.scene_chance, rng)
        return noisy, clean

    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """The fixed noisy mixes and their clean speech, float32 (validation_mixes, 64000) each.

        Speakers and kinds of noise are held out; SNR -5 to 15 dB; no filters, no reverberation.
        """
        rng = np.random.default_rng(20_240_229)
        count, length = self.config.validation_mixes, 4 * SAMPLE_RATE_HZ
        noisy = np.empty((count, length), np.float32)
        clean = np.empty((count, length), np.float32)
        for i in range(count):
            clean[i] = speech_segment(self.held_speech, length, rng, lead_chance=0.0)
            clean[i] *= 0.05 / max(np.sqrt(np.mean(np.square(clean[i]))), 1e-6)
            noise = crop(self.held_noise.corpus.clip(self.held_noise.draw(rng)), length, rng)
            snr_db = -5.0 + 20.0 * i / max(count - 1, 1)
            noisy[i] = clean[i] + noise * noise_gain(clean[i], noise, snr_db=snr_db)
        return noisy, clean

    def _shift_formants(self, speech: np.ndarray, rng: np.random.Generator) -> None:
        """Gives some rows of `speech` other formants, in place."""
        config = self.config
        if not config.formant_chance:
            return
        chosen = np.flatnonzero(rng.random(len(speech)) < config.formant_chance)
        if not len(chosen):
            return
        lowest, highest = config.formant_shifts
        factor = rng.uniform(lowest, highest, len(chosen)).astype(np.float32)
        shifted = shifted_formants(torch.from_numpy(speech[chosen]), torch.from_numpy(factor))
        speech[chosen] = shifted.numpy()

    def _speech_segment(self, length: int, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.config.speech_speed_chance:
            return speech_segment(self.speech, length, rng)
        # Other heights of voice, from children to giants, and other paces.
        speed = rng.uniform(self.config.speech_speeds[0], self.config.speech_speeds[1])
        return at_speed(speech_segment(self.speech, int(length * speed) + 1, rng), speed, length)

    def _noise_segment(self, length: int, rng: np.random.Generator) -> np.ndarray:
        config = self.config
        out = self._any_noise(length, rng)
        if rng.random() < config.second_noise_chance:
            # With a colour of its own, so that what is heard low says little about what is high.
            other = _coloured(self._any_noise(length, rng), config, rng)
            gain = unit_gain(other) / unit_gain(out) * 10 ** (rng.uniform(-12, 6) / 20)
            out = out + other * np.float32(gain)
        if rng.random() < config.swelling_chance:
            out = out * _swelling(length, rng)
        return out

    def _any_noise(self, length: int, rng: np.random.Generator) -> np.ndarray:
        config = self.config
        kind = rng.random()
        if kind < config.made_noise_chance:
            make = made_noise if rng.random() < 0.5 else struck_noise
            return make(length, rng)
        if kind < config.made_noise_chance + config.babble_chance:
            return self._babble(length, rng)
        return self._recorded_noise(length, rng)

    def _babble(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Two to twelve talkers, half the time in a room like that of a restaurant."""
        out = np.zeros(length, np.float32)
        for _ in range(int(rng.integers(2, 13))):
            talker = crop(self.speech.corpus.clip(self.speech.draw(rng)), length, rng)
            out += talker * unit_gain(talker) * np.float32(rng.uniform(0.2, 1.0))
        if rng.random() < 0.5:
            room = np.fft.rfft(_room(length, rng))
            out = np.fft.irfft(np.fft.rfft(out) * room, n=length).astype(np.float32)
        return out

    def _recorded_noise(self, length: int, rng: np.random.Generator) -> np.ndarray:
        clip = self.noise.corpus.clip(self.noise.draw(rng))
        if rng.random() >= self.config.noise_speed_chance:
            return crop(clip, length, rng)
        # A motor twice as large, a room of smaller children: kinds that were not recorded.
        speed = 2 ** rng.uniform(-1.0, 0.7)
        return at_speed(crop(clip, int(length * speed) + 1, rng), speed, length)


def noise_gain(speech: np.ndarray, noise: np.ndarray, *, snr_db: float) -> np.float32:
    """The factor on `noise` that makes speech / noise energy `snr_db`; 0 where either is silent."""
    power_speech = float(np.mean(np.square(speech, dtype=np.float64)))
    power_noise = float(np.mean(np.square(noise, dtype=np.float64)))
    if power_noise <= 1e-12 or power_speech <= 1e-12:
        return np.float32(0.0)
    return np.float32(np.sqrt(power_speech / power_noise / 10 ** (snr_db / 10)))


def crop(clip: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` samples from a random place, the clip repeated where it is too short."""
    if len(clip) > length:
        start = int(rng.integers(len(clip) - length + 1))
        piece = clip[start : start + length]
    else:
        repeats = -(-length // len(clip)) + 1
        start = int(rng.integers(len(clip)))
        piece = np.tile(clip, repeats)[start : start + length]
    return piece.astype(np.float32) / np.float32(32768)


def speech_segment(
    source: Source, length: int, rng: np.random.Generator, *, lead_chance: float = 0.25
) -> np.ndarray:
    """`length` samples of one speaker: clips with pauses between, at times a late start."""
    out = np.zeros(length, np.float32)
    index = source.draw(rng)
    position = int(rng.integers(length // 2)) if rng.random() < lead_chance else 0
    while position < length:
        clip = source.corpus.clip(index)
        room = length - position
        start = int(rng.integers(len(clip) - room + 1)) if len(clip) > room else 0
        piece = clip[start : start + room]
        out[position : position + len(piece)] = piece
        position += len(piece) + int(rng.integers(SAMPLE_RATE_HZ // 2))
        index = source.sibling(index, rng)
    out *= np.float32(1 / 32768)
    return out


def at_speed(audio: np.ndarray, speed: float, length: int) -> np.ndarray:
    """`length` samples of audio played `speed` times as fast; a lack at the end is silence."""
    out = np.zeros(length, np.float32)
    played = soxr.resample(audio, speed, 1.0, quality="LQ")[:length]
    out[: len(played)] = played
    return out


def _swelling(length: int, rng: np.random.Generator) -> np.ndarray:
    """A gain that wanders by up to 12 dB either way, every second or so."""
    knots = max(2, round(length / SAMPLE_RATE_HZ))
    gain_db = np.interp(
        np.arange(length) * (knots / length), np.arange(knots + 1), rng.uniform(-12, 12, knots + 1)
    )
    return (10 ** (gain_db / 20)).astype(np.float32)


def _filtered(
    speech: np.ndarray, noise: np.ndarray, config: SpeechData, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean target, speech as the microphone hears it, and noise, after filters and rooms.

    Filters are gains on the spectrum of the whole segment, so they wrap around at its ends: a
    discontinuity of a few milliseconds that costs nothing in training.
    """
    size, length = speech.shape
    spectrum = np.fft.rfft(speech, axis=1)
    noise_spectrum = np.fft.rfft(noise, axis=1)
    frequency_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, spectrum.shape[1], dtype=np.float32)
    wet_spectrum = spectrum.copy()
    early_samples = int(config.early_ms * SAMPLE_RATE_HZ / 1000)
    roomy = []
    for i in range(size):
        tone = _tone(frequency_hz, config.equalize_db, rng)
        band = _narrow_band(frequency_hz, rng) if rng.random() < config.narrow_band_chance else None
        spectrum[i] *= tone
        noise_spectrum[i] *= _noise_tone(frequency_hz, config, rng)
        if config.subsonic_chance and rng.random() < config.subsonic_chance:
            noise_spectrum[i] += _subsonic(frequency_hz, noise_spectrum[i], rng)
        if band is not None:
            spectrum[i] *= band
            noise_spectrum[i] *= band
        if rng.random() < config.reverberation_chance:
            room = _room(length, rng)
            wet_spectrum[i] = spectrum[i] * np.fft.rfft(room)
            room[early_samples:] = 0.0
            spectrum[i] *= np.fft.rfft(room)
            roomy.append(i)
    clean = np.fft.irfft(spectrum, n=length, axis=1)
    wet = clean.copy()
    if roomy:
        wet[roomy] = np.fft.irfft(wet_spectrum[roomy], n=length, axis=1)
    return clean, wet, np.fft.irfft(noise_spectrum, n=length, axis=1)


def _coloured(noise: np.ndarray, config: SpeechData, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(noise)
    frequency_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum), dtype=np.float32)
    return np.fft.irfft(spectrum * _noise_tone(frequency_hz, config, rng), n=len(noise))


def _noise_tone(
    frequency_hz: np.ndarray, config: SpeechData, rng: np.random.Generator
) -> np.ndarray:
    tone = _tone(frequency_hz, config.noise_equalize_db, rng)
    if rng.random() < config.rumble_chance:
        tone = tone * _rumble(frequency_hz, rng)
    return tone


def _tone(frequency_hz: np.ndarray, strength_db: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random gain over frequency."""
    knots_hz = np.array([0, 150, 400, 1000, 2500, 5000, 8000], np.float32)
    gain_db = rng.normal(0.0, strength_db / 2, len(knots_hz))
    gain = 10 ** (gain_db / 20)
    return np.interp(frequency_hz, knots_hz, gain).astype(np.float32)


def _rumble(frequency_hz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What makes a noise one of engines, wind or rotors: 3 to 15 dB less with every octave."""
    octaves = np.log2(np.maximum(frequency_hz / rng.uniform(80, 500), 1.0))
    return (10 ** (-rng.uniform(3, 15) * octaves / 20)).astype(np.float32)


def _subsonic(
    frequency_hz: np.ndarray, noise_spectrum: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The spectrum of a noise below 20 to 90 Hz, of a tenth to a hundred times a noise's energy."""
    octaves = np.log2(np.maximum(frequency_hz / rng.uniform(20, 90), 1.0))
    gain = 10 ** (-rng.uniform(12, 36) * octaves / 20)
    parts = rng.standard_normal((2, len(frequency_hz)))
    spectrum = (gain * (parts[0] + 1j * parts[1])).astype(np.complex64)
    wanted = np.sum(np.square(np.abs(noise_spectrum))) * 10 ** rng.uniform(-1, 2)
    return spectrum * np.float32(np.sqrt(wanted / np.sum(np.square(np.abs(spectrum)))))


def _narrow_band(frequency_hz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a telephone or an upsampled 8 kHz recording leaves."""
    high_hz = rng.uniform(3300, 4000)
    low_hz = rng.uniform(0, 300)
    return ((frequency_hz > low_hz) & (frequency_hz < high_hz)).astype(np.float32)


def _room(length: int, rng: np.random.Generator) -> np.ndarray:
    """A made room's impulse response: the direct sound, then decaying noise, float32 (length,)."""
    decay_s = rng.uniform(0.15, 0.7)
    count = min(length, int(0.6 * SAMPLE_RATE_HZ))
    time_s = np.arange(count, dtype=np.float32) / SAMPLE_RATE_HZ
    # 60 dB down after decay_s.
    tail = rng.standard_normal(count, np.float32) * np.exp(-6.908 / decay_s * time_s)
    tail[: int(rng.uniform(0.002, 0.012) * SAMPLE_RATE_HZ)] = 0.0
    direct_db = rng.uniform(-3.0, 12.0)
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(np.square(tail)))
    room = np.zeros(length, np.float32)
    room[:count] = tail
    room[0] = 1.0
    return room


def _summary(
    training: Source, held_out: Source, folders: tuple[str, ...], groups: str
) -> dict[str, Any]:
    minutes = training.seconds() / 60
    return {
        "folders": list(folders),
        "train": len(training.indices),
        "held_out": len(held_out.indices),
        "unit": f"{minutes:.3g} min of {len(training.members)} {groups} to train on",
        "skipped": training.corpus.skipped,
    }
