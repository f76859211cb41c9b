"""What a speech codec's weights make of recordings of held-out speakers.

16 recordings of 8 s at -26 dB of full scale, at qualities 4.125 and 7.25: bits a second by the
network's own estimate, without headers; PESQ-WB, STOI, ESTOI; PESQ-WB with 10 % of the frames lost
in bursts of 3 on average, which are filled at once, and late, when the next frame is there. At the
last quality, how loud bands of the long-term spectrum are against the original, in dB: PESQ
forgives the color of a whole recording, and may be won by it; so also PESQ-WB after the bands were
made as loud as the original's. All is drawn from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.figures import mean_of, shown
from benchmarks.losses import Lost, gilbert
from benchmarks.speech import Metric
from train.speech.codec_data import CodecSpeech, SpeechPieces
from train.speech.codec_network import DELAY_SAMPLES, SpeechCodec, SpeechCodecNetwork
from train.speech.codec_signal import FRAME_SAMPLES, SAMPLE_RATE_HZ
from train.speech.data import speech_segment

Audio = npt.NDArray[np.float32]

RECORDINGS, SECONDS = 16, 8
QUALITIES = (4.125, 7.25)
# Root mean square of the speech: -26 dB of full scale.
LEVEL = 0.05
LOST_SHARE, BURST_FRAMES = 0.1, 3
BANDS_HZ = (50, 100, 150, 200, 300, 400, 600, 1000, 2000, 4000, 6000, 8000)
# The codec's start from silence says nothing of it.
_FIRST_SAMPLES = 2 * FRAME_SAMPLES


@dataclass(frozen=True)
class HeldOut:
    """Fixed recordings, float32 (recordings, samples) at 16 kHz, and which of their frames are
    lost, bool (recordings, frames); `found` says how many recordings of speech there are."""

    found: Mapping[str, Any]
    audio: Audio
    lost: Lost


def read(data: CodecSpeech) -> HeldOut:
    """Recordings of what is held out of data. Raises ValueError if there is no speech."""
    pieces = SpeechPieces(data)
    rng = np.random.default_rng(5)
    samples = SECONDS * SAMPLE_RATE_HZ
    audio = np.stack(
        [speech_segment(pieces.held_out, samples, rng, lead_chance=0.0) for _ in range(RECORDINGS)]
    )
    audio *= LEVEL / np.maximum(np.sqrt((audio**2).mean(axis=1, keepdims=True)), 1e-6)
    frames, rng = samples // FRAME_SAMPLES, np.random.default_rng(9)
    lost = np.stack(
        [gilbert(frames, LOST_SHARE, BURST_FRAMES, rng, opens_well=True) for _ in range(RECORDINGS)]
    )
    return HeldOut({"speech": pieces.summary()["speech"]}, audio, lost)


def network(config: SpeechCodecNetwork, weights: dict[str, torch.Tensor]) -> SpeechCodec:
    """The codec with a checkpoint's averaged weights."""
    made = SpeechCodec(config)
    made.load_state_dict(weights)
    return made.eval()


@torch.no_grad()
def judged(codec: SpeechCodec, held_out: HeldOut, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """For each quality the means over the recordings, and a row for each of them."""
    audio, lost = torch.from_numpy(held_out.audio), torch.from_numpy(held_out.lost)
    late = torch.ones(len(audio), dtype=torch.bool)
    original = held_out.audio[:, _FIRST_SAMPLES:-DELAY_SAMPLES]
    means, rows = [], []
    for quality in QUALITIES:
        # Qualities 1 to 9 are levels 0 to 1.
        level = torch.full((len(audio),), (quality - 1) / 8)
        torch.manual_seed(0)
        restored, bits = codec(audio, level)
        lossy, _ = codec(audio, level, lost)
        filled, _ = codec(audio, level, lost, late)
        whole, broken, mended = (_aligned(each) for each in (restored, lossy, filled))
        found = [
            {
                "quality": quality,
                "bit_per_s": float(bits[i]) * SAMPLE_RATE_HZ / FRAME_SAMPLES,
                **{key: metrics[key](original[i], whole[i]) for key in ("pesq", "stoi", "estoi")},
                "lossy_pesq": metrics["pesq"](original[i], broken[i]),
                "late_pesq": metrics["pesq"](original[i], mended[i]),
            }
            for i in range(len(original))
        ]
        means.append({key: mean_of(row[key] for row in found) for key in found[0]})
        rows += [{key: mean_of([value]) for key, value in row.items()} for row in found]
    bands = bands_db(original, whole)
    pairs = zip(original, flattened(whole, bands), strict=True)
    flat = mean_of(metrics["pesq"](before, after) for before, after in pairs)
    return {
        "means": {"qualities": means, "bands_db": bands, "flat_pesq": flat},
        "recordings": rows,
    }


def _aligned(restored: torch.Tensor) -> Audio:
    """What is restored, in time with the original less what is left out of it."""
    found: Audio = restored[:, DELAY_SAMPLES + _FIRST_SAMPLES :].numpy()
    return found


def bands_db(original: Audio, restored: Audio) -> dict[str, float]:
    """How much louder bands, by their edges in Hz, are in the restored recordings together, in dB.

    Both are (recordings, samples).
    """
    powers = [
        np.square(np.abs(np.fft.rfft(audio, axis=1))).sum(0) for audio in (original, restored)
    ]
    frequency_hz = np.fft.rfftfreq(original.shape[1], 1 / SAMPLE_RATE_HZ)
    out = {}
    for low, high in zip(BANDS_HZ, BANDS_HZ[1:], strict=False):
        inside = (frequency_hz >= low) & (frequency_hz < high)
        before, after = (float(power[inside].sum()) for power in powers)
        out[f"{low}-{high}"] = round(10 * float(np.log10(after / before)), 2)
    return out


def flattened(audio: Audio, bands: Mapping[str, float]) -> Audio:
    """Audio (recordings, samples) with bands made softer by what `bands_db` says, without delay; in
    between by what the middles of the nearest two say."""
    levels_db = list(bands.values())
    middles_hz = [(low * high) ** 0.5 for low, high in zip(BANDS_HZ, BANDS_HZ[1:], strict=False)]
    frequency_hz = np.fft.rfftfreq(audio.shape[1], 1 / SAMPLE_RATE_HZ)
    octaves, middles = np.log2(np.maximum(frequency_hz, 1)), np.log2(middles_hz)
    gain = 10 ** (-np.interp(octaves, middles, levels_db) / 20)
    flat = np.fft.irfft(np.fft.rfft(audio, axis=1) * gain, n=audio.shape[1], axis=1)
    return flat.astype(np.float32)


def line(means: Mapping[str, Any]) -> str:
    """The means on a line."""
    told = [
        f"{shown(row['bit_per_s'], 0)} bit/s: PESQ {shown(row['pesq'], 3)} "
        f"STOI {shown(row['stoi'], 4)}, with losses PESQ {shown(row['lossy_pesq'], 3)} "
        f"and filled late {shown(row['late_pesq'], 3)}"
        for row in means["qualities"]
    ]
    bands = ", ".join(f"{band} {level_db:+.1f}" for band, level_db in means["bands_db"].items())
    flat = f"with a flat color PESQ {shown(means['flat_pesq'], 3)}"
    return "; ".join([*told, f"Hz against the original in dB: {bands}", flat])
