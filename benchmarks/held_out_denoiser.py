"""What a speech denoiser's weights make of mixes of held-out speakers and noises.

28 mixes of 8 s, at -2.5 to 17.5 dB, each from a fresh state: PESQ-WB, STOI, ESTOI, SI-SDR in dB;
PESQ-WB of the same mixes in one stream that is never reset, a second of silence between them; how
far pauses fall, in dB. Of the half with less noise, SI-SDR with a rumble below 45 Hz on top, about
as loud as the voice. Of clean voices, 8 of them, PESQ-WB; of 6 each at 1.4 and 1.6 times their
speed how much is kept by projection, in dB, mean and worst. Mixes are drawn from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.figures import mean_of, shown
from benchmarks.speech import Metric
from train.speech.corpus import SAMPLE_RATE_HZ
from train.speech.data import (
    Source,
    SpeechData,
    SpeechMixer,
    at_speed,
    crop,
    noise_gain,
    speech_segment,
)
from train.speech.loss import audio_of, spectrum_of
from train.speech.network import SpeechDenoiser, SpeechNetwork

Audio = npt.NDArray[np.float32]

MIXES, SECONDS = 28, 8
LOWEST_SNR_DB, SNR_RANGE_DB = -2.5, 20.0
# Root mean square of clean speech: -26 dB of full scale.
LEVEL = 0.05
LATE_START_CHANCE = 0.3
FAST, FAST_VOICES = (1.4, 1.6), 6
CLEAN_VOICES = 8
RUMBLE_HZ, RUMBLE_DB_PER_OCTAVE = 45.0, 24.0
# A pause is 20 ms that are so far below the loud parts of the clean speech.
PAUSE_SAMPLES, PAUSE_DB = SAMPLE_RATE_HZ // 50, 40.0
# Fewer than so many pauses say nothing of a mix.
FEWEST_PAUSES = 11
# As many at a time: memory, and nothing else.
_BATCH = 7
# Least that is kept of a voice that is gone.
_GONE = 1e-4


@dataclass(frozen=True)
class HeldOut:
    """Fixed mixes, float32 (mixes, samples) at 16 kHz.

    Attributes:
        found: how many recordings of speech and noise there are, for each kind.
        clean, noisy: each mix's speech, and the mix.
        rumbling: the later half of the mixes, those with less noise, with a rumble on top.
        fast: voices alone, first those of the lower of the speeds.
    """

    found: Mapping[str, Any]
    clean: Audio
    noisy: Audio
    rumbling: Audio
    fast: Audio


def read(data: SpeechData) -> HeldOut:
    """Mixes of what is held out of data. Raises ValueError if there is no speech or no noise."""
    mixer = SpeechMixer(data)
    speech, noise, samples = mixer.held_speech, mixer.held_noise, SECONDS * SAMPLE_RATE_HZ
    rng = np.random.default_rng(77)
    clean = _leveled(
        [speech_segment(speech, samples, rng, lead_chance=LATE_START_CHANCE) for _ in range(MIXES)]
    )
    noisy = clean.copy()
    for i in range(MIXES):
        disturbing = crop(noise.corpus.clip(noise.draw(rng)), samples, rng)
        snr_db = LOWEST_SNR_DB + SNR_RANGE_DB * i / (MIXES - 1)
        noisy[i] += disturbing * noise_gain(clean[i], disturbing, snr_db=snr_db)
    fast = _leveled(
        [_fast(speech, speed, samples, rng) for speed in FAST for _ in range(FAST_VOICES)]
    )
    return HeldOut(mixer.summary(), clean, noisy, _rumbling(clean, noisy), fast)


def _leveled(voices: list[Audio]) -> Audio:
    out = np.stack(voices)
    out *= LEVEL / np.maximum(np.sqrt(np.mean(out**2, axis=1, keepdims=True)), 1e-6)
    return out


def _fast(speech: Source, speed: float, samples: int, rng: np.random.Generator) -> Audio:
    return at_speed(speech_segment(speech, int(samples * speed) + 1, rng), speed, samples)


def _rumbling(clean: Audio, noisy: Audio) -> Audio:
    """The later half of the mixes with noise below 45 Hz, -3 to 3 dB from the voice."""
    rng = np.random.default_rng(3)
    samples = clean.shape[1]
    frequency_hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    octaves = np.log2(np.maximum(frequency_hz / RUMBLE_HZ, 1))
    shape = 10 ** (-RUMBLE_DB_PER_OCTAVE * octaves / 20)
    out = noisy[MIXES // 2 :].copy()
    for i in range(MIXES // 2, MIXES):
        real, imaginary = (rng.standard_normal(len(shape)) for _ in range(2))
        rumble = np.fft.irfft(shape * (real + 1j * imaginary), n=samples)
        as_loud = np.sqrt(np.mean(clean[i] ** 2) / np.mean(rumble**2))
        out[i - MIXES // 2] += (rumble * as_loud * 10 ** ((3 - i % 7) / 10)).astype(np.float32)
    return out


def network(config: SpeechNetwork, weights: dict[str, torch.Tensor]) -> SpeechDenoiser:
    """The denoiser with a checkpoint's averaged weights."""
    made = SpeechDenoiser(config)
    made.load_state_dict(weights)
    return made.eval()


