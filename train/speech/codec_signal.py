"""What a speech codec hears and what it speaks with: frames, pitch, pulses. No weights.

`edgeae.signal.speech_signal`, behind the wall, does the same in numpy; a test of the exporter holds
both together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

__all__ = [
    "BINS",
    "BRIDGED_FRAMES",
    "CANDIDATES",
    "FINE",
    "FINE_BINS",
    "FRAME_SAMPLES",
    "HEARD",
    "HOP_SAMPLES",
    "SAMPLE_RATE_HZ",
    "UNIT_FLOOR",
    "WINDOW_SAMPLES",
    "bridged",
    "fine_structure",
    "heard",
    "held",
    "pitch_hz",
    "pulses",
    "tracked",
]

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES, HOP_SAMPLES, WINDOW_SAMPLES = 320, 160, 320
BINS = WINDOW_SAMPLES // 2 + 1
# A longer window tells harmonics apart, of which those up to 4 kHz are heard.
LONG_SAMPLES, LONG_BINS = 512, 128
# Powers of two short windows and of the long one.
HEARD = 2 * BINS + LONG_BINS
# Below 1200 Hz, where an ear, and PESQ, tell harmonics apart, what lies in a bin is coded too: of
# two windows real and imaginary parts, of about 1 in bins around.
FINE_BINS = 24
FINE = 4 * FINE_BINS
_FINE_FLOOR = 1e-5
# Where pulses have hardly anything, 30 dB under their power, their phases say nothing.
UNIT_FLOOR = 1e-3
# Pitches: 70 to 543 Hz in 43 steps an octave, 1.6 % each.
CANDIDATES, LOWEST_HZ, STEPS_PER_OCTAVE = 128, 70.0, 43.0
# The longest gap that is filled from what is on both sides of it.
BRIDGED_FRAMES = 6
# Powers to this exponent make a correlation whose peaks formants move little.
_FLATTENING = 0.4
# Lags in half samples.
_LAGS = 2 * SAMPLE_RATE_HZ
# Correlation that the shortest lag counts more than the longest, against octaves too low; that a
# pitch like the one before counts more, and how far away that ends; and below which nothing is
# periodic and the pitch stays.
_SHORT_BONUS, _NEAR_BONUS, _NEAR_STEPS, _LEAST = 0.1, 0.15, 12.0, 0.3
_FLOOR = 1e-7
# Pulses have harmonics up to here.
_HIGHEST_HZ = 7800.0


def pitch_hz(index: torch.Tensor) -> torch.Tensor:
    """The pitch in Hz of indices 0 to 127, float64 of their shape."""
    return LOWEST_HZ * 2 ** (index.double() / STEPS_PER_OCTAVE)


def heard(audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Powers (N, T, HEARD) and correlations (N, T, CANDIDATES) of the frames of audio.

    Args:
        audio: float32 (N, 320 * T) in [-1, 1]; silence came before.
    """
    short = F.pad(audio, (HOP_SAMPLES, 0)).unfold(1, WINDOW_SAMPLES, HOP_SAMPLES)
    power = _power(short, WINDOW_SAMPLES).unflatten(1, (-1, 2)).flatten(2)
    long = F.pad(audio, (LONG_SAMPLES - FRAME_SAMPLES, 0)).unfold(1, LONG_SAMPLES, FRAME_SAMPLES)
    fine = _power(long, 2 * LONG_SAMPLES)
    powers = torch.cat([power, fine[..., : 2 * LONG_BINS : 2]], dim=-1)
    flat = (fine + _FLOOR) ** _FLATTENING
    lags = torch.fft.irfft(flat, n=4 * LONG_SAMPLES)
    place = _LAGS / pitch_hz(torch.arange(CANDIDATES, device=audio.device))
    low = place.long()
    part = (place - low).to(audio.dtype)
    found = torch.lerp(lags[..., low], lags[..., low + 1], part)
    return powers, found / lags[..., :1] / (1 - place / (2 * LONG_SAMPLES)).to(audio.dtype)


def _power(frames: torch.Tensor, size: int) -> torch.Tensor:
    window = torch.hann_window(frames.shape[-1], dtype=frames.dtype, device=frames.device).sqrt()
    return torch.view_as_real(torch.fft.rfft(frames * window, n=size)).square().sum(-1)


