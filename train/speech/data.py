"""Noisy speech for training: clean recordings and noises in memory, mixed anew for every batch."""

from __future__ import annotations

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE_HZ = 16_000
_SUFFIXES = {".aif", ".aiff", ".flac", ".ogg", ".opus", ".wav"}


@dataclass(frozen=True)
class SpeechData:
    """Where speech and noise come from and how they are mixed.

    Chances are per item of a batch. `held_out_percent` of the speakers and of the kinds of noise
    are kept for validation. A speaker is the sub-folder a file lies in or, in a flat folder, the
    part of its name before the first `_`; a kind of noise is the name up to a number of its own.
    `cache` is a folder for the decoded samples ("" decodes on every start).
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
    swelling_chance: float = 0.2
    rumble_chance: float = 0.25
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

    def __post_init__(self) -> None:
        if len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db must be lowest and highest, not {self.snr_db}")
        if len(self.level_db) != 2 or self.level_db[0] > self.level_db[1]:
            raise ValueError(f"level_db must be lowest and highest, not {self.level_db}")
        if self.segment_samples < SAMPLE_RATE_HZ // 4:
            raise ValueError(f"segment_samples must be at least 4000, not {self.segment_samples}")


@dataclass(frozen=True)
class Corpus:
    """Recordings end to end in one int16 array.

    Clip i is `samples[starts[i]:starts[i + 1]]`, and `groups[i]` is its speaker or kind of noise.
    """

    samples: np.ndarray
    starts: np.ndarray
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.groups)

    def clip(self, index: int) -> np.ndarray:
        """Clip `index`, int16 (samples,)."""
        return self.samples[self.starts[index] : self.starts[index + 1]]


class _Source:
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
        self._edges = np.cumsum(weight / weight.sum())

    def draw(self, rng: np.random.Generator) -> int:
        """The number of a clip in the corpus."""
        place = int(np.searchsorted(self._edges, rng.random(), side="right"))
        return int(self.indices[min(place, len(self.indices) - 1)])

    def sibling(self, index: int, rng: np.random.Generator) -> int:
        """Another clip of the same group, or the same one where the group has no other."""
        places = self.members[self.corpus.groups[index]]
        return int(self.indices[places[rng.integers(len(places))]])


class SpeechMixer:
    """Endless batches of noisy speech with their clean targets."""

    def __init__(self, config: SpeechData) -> None:
        self.config = config
        speech = _load(config.speech, config.cache, kind="speech")
        noise = _load(config.noise, config.cache, kind="noise")
        talkers, held_talkers = _split(speech, config.held_out_percent)
        noises, held_noises = _split(noise, config.held_out_percent)
        self._speech = _Source(speech, talkers, longest_s=8.0)
        self._noise = _Source(noise, noises, longest_s=10.0)
        self._held_speech = _Source(speech, held_talkers, longest_s=8.0)
        self._held_noise = _Source(noise, held_noises, longest_s=10.0)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """`size` noisy segments and their clean targets, float32 (size, segment_samples) each."""
        config = self.config
        length = config.segment_samples
        speech = np.empty((size, length), np.float32)
        noise = np.empty((size, length), np.float32)
        for i in range(size):
            speech[i] = self._speech_segment(length, rng)
            noise[i] = self._noise_segment(length, rng)
        clean, wet, noise = _filtered(speech, noise, config, rng)
        noisy = np.empty_like(wet)
        for i in range(size):
            kind = rng.random()
            if kind < config.noise_only_chance:
                clean[i] = 0.0
                noisy[i] = noise[i]
            elif kind < config.noise_only_chance + config.speech_only_chance:
                noisy[i] = wet[i]
            else:
                snr_db = rng.uniform(*config.snr_db)
                noisy[i] = wet[i] + noise[i] * noise_gain(wet[i], noise[i], snr_db=snr_db)
            level = np.sqrt(np.mean(np.square(noisy[i])))
            gain = np.float32(10 ** (rng.uniform(*config.level_db) / 20) / max(level, 1e-6))
            noisy[i] *= gain
            clean[i] *= gain
            if rng.random() < config.clipping_chance:
                ceiling = np.abs(noisy[i]).max() * rng.uniform(0.2, 0.8)
                np.clip(noisy[i], -ceiling, ceiling, out=noisy[i])
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
            clean[i] = _speech_segment(self._held_speech, length, rng, lead_chance=0.0)
            clean[i] *= 0.05 / max(np.sqrt(np.mean(np.square(clean[i]))), 1e-6)
            noise = _crop(self._held_noise.corpus.clip(self._held_noise.draw(rng)), length, rng)
            snr_db = -5.0 + 20.0 * i / max(count - 1, 1)
            noisy[i] = clean[i] + noise * noise_gain(clean[i], noise, snr_db=snr_db)
        return noisy, clean

    def _speech_segment(self, length: int, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.config.speech_speed_chance:
            return _speech_segment(self._speech, length, rng)
        # Other heights of voice, from children to giants, and other paces.
        speed = rng.uniform(0.88, 1.15)
        return _at_speed(_speech_segment(self._speech, int(length * speed) + 1, rng), speed, length)

    def _noise_segment(self, length: int, rng: np.random.Generator) -> np.ndarray:
        config = self.config
        out = self._any_noise(length, rng)
        if rng.random() < config.second_noise_chance:
            # With a colour of its own, so that what is heard low says little about what is high.
            other = _coloured(self._any_noise(length, rng), config, rng)
            gain = _unit_gain(other) / _unit_gain(out) * 10 ** (rng.uniform(-12, 6) / 20)
            out = out + other * np.float32(gain)
        if rng.random() < config.swelling_chance:
            out = out * _swelling(length, rng)
        return out

    def _any_noise(self, length: int, rng: np.random.Generator) -> np.ndarray:
        config = self.config
        kind = rng.random()
        if kind < config.made_noise_chance:
            make = _made_noise if rng.random() < 0.5 else _struck_noise
            return make(length, rng)
        if kind < config.made_noise_chance + config.babble_chance:
            return self._babble(length, rng)
        return self._recorded_noise(length, rng)

    def _babble(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Two to twelve talkers, half the time in a room like that of a restaurant."""
        out = np.zeros(length, np.float32)
        for _ in range(int(rng.integers(2, 13))):
            talker = _crop(self._speech.corpus.clip(self._speech.draw(rng)), length, rng)
            out += talker * _unit_gain(talker) * np.float32(rng.uniform(0.2, 1.0))
        if rng.random() < 0.5:
            room = np.fft.rfft(_room(length, rng))
            out = np.fft.irfft(np.fft.rfft(out) * room, n=length).astype(np.float32)
        return out

    def _recorded_noise(self, length: int, rng: np.random.Generator) -> np.ndarray:
        clip = self._noise.corpus.clip(self._noise.draw(rng))
        if rng.random() >= self.config.noise_speed_chance:
            return _crop(clip, length, rng)
        # A motor twice as large, a room of smaller children: kinds that were not recorded.
        speed = 2 ** rng.uniform(-1.0, 0.7)
        return _at_speed(_crop(clip, int(length * speed) + 1, rng), speed, length)


