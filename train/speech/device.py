"""Mixing on a device: whole batches at once, so that no step waits for Python.

What is drawn is what `SpeechMixer` draws, from the same settings, with three differences: clips of
a speaker follow each other in a fixed order, resampling is by cubic interpolation, and so many
items of a batch as chance says have noises of each kind, where `SpeechMixer` asks item by item.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from train.speech.corpus import SAMPLE_RATE_HZ
from train.speech.formants import shifted_formants
from train.speech.onsets import draw_courses, draw_scenes

if TYPE_CHECKING:
    from train.speech.data import Source, SpeechMixer

__all__ = ["DeviceMixer", "Tape"]

_KNOTS_HZ = (0.0, 150.0, 400.0, 1000.0, 2500.0, 5000.0, 8000.0)
_MOST_TALKERS = 12
_LONGEST_PAUSE = SAMPLE_RATE_HZ // 2
_LARGEST = 32768.0


class Tape:
    """Stretches of recordings in one int16 tensor on a device, drawn by chance."""

    def __init__(
        self, stretches: list[np.ndarray], weights: np.ndarray, device: torch.device
    ) -> None:
        self._samples = torch.from_numpy(np.concatenate(stretches)).to(device)
        lengths = np.array([len(stretch) for stretch in stretches])
        self._lengths = torch.from_numpy(lengths).to(device)
        self._starts = torch.from_numpy(np.cumsum(lengths) - lengths).to(device)
        self._edges = torch.from_numpy(np.cumsum(weights / weights.sum())).to(device)

    def read(self, drawn: torch.Tensor, length: int, speed: torch.Tensor) -> torch.Tensor:
        """Segments (size, length), played `speed` (size,) times as fast; a stretch that is too
        short is repeated.

        Args:
            drawn: even chances on the device, float64 (2, size): of the stretch, and of the place
                in it.
            length: in samples.
            speed: float64 (size,).
        """
        chosen = torch.searchsorted(self._edges, drawn[0], right=True)
        chosen = chosen.clamp_max(len(self._edges) - 1)
        starts, lengths = self._starts[chosen][:, None], self._lengths[chosen][:, None]
        first = (drawn[1][:, None] * lengths).floor()
        # In double precision: a place in hours of samples has more digits than a float32.
        place = first + speed[:, None] * torch.arange(length, device=drawn.device)
        whole = place.floor()
        part = (place - whole).float()
        taps = [self._samples[starts + (whole.long() + i) % lengths].float() for i in range(-1, 3)]
        return _cubic(taps, part) / _LARGEST


def _sent(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on a device, without waiting for what that has still to do."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _cubic(taps: list[torch.Tensor], part: torch.Tensor) -> torch.Tensor:
    """Between the middle two of four samples, by Catmull and Rom's spline (1974)."""
    a, b, c, d = taps
    cubic, square, slope = 3 * (b - c) + d - a, 2 * a - 5 * b + 4 * c - d, c - a
    return b + 0.5 * part * (slope + part * (square + part * cubic))


def _speaker_stretches(source: Source) -> tuple[list[np.ndarray], np.ndarray]:
    """Every speaker's clips in a row, with pauses between, and how often to draw each speaker."""
    rng = np.random.default_rng(11)
    chances = np.diff(source.edges, prepend=0.0)
    stretches, weights = [], []
    for places in source.members.values():
        parts = []
        for index in source.indices[places]:
            parts += [source.corpus.clip(index)]
            parts += [np.zeros(rng.integers(_LONGEST_PAUSE), np.int16)]
        stretches.append(np.concatenate(parts))
        weights.append(chances[places].sum())
    return stretches, np.array(weights)