def tracked(correlation: torch.Tensor) -> torch.Tensor:
    """Indices of pitches, int64 (N, T), of correlations (N, T, CANDIDATES), each by those before.

    The first is near the middle, and what is not periodic keeps the pitch before it, which costs
    next to nothing to say.
    """
    device, time = correlation.device, correlation.shape[1]
    index = torch.arange(CANDIDATES, device=device)
    scores = correlation + _SHORT_BONUS / CANDIDATES * index
    # From every pitch that may have come before, where each frame leads to: the best of all, or of
    # those that are near and so count more.
    reach = math.ceil(_NEAR_STEPS) - 1
    offset = torch.arange(-reach, reach + 1, device=device)
    bonus = _NEAR_BONUS * (1 - offset.abs() / _NEAR_STEPS)
    around = F.pad(scores, (reach, reach), value=-math.inf).unfold(2, 2 * reach + 1, 1)
    near, place = (around + bonus).max(dim=-1)
    best, choice = scores.max(dim=-1, keepdim=True)
    leads = torch.where(near > best, index + offset[place], choice)
    sure = correlation.gather(2, leads) >= _LEAST
    leads = torch.where(sure, leads, index)
    # Two of them after each other are one, so that all are known in as many rounds as log2(time).
    span = 1
    while span < time:
        later = leads[:, span:].gather(2, leads[:, :-span])
        leads = torch.cat([leads[:, :span], later], dim=1)
        span *= 2
    return leads[:, :, CANDIDATES // 2]


def fine_structure(audio: torch.Tensor, tones: torch.Tensor) -> torch.Tensor:
    """What lies in the lowest bins of each frame, by the phases of pulses, (N, T, FINE).

    Spectra of the two windows that the decoder speaks at a frame, which are those of the frame
    before, turned back by the phases of its pulses and divided by the root mean square of the bins
    around: harmonics stand still, and everything is of the order of 1.

    Args:
        audio: float32 (N, 320 * T) in [-1, 1]; silence came before.
        tones: spectra of the pulses, (N, T, 2, 2, BINS).
    """
    frames = F.pad(audio, (FRAME_SAMPLES + HOP_SAMPLES, 0)).unfold(1, WINDOW_SAMPLES, HOP_SAMPLES)
    window = torch.hann_window(WINDOW_SAMPLES, dtype=audio.dtype, device=audio.device).sqrt()
    spectra = torch.fft.rfft(frames[:, : 2 * tones.shape[1]] * window)[..., :FINE_BINS]
    spectra = spectra.unflatten(1, (-1, 2))
    power = torch.view_as_real(spectra).square().sum(-1).mean(2)
    around = F.avg_pool1d(power, 5, stride=1, padding=2)[:, :, None]
    re, im = tones[..., :FINE_BINS].unbind(-2)
    turned = spectra * torch.complex(re, -im) * torch.rsqrt(re.square() + im.square() + UNIT_FLOOR)
    turned = turned * torch.rsqrt(around + _FINE_FLOOR)
    return torch.stack((turned.real, turned.imag), dim=-2).flatten(2)


def held(index: torch.Tensor, lost: torch.Tensor) -> torch.Tensor:
    """Indices (N, T) as who loses the frames marked in `lost` (N, T) has them: the last that came.

    Before the first that came it is the one near the middle.
    """
    place = torch.arange(1, index.shape[1] + 1, device=index.device)
    last = (place * ~lost).cummax(dim=1).values
    first = torch.full_like(index[:, :1], CANDIDATES // 2)
    return torch.cat([first, index], dim=1).gather(1, last)


def bridged(
    latents: torch.Tensor, index: torch.Tensor, lost: torch.Tensor, late: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, indices and losses as who fills short gaps late has them: where the frame behind is
    there, they lead from the frame before to it, and nothing is lost.

    Args:
        latents: (T, N, latents).
        index: (N, T).
        lost: bool (N, T), frames that do not arrive.
        late: bool (N,), who waits for the frame behind.
    """
    frames = index.shape[1]
    place = torch.arange(frames, device=index.device).expand_as(index)
    before = torch.where(lost, -1, place).cummax(dim=1).values
    behind = torch.where(lost, frames, place).flip(1).cummin(dim=1).values.flip(1)
    gap = behind - before
    fill = lost & late[:, None] & (before >= 0) & (behind < frames) & (gap <= BRIDGED_FRAMES + 1)
    before, behind = (torch.where(fill, at, place) for at in (before, behind))
    share = (place - before) / gap.clamp_min(1)
    left, right = (index.gather(1, at) for at in (before, behind))
    index = torch.where(fill, (left + share * (right - left)).round().to(index.dtype), index)
    left, right = (latents.gather(0, at.T[..., None].expand_as(latents)) for at in (before, behind))
    weight = share.T[..., None].to(latents.dtype)
    latents = torch.where(fill.T[..., None], left + weight * (right - left), latents)
    return latents, index, lost & ~fill


def pulses(index: torch.Tensor) -> torch.Tensor:
    """A pulse train of power 1, float32 (N, 320 * T), of pitches (N, T): cosines of all harmonics
    in phase. Within a frame the pitch goes evenly from that of the frame before to its own."""
    hz = pitch_hz(F.pad(index, (1, 0), value=CANDIDATES // 2))
    share = torch.arange(1, FRAME_SAMPLES + 1, device=index.device) / FRAME_SAMPLES
    course = torch.lerp(hz[:, :-1, None], hz[:, 1:, None], share.double())
    turns = (course.flatten(1) / SAMPLE_RATE_HZ).cumsum(1)
    # From -1/2 to 1/2, where float32 is enough.
    turns = (turns - turns.round()).float().unflatten(1, (-1, FRAME_SAMPLES))
    count = (_HIGHEST_HZ / torch.maximum(hz[:, :-1], hz[:, 1:])).floor().float()[..., None]
    # The sum of cos(k x), k = 1 to n, is sin((n + 1/2) x) / (2 sin(x / 2)) - 1/2.
    below = 2 * torch.sin(math.pi * turns)
    near = below.abs() < 1e-4
    above = torch.sin((2 * count + 1) * math.pi * turns)
    summed = torch.where(near, count, above / torch.where(near, 1.0, below) - 0.5)
    return (summed * torch.sqrt(2 / count)).flatten(1)