@torch.no_grad()
def denoised(denoiser: SpeechDenoiser, noisy: Audio) -> Audio:
    """What a network makes of rows of audio, each from a fresh state, without its delay."""
    hop, samples = denoiser.config.hop_samples, noisy.shape[1]
    padded = np.pad(noisy, ((0, 0), (hop, hop + -samples % hop)))
    window = denoiser.config.window_samples
    out = []
    for some in torch.split(torch.from_numpy(padded), _BATCH):
        spectrum = spectrum_of(some, window_samples=window, hop_samples=hop)
        out.append(audio_of(denoiser(spectrum), window_samples=window).numpy())
    return np.concatenate(out)[:, hop : hop + samples]


def judged(
    denoiser: SpeechDenoiser, held_out: HeldOut, metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    """Means over the mixes, and a row for each of them."""
    clean, noisy = held_out.clean, held_out.noisy
    out = denoised(denoiser, noisy)
    streamed = _streamed(denoiser, noisy)
    rows = []
    for i in range(len(clean)):
        row = {key: metric(clean[i], out[i]) for key, metric in metrics.items()}
        row["stream_pesq"] = metrics["pesq"](clean[i], streamed[i])
        row["pauses_db"] = pauses_db(clean[i], noisy[i], out[i])
        rows.append(row)
    means = {key: mean_of(row[key] for row in rows) for key in rows[0]}
    late = clean[len(clean) - len(held_out.rumbling) :]
    heard = denoised(denoiser, held_out.rumbling)
    means["rumble_si_sdr_db"] = mean_of(map(metrics["si_sdr_db"], late, heard))
    voices = clean[:CLEAN_VOICES]
    means["clean_pesq"] = mean_of(map(metrics["pesq"], voices, denoised(denoiser, voices)))
    kept = [*map(kept_db, held_out.fast, denoised(denoiser, held_out.fast))]
    for speed, some in zip(FAST, np.split(np.array(kept), len(FAST)), strict=True):
        means[f"kept_{speed:g}_db"] = mean_of(some)
        means[f"kept_{speed:g}_worst_db"] = round(float(some.min()), 4)
    told = [{key: mean_of([value]) for key, value in row.items()} for row in rows]
    return {"means": means, "mixes": told}


def _streamed(denoiser: SpeechDenoiser, noisy: Audio) -> Audio:
    """The mixes denoised in one stream without a reset, a second of silence after each."""
    count, samples = noisy.shape
    order = np.random.default_rng(1).permutation(count)
    apart = np.pad(noisy[order], ((0, 0), (0, SAMPLE_RATE_HZ)))
    out = np.empty_like(noisy)
    out[order] = denoised(denoiser, apart.reshape(1, -1)).reshape(apart.shape)[:, :samples]
    return out


def pauses_db(clean: Audio, noisy: Audio, out: Audio) -> float:
    """How loud the output is against the mix where the speech pauses, in dB; NaN where it hardly
    does. All are (samples,)."""
    frames = len(clean) // PAUSE_SAMPLES
    powers = [
        np.square(audio[: frames * PAUSE_SAMPLES].reshape(frames, -1)).mean(1)
        for audio in (clean, noisy, out)
    ]
    level_db = 10 * np.log10(powers[0] + 1e-12)
    pause = level_db < np.percentile(level_db, 95) - PAUSE_DB
    if pause.sum() < FEWEST_PAUSES:
        return float("nan")
    before, after = powers[1][pause].mean(), powers[2][pause].mean()
    return float(10 * np.log10(after / before + 1e-12))


def kept_db(voice: Audio, out: Audio) -> float:
    """How much of a voice is in the output by projection, in dB; above 0 where it is louder."""
    share = float(out @ voice) / float(voice @ voice)
    return float(20 * np.log10(max(share, _GONE)))


def line(means: Mapping[str, float | None]) -> str:
    """The means on a line."""
    told = {
        key: shown(value, 3 if "pesq" in key else 4 if "stoi" in key else 2)
        for key, value in means.items()
    }
    kept = ", ".join(
        f"{speed:g}x {told[f'kept_{speed:g}_db']} worst {told[f'kept_{speed:g}_worst_db']}"
        for speed in FAST
    )
    return (
        f"PESQ {told['pesq']} STOI {told['stoi']} ESTOI {told['estoi']} "
        f"SI-SDR {told['si_sdr_db']} dB, in one stream PESQ {told['stream_pesq']}, "
        f"pauses {told['pauses_db']} dB, with a rumble SI-SDR {told['rumble_si_sdr_db']} dB, "
        f"clean PESQ {told['clean_pesq']}, kept at {kept} dB"
    )