class DeviceMixer:
    """Endless batches of noisy speech with their clean targets, made on a device."""

    def __init__(self, mixer: SpeechMixer, device: torch.device) -> None:
        self.config, self.device = mixer.config, device
        self._speech = Tape(*_speaker_stretches(mixer.speech), device)
        clips = [mixer.noise.corpus.clip(index) for index in mixer.noise.indices]
        self._noise = Tape(clips, np.diff(mixer.noise.edges, prepend=0.0), device)
        length = self.config.segment_samples
        self._frequency_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, length // 2 + 1, device=device)
        self._interpolation = _interpolation(self._frequency_hz)
        self._generator = torch.Generator(device)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`size` noisy segments and their clean targets, float32 (size, segment_samples) each, on
        the device; drawn from `rng` alone."""
        config = self.config
        self._generator.manual_seed(int(rng.integers(2**62)))
        speech = self._speech_segments(rng, size)
        noise = self._noise_segments(rng, size)
        clean, wet, noise = self._filtered(rng, speech, noise)
        kind = self._draw(rng.random(size))
        alone = kind < config.noise_only_chance
        untouched = ~alone & (kind < config.noise_only_chance + config.speech_only_chance)
        snr_db = self._draw(rng.uniform(config.snr_db[0], config.snr_db[1], size))
        power_speech, power_noise = (x.square().mean(1) for x in (wet, noise))
        gain = (power_speech / power_noise.clamp_min(1e-12) / 10 ** (snr_db / 10)).sqrt()
        silent = (power_speech <= 1e-12) | (power_noise <= 1e-12)
        gain = torch.where(silent | untouched, 0.0, gain)
        gain = torch.where(alone, 1.0, gain)
        heard = (~alone).float()[:, None]
        clean = clean * heard
        disturbing = noise * gain[:, None]
        noisy = wet * heard + disturbing
        level = 10 ** (self._draw(rng.uniform(config.level_db[0], config.level_db[1], size)) / 20)
        scale = (level / noisy.square().mean(1).sqrt().clamp_min(1e-6))[:, None]
        noisy, clean = noisy * scale, clean * scale
        self._time(rng, noisy, clean, wet * heard * scale, disturbing * scale)
        clipped = self._draw(rng.random(size)) < config.clipping_chance
        share = self._draw(rng.uniform(0.2, 0.8, size))
        ceiling = noisy.abs().amax(1) * torch.where(clipped, share, 1.0)
        noisy = noisy.clamp(-ceiling[:, None], ceiling[:, None])
        if config.scene_chance:
            noisy, clean = self._other_scenes(rng, noisy, clean)
        return noisy, clean

    def _time(
        self,
        rng: np.random.Generator,
        noisy: torch.Tensor,
        clean: torch.Tensor,
        speech: torch.Tensor,
        noise: torch.Tensor,
    ) -> None:
        """Gives the noise of some mixes a course, in place (`train.speech.onsets`)."""
        if not self.config.onset_chance:
            return
        some = self._some(rng, len(noisy), self.config.onset_chance)
        if not len(some):
            return
        length = noisy.shape[1]
        courses = draw_courses(len(some), length, rng)
        time = torch.arange(length, device=self.device)
        levels, moments, edges = (
            self._draw(x) for x in (courses.levels, courses.moments, courses.edges)
        )
        noise_gain = levels[:, :1].expand(-1, length)
        for i in range(moments.shape[1]):
            phase = (time - moments[:, i, None] + 1) / edges[:, i, None]
            rise = torch.sin(phase.clamp(0, 1) * (math.pi / 2)).square()
            noise_gain = noise_gain + (levels[:, i + 1] - levels[:, i])[:, None] * rise
        noise_gain = noise_gain.clamp(0, 1)
        muted = self._draw(courses.muted)[:, None]
        speech_gain = torch.where((muted > 0) & (noise_gain <= 0), 0.0, 1.0)
        bins = torch.arange(length // 2 + 1, device=self.device).clamp_min(1)
        spectrum = torch.fft.rfft(self._white(len(some), length))
        spectrum = spectrum * bins ** -self._draw(courses.room_tilt)[:, None]
        room = torch.fft.irfft(spectrum, n=length)
        room = room * (self._draw(courses.room_level) * _unit_gain(room))[:, None]
        mix = speech[some] * speech_gain + noise[some] * noise_gain + room * (1 - noise_gain)
        noisy.index_copy_(0, some, mix)
        clean.index_copy_(0, some, clean[some] * speech_gain)

    def _other_scenes(
        self, rng: np.random.Generator, noisy: torch.Tensor, clean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`train.speech.onsets.change_scenes`, for all rows at once."""
        size, length = noisy.shape
        begins, gaps = draw_scenes(size, length, self.config.scene_chance, rng)
        chosen = np.array(sorted(begins), np.int64)
        if not len(chosen):
            return noisy, clean
        at = _sent(np.array([[begins[row]] for row in chosen]), self.device)
        gap = _sent(np.array([[gaps[row]] for row in chosen]), self.device)
        here, there = (_sent(rows, self.device) for rows in (chosen, (chosen + 1) % size))
        time = torch.arange(length, device=self.device)
        before, after = time < at - gap, time >= at
        source = (time - at).clamp_min(0)
        changed = []
        for x in (noisy, clean):
            other = x[there].gather(1, source) * after + x[here] * before
            changed.append(x.index_copy(0, here, other))
        return changed[0], changed[1]

    def _even(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """What `Tape.read` draws from."""
        return _sent(rng.random((2, size)), self.device)

    def _draw(self, values: np.ndarray) -> torch.Tensor:
        return _sent(values.astype(np.float32), self.device)

    def _some(self, rng: np.random.Generator, size: int, chance: float) -> torch.Tensor:
        """Numbers of some items of a batch, as many as chance says; it asks nothing of a GPU."""
        count = int(rng.binomial(size, chance))
        return _sent(rng.permutation(size)[:count], self.device)

    def _speeds(
        self, rng: np.random.Generator, size: int, chance: float, low: float, high: float
    ) -> torch.Tensor:
        """Speeds, 1 for most and otherwise 2 to a power between `low` and `high`."""
        speed = np.where(rng.random(size) < chance, 2 ** rng.uniform(low, high, size), 1.0)
        return _sent(speed, self.device)

    def _speech_segments(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        length = self.config.segment_samples
        chance = self.config.speech_speed_chance
        low, high = (math.log2(speed) for speed in self.config.speech_speeds)
        speed = self._speeds(rng, size, chance, low, high)
        speech = self._speech.read(self._even(rng, size), length, speed)
        some = self._some(rng, size, self.config.formant_chance)
        if len(some):
            lowest, highest = self.config.formant_shifts
            factor = self._draw(rng.uniform(lowest, highest, len(some)))
            speech = speech.index_copy(0, some, shifted_formants(speech[some], factor))
        # At times it begins late.
        late = np.where(rng.random(size) < 0.25, rng.integers(length // 2, size=size), 0)
        steps = torch.arange(length, device=self.device)
        return speech * (steps >= _sent(late, self.device)[:, None])

    def _noise_segments(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        config, length = self.config, self.config.segment_samples
        out = self._any_noise(rng, size)
        some = self._some(rng, size, config.second_noise_chance)
        if len(some):
            other = self._any_noise(rng, len(some))
            spectrum = torch.fft.rfft(other) * self._noise_tone(rng, len(some))
            other = torch.fft.irfft(spectrum, n=length)
            gain = 10 ** (self._draw(rng.uniform(-12, 6, len(some))) / 20)
            gain = gain * _unit_gain(other) / _unit_gain(out[some])
            out = out.index_add(0, some, other * gain[:, None])
        some = self._some(rng, size, config.swelling_chance)
        if len(some):
            knots = max(2, round(length / SAMPLE_RATE_HZ))
            gain_db = self._draw(rng.uniform(-12, 12, (len(some), 1, knots + 1)))
            curve = functional.interpolate(gain_db, length, mode="linear", align_corners=True)
            out = out.index_copy(0, some, out[some] * 10 ** (curve[:, 0] / 20))
        return out

    def _any_noise(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """Noises (size, segment_samples): recorded, made, struck, or babble."""
        config, length = self.config, self.config.segment_samples
        speed = self._speeds(rng, size, config.noise_speed_chance, -1.0, 0.7)
        out = self._noise.read(self._even(rng, size), length, speed)
        kinds = (0.5 * config.made_noise_chance, 0.5 * config.made_noise_chance)
        made, struck, babble, _ = np.split(
            rng.permutation(size),
            np.minimum(size, np.cumsum(rng.binomial(size, [*kinds, config.babble_chance]))),
        )
        for some, make in ((made, self._made), (struck, self._struck), (babble, self._babble)):
            if len(some):
                places = _sent(some, self.device)
                out = out.index_copy(0, places, make(rng, len(some)))
        return out

    def _white(self, size: int, length: int) -> torch.Tensor:
        return torch.randn(size, length, generator=self._generator, device=self.device)

    def _made(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """White to brown noise with or without slow swells, at times with a mains hum."""
        length = self.config.segment_samples
        bins = torch.arange(length // 2 + 1, device=self.device).clamp_min(1)
        spectrum = torch.fft.rfft(self._white(size, length))
        spectrum = spectrum * bins ** -self._draw(rng.uniform(0, 1, (size, 1)))
        out = torch.fft.irfft(spectrum, n=length)
        out = out * (0.05 * _unit_gain(out))[:, None]
        time_s = torch.arange(length, device=self.device) / SAMPLE_RATE_HZ
        rate_hz, phase = (self._draw(rng.uniform(0, top, (size, 1))) for top in (6, 6.28))
        depth = self._draw(np.where(rng.random((size, 1)) < 0.4, 0.9, 0.0))
        out = out * (1 + depth * torch.sin(2 * math.pi * (rate_hz + 0.2) * time_s + phase))
        hums = rng.random((size, 1)) < 0.3
        pitch = np.where(rng.random((size, 1)) < 0.67, rng.choice([50.0, 60.0], (size, 1)), 0.0)
        pitch_hz = self._draw(np.where(pitch > 0, pitch, rng.uniform(80, 900, (size, 1))))
        for harmonic in range(1, 6):
            gain = self._draw(np.where(hums, rng.uniform(0, 0.08, (size, 1)), 0.0))
            turn = self._draw(rng.uniform(0, 6.28, (size, 1)))
            out = out + gain * torch.sin(2 * math.pi * harmonic * pitch_hz * time_s + turn)
        return out

    def _struck(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """Bursts of decaying noise: at random, as of dishes, or at a beat, as of clocks."""
        length = self.config.segment_samples
        time_s = torch.arange(length, device=self.device) / SAMPLE_RATE_HZ
        rate_hz = self._draw(10 ** rng.uniform(-0.3, 1.5, (size, 1)))
        chance = torch.rand(size, length, generator=self._generator, device=self.device)
        random = (chance < rate_hz / SAMPLE_RATE_HZ).float()
        beats = rate_hz * time_s + self._draw(rng.random((size, 1)))
        regular = functional.pad((beats.floor().diff(dim=1) > 0).float(), (1, 0))
        struck = torch.where(self._draw(rng.random((size, 1))) < 0.5, random, regular)
        # One stroke at least.
        struck[:, 0] = 1.0
        decay_s = self._draw(10 ** rng.uniform(-2.7, -1.0, (size, 1)))
        burst = self._white(size, length) * torch.exp(-time_s / decay_s)
        out = torch.fft.irfft(torch.fft.rfft(struck) * torch.fft.rfft(burst), n=length)
        return out * (0.05 * _unit_gain(out))[:, None]

    def _babble(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """Two to twelve talkers, half the time in a room like that of a restaurant."""
        length = self.config.segment_samples
        count = size * _MOST_TALKERS
        even = torch.ones(count, dtype=torch.float64, device=self.device)
        talkers = self._speech.read(self._even(rng, count), length, even).view(
            size, _MOST_TALKERS, length
        )
        gain = rng.uniform(0.2, 1.0, (size, _MOST_TALKERS))
        gain = gain * (np.arange(_MOST_TALKERS) < rng.integers(2, 13, (size, 1)))
        out = (talkers * (self._draw(gain) * _unit_gain(talkers))[..., None]).sum(1)
        roomy = self._draw(rng.random((size, 1))) < 0.5
        wet = torch.fft.irfft(
            torch.fft.rfft(out) * torch.fft.rfft(self._rooms(rng, size)), n=length
        )
        return torch.where(roomy, wet, out)

    def _rooms(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """Impulse responses of made rooms (size, segment_samples): direct sound, decaying noise."""
        length = self.config.segment_samples
        time_s = torch.arange(length, device=self.device) / SAMPLE_RATE_HZ
        decay_s = self._draw(rng.uniform(0.15, 0.7, (size, 1)))
        first_s = self._draw(rng.uniform(0.002, 0.012, (size, 1)))
        # 60 dB down after decay_s.
        tail = self._white(size, length) * torch.exp(-6.908 / decay_s * time_s)
        tail = tail * ((time_s >= first_s) & (time_s < 0.6))
        direct = 10 ** (-self._draw(rng.uniform(-3, 12, (size, 1))) / 20)
        tail = tail * direct / tail.square().sum(1, keepdim=True).sqrt().clamp_min(1e-9)
        tail[:, 0] = 1.0
        return tail

    def _tone(self, rng: np.random.Generator, size: int, strength_db: float) -> torch.Tensor:
        """A smooth random gain over frequency, (size, bins)."""
        gain_db = rng.normal(0.0, strength_db / 2, (size, len(_KNOTS_HZ)))
        return self._draw(10 ** (gain_db / 20)) @ self._interpolation

    def _noise_tone(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """The same for noises, some of which rumble: 3 to 15 dB less with every octave."""
        tone = self._tone(rng, size, self.config.noise_equalize_db)
        corner_hz = self._draw(rng.uniform(80, 500, (size, 1)))
        octaves = (self._frequency_hz / corner_hz).clamp_min(1.0).log2()
        rumbles = rng.random((size, 1)) < self.config.rumble_chance
        slope_db = self._draw(np.where(rumbles, rng.uniform(3, 15, (size, 1)), 0.0))
        return tone * 10 ** (-slope_db * octaves / 20)

    def _subsonic(self, rng: np.random.Generator, noise_spectrum: torch.Tensor) -> torch.Tensor:
        """Spectra of noises below 20 to 90 Hz, of a tenth to a hundred times a noise's energy."""
        size = len(noise_spectrum)
        octaves = self._frequency_hz / self._draw(rng.uniform(20, 90, (size, 1)))
        slope_db = self._draw(rng.uniform(12, 36, (size, 1)))
        gain = 10 ** (-slope_db * octaves.clamp_min(1.0).log2() / 20)
        spectrum = gain * torch.fft.rfft(self._white(size, self.config.segment_samples))
        wanted = noise_spectrum.abs().square().sum(1, keepdim=True)
        wanted = wanted * self._draw(10 ** rng.uniform(-1, 2, (size, 1)))
        return spectrum * (wanted / spectrum.abs().square().sum(1, keepdim=True)).sqrt()

    def _filtered(
        self, rng: np.random.Generator, speech: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Clean target, speech as the microphone hears it, and noise, after filters and rooms."""
        config = self.config
        size, length = speech.shape
        low_hz, high_hz = (
            self._draw(rng.uniform(*ends, (size, 1))) for ends in ((0, 300), (3300, 4000))
        )
        band = ((self._frequency_hz > low_hz) & (self._frequency_hz < high_hz)).float()
        narrow = self._draw(rng.random((size, 1))) < config.narrow_band_chance
        band = torch.where(narrow, band, 1.0)
        spectrum = torch.fft.rfft(speech) * self._tone(rng, size, config.equalize_db) * band
        noise_spectrum = torch.fft.rfft(noise) * self._noise_tone(rng, size)
        some = self._some(rng, size, config.subsonic_chance)
        if len(some):
            deep = noise_spectrum[some] + self._subsonic(rng, noise_spectrum[some])
            noise_spectrum = noise_spectrum.index_copy(0, some, deep)
        noise_spectrum = noise_spectrum * band
        wet_spectrum = spectrum
        some = self._some(rng, size, config.reverberation_chance)
        if len(some):
            rooms = self._rooms(rng, len(some))
            wet_spectrum = spectrum.index_copy(0, some, spectrum[some] * torch.fft.rfft(rooms))
            rooms[:, int(config.early_ms * SAMPLE_RATE_HZ / 1000) :] = 0.0
            spectrum = spectrum.index_copy(0, some, spectrum[some] * torch.fft.rfft(rooms))
        clean, wet, noise = (
            torch.fft.irfft(x, n=length) for x in (spectrum, wet_spectrum, noise_spectrum)
        )
        return clean, wet, noise


def _unit_gain(x: torch.Tensor) -> torch.Tensor:
    return 1 / x.square().mean(-1).sqrt().clamp_min(1e-4)


def _interpolation(frequency_hz: torch.Tensor) -> torch.Tensor:
    """Weights (knots, bins) with which values at `_KNOTS_HZ` give those at every frequency."""
    knots = np.array(_KNOTS_HZ)
    rows = [np.interp(frequency_hz.cpu().numpy(), knots, row) for row in np.eye(len(knots))]
    return torch.from_numpy(np.stack(rows).astype(np.float32)).to(frequency_hz.device)