def noise_gain(speech: np.ndarray, noise: np.ndarray, *, snr_db: float) -> np.float32:
    """The factor on `noise` that makes speech / noise energy `snr_db`; 0 where either is silent."""
    power_speech = float(np.mean(np.square(speech, dtype=np.float64)))
    power_noise = float(np.mean(np.square(noise, dtype=np.float64)))
    if power_noise <= 1e-12 or power_speech <= 1e-12:
        return np.float32(0.0)
    return np.float32(np.sqrt(power_speech / power_noise / 10 ** (snr_db / 10)))


def _unit_gain(x: np.ndarray) -> float:
    return 1.0 / max(float(np.sqrt(np.mean(np.square(x)))), 1e-4)


def _crop(clip: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` samples from a random place, the clip repeated where it is too short."""
    if len(clip) > length:
        start = int(rng.integers(len(clip) - length + 1))
        piece = clip[start : start + length]
    else:
        repeats = -(-length // len(clip)) + 1
        start = int(rng.integers(len(clip)))
        piece = np.tile(clip, repeats)[start : start + length]
    return piece.astype(np.float32) / np.float32(32768)


def _speech_segment(
    source: _Source, length: int, rng: np.random.Generator, *, lead_chance: float = 0.25
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


def _at_speed(audio: np.ndarray, speed: float, length: int) -> np.ndarray:
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
        noise_tone = _noise_tone(frequency_hz, config, rng)
        if band is not None:
            tone = tone * band
            noise_tone = noise_tone * band
        spectrum[i] *= tone
        noise_spectrum[i] *= noise_tone
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


def _made_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """White to brown noise with or without slow swells, at times with a mains hum."""
    spectrum = np.fft.rfft(rng.standard_normal(length, np.float32))
    frequency = np.arange(len(spectrum), dtype=np.float32)
    frequency[0] = 1.0
    spectrum *= frequency ** np.float32(-rng.uniform(0.0, 1.0))
    out = np.fft.irfft(spectrum, n=length)
    out *= np.float32(0.05 * _unit_gain(out))
    time_s = np.arange(length, dtype=np.float32) / SAMPLE_RATE_HZ
    if rng.random() < 0.4:
        swell = np.sin(2 * np.pi * rng.uniform(0.2, 6) * time_s + rng.uniform(0, 6))
        out *= 1 + np.float32(0.9) * swell
    if rng.random() < 0.3:
        pitch_hz = rng.choice([50.0, 60.0, rng.uniform(80, 900)])
        for harmonic in range(1, 6):
            phase = 2 * np.pi * harmonic * pitch_hz * time_s + rng.uniform(0, 6)
            out += np.float32(rng.uniform(0, 0.08)) * np.sin(phase)
    return out.astype(np.float32)


def _struck_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """Bursts of decaying noise: at random, as of dishes, or at a beat, as of clocks and rotors."""
    if rng.random() < 0.5:
        per_second = 10 ** rng.uniform(-0.3, 1.5)
        places = np.flatnonzero(rng.random(length, np.float32) < per_second / SAMPLE_RATE_HZ)
    else:
        period = SAMPLE_RATE_HZ / 10 ** rng.uniform(0.0, 2.1)
        gaps = 1 + rng.uniform(0, 0.1) * rng.standard_normal(int(length / period) + 1)
        places = np.cumsum(period * gaps).astype(int)
        places = places[(places >= 0) & (places < length)]
    if not len(places):
        places = rng.integers(length, size=1)
    out = np.zeros(length, np.float32)
    time_s = np.arange(length, dtype=np.float32) / SAMPLE_RATE_HZ
    kind = rng.integers(2, size=len(places))
    strength = np.exp(rng.uniform(0, 0.8) * rng.standard_normal(len(places))).astype(np.float32)
    for i in range(2):
        struck = np.zeros(length, np.float32)
        struck[places[kind == i]] = strength[kind == i]
        decay_s = 10 ** rng.uniform(-2.7, -1.0)
        burst = rng.standard_normal(length, np.float32) * np.exp(-time_s / np.float32(decay_s))
        out += np.fft.irfft(np.fft.rfft(struck) * np.fft.rfft(burst), n=length)
    return out * np.float32(0.05 * _unit_gain(out))


def _split(corpus: Corpus, held_out_percent: float) -> tuple[list[int], list[int]]:
    """Clips to train on and clips to validate on, no group in both; at least one group is held out.

    A hash of the group's name decides, so that adding files moves no other file across.
    """
    names = sorted(set(corpus.groups), key=lambda g: hashlib.sha256(g.encode()).digest())
    count = max(1, round(len(names) * held_out_percent / 100))
    if count >= len(names):
        raise ValueError(f"at least 2 speakers and 2 kinds of noise are needed, found {len(names)}")
    held = set(names[:count])
    training = [i for i, group in enumerate(corpus.groups) if group not in held]
    return training, [i for i, group in enumerate(corpus.groups) if group in held]


def _load(folders: tuple[str, ...], cache: str, *, kind: str) -> Corpus:
    if not folders:
        raise ValueError(f"no folder of {kind} is given: name one in [data] or with --{kind}")
    if folders == ("synthetic",):
        return _made_corpus(kind)
    files = sorted(
        (file, Path(folder))
        for folder in folders
        for file in Path(folder).rglob("*")
        if file.suffix.lower() in _SUFFIXES
    )
    if not files:
        raise ValueError(f"no recordings ({', '.join(sorted(_SUFFIXES))}) in {', '.join(folders)}")
    key = hashlib.sha256(
        "\n".join(f"{file.resolve()} {file.stat().st_size}" for file, _ in files).encode()
    ).hexdigest()[:16]
    stored = Path(cache) / f"{kind}-{key}.npz"
    groups = tuple(_group(file, folder, kind) for file, folder in files)
    if cache and stored.exists():
        with np.load(stored) as arrays:
            return Corpus(arrays["samples"], arrays["starts"], groups)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        clips = list(pool.map(_read, [file for file, _ in files]))
    starts = np.concatenate(([0], np.cumsum([len(clip) for clip in clips])))
    corpus = Corpus(np.concatenate(clips), starts, groups)
    if cache:
        stored.parent.mkdir(parents=True, exist_ok=True)
        partial = stored.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, samples=corpus.samples, starts=corpus.starts)
        partial.replace(stored)
    return corpus


def _group(file: Path, folder: Path, kind: str) -> str:
    inside = file.relative_to(folder)
    if len(inside.parts) > 1:
        return inside.parts[0]
    if kind == "speech":
        return file.stem.split("_")[0]
    # The number stands after a separator: esc10_Rain-1-17367-A is of the kind esc10_Rain.
    return re.split(r"[-_.]\d", file.stem)[0] or file.stem


def _read(file: Path) -> np.ndarray:
    """A recording as int16 mono at 16 kHz, at least 0.25 s (silence is added)."""
    try:
        audio, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"cannot read {file}: {error}") from None
    mono = audio.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    out = np.zeros(max(len(mono), SAMPLE_RATE_HZ // 4), np.int16)
    out[: len(mono)] = np.clip(np.round(mono * 32767), -32767, 32767)
    return out


def _made_corpus(kind: str) -> Corpus:
    """Speech-like sounds or noises made in code, for tests and machines without data."""
    rng = np.random.default_rng(7 if kind == "speech" else 8)
    clips, groups = [], []
    for group in range(6):
        for _ in range(3):
            clip = _made_voice(group, rng) if kind == "speech" else _made_noise(48_000, rng)
            peak = max(float(np.abs(clip).max()), 1e-6)
            clips.append(np.round(clip / peak * 16_000).astype(np.int16))
            groups.append(f"{kind}{group}")
    starts = np.concatenate(([0], np.cumsum([len(clip) for clip in clips])))
    return Corpus(np.concatenate(clips), starts, tuple(groups))


def _made_voice(speaker: int, rng: np.random.Generator) -> np.ndarray:
    """Three seconds of syllables: gliding harmonics under moving formants, with hisses between."""
    length = 3 * SAMPLE_RATE_HZ
    out = np.zeros(length, np.float32)
    pitch_hz = 90.0 + 30.0 * speaker
    position = int(rng.integers(4000))
    while position < length - 6000:
        count = int(rng.integers(2400, 6000))
        time_s = np.arange(count) / SAMPLE_RATE_HZ
        glide = 2 * np.pi * pitch_hz * rng.uniform(0.8, 1.2)
        phase = glide * (time_s + rng.uniform(-1, 1) * time_s**2)
        formants_hz = rng.uniform((300, 900, 2200), (800, 2000, 3200))
        syllable = np.zeros(count)
        for harmonic in range(1, int(3800 / pitch_hz)):
            distance = (harmonic * pitch_hz - formants_hz) / 150
            weight = np.sum(np.array([1.0, 0.6, 0.3]) / (1 + distance**2)) + 0.01
            syllable += weight * np.sin(harmonic * phase)
        if rng.random() < 0.4:
            syllable = 0.3 * np.diff(rng.standard_normal(count + 1))
        out[position : position + count] += (syllable * np.hanning(count)).astype(np.float32)
        position += count + int(rng.integers(3000))
    return out
