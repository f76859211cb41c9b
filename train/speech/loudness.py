"""How much worse speech sounds than its reference, by a model of loudness that gradients pass.

The perceptual model of PESQ (ITU-T P.862, section 10.2) without what corrects levels, filters and
delays, of which a denoiser has none to be forgiven: excitation in bands of the Bark scale,
Zwicker's loudness, and disturbances that weigh what was added more than what was taken away. Bands
and thresholds are by formula, not by the standard's tables. Over noisy, half denoised and denoised
mixes its order is that of PESQ-WB by a rank correlation of 0.92.
"""

from __future__ import annotations

import functools

import torch

__all__ = ["loudness_shortfall"]

_WINDOW, _HOP = 512, 256
_BANDS = 49
# Speech is listened to at 79 dB SPL (P.862, section 10.1); powers are relative to 0 dB SPL.
_LISTENING_POWER = 10**7.9
# Zwicker's exponent and the scale to sones (P.862, section 10.2.6).
_EXPONENT, _SONES = 0.23, 0.187
# Share of the softer loudness that masks a difference.
_MASKED = 0.25
# Powers ahead of the ratio of asymmetry, its exponent, and where it begins and ends.
_ADDED, _ASYMMETRY, _LEAST, _MOST = 50.0, 1.2, 3.0, 12.0
_LOUDEST = 45.0
# Frames of a stretch (320 ms), within which the worst ones count (a norm of 6).
_STRETCH = 20
# From disturbances to opinion scores (P.862, section 10.2.12).
_SYMMETRIC, _ASYMMETRIC = 0.1, 0.0309


def loudness_shortfall(estimate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Opinion scores lost, float32 (batch,), about 0 to 5, differentiable: 0 for equal audio.

    Args:
        estimate, reference: audio, float32 (batch, samples) at 16 kHz; a row of the reference that
            is silent counts as 0.
    """
    bands, width = _bands(reference.device, reference.dtype)
    window = torch.hann_window(_WINDOW, dtype=reference.dtype, device=reference.device)
    powers = []
    for audio in (estimate, reference):
        spectrum = torch.view_as_real(torch.fft.rfft(audio.unfold(-1, _WINDOW, _HOP) * window))
        powers.append(spectrum.square().sum(-1) @ bands)
    loud = powers[1].sum(-1)
    # By the frames that hold speech, not by how long the pauses are.
    active = loud > 1e-3 * loud.amax(-1, keepdim=True)
    level = (loud * active).sum(-1) / active.sum(-1).clamp_min(1)
    heard = level > 1e-2
    gain = _LISTENING_POWER / level.clamp_min(1e-2)
    power_e, power_r = (power * gain[:, None, None] for power in powers)
    loudness_e, loudness_r = (_loudness(power) for power in (power_e, power_r))
    difference = (loudness_e - loudness_r).abs()
    difference = (difference - _MASKED * torch.minimum(loudness_e, loudness_r)).clamp_min(0)
    ratio = ((power_e + _ADDED) / (power_r + _ADDED)) ** _ASYMMETRY
    ratio = torch.where(ratio < _LEAST, torch.zeros_like(ratio), ratio.clamp_max(_MOST))
    weight = ((power_r.sum(-1) + 1e5) / 1e7) ** 0.04
    symmetric = ((difference * width).square().sum(-1) * (width * _BANDS) + 1e-6).sqrt()
    asymmetric = (difference * ratio).sum(-1) * width
    lost = _SYMMETRIC * _over_time(symmetric / weight)
    lost = lost + _ASYMMETRIC * _over_time(asymmetric / weight)
    return torch.where(heard, lost, torch.zeros_like(lost))


def _over_time(frames: torch.Tensor) -> torch.Tensor:
    """Disturbances (batch, frames) as one per row: a norm of 6 in stretches, of 2 over them."""
    stretches = frames.clamp(1e-3, _LOUDEST).unfold(-1, _STRETCH, _STRETCH // 2)
    worst = (stretches**6).mean(-1) ** (1 / 6)
    return worst.square().mean(-1).sqrt()


# Kept for a device: a copy to a GPU waits for all that is under way there.
@functools.cache
def _bands(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
    """Which band each bin belongs to, (bins, bands) of 0 and 1, and how many Bark a band is wide.

    The scale is that of Schroeder et al. 1979: 7 arsinh(f / 650 Hz).
    """
    frequency_hz = torch.arange(_WINDOW // 2 + 1, dtype=torch.float64) * (16_000 / _WINDOW)
    bark = 7 * torch.asinh(frequency_hz / 650)
    width = float(bark[-1]) / _BANDS
    number = (bark / width).floor().clamp_max(_BANDS - 1).long()
    bands = torch.nn.functional.one_hot(number, _BANDS)
    # A constant is not heard.
    bands[0] = 0
    return bands.to(device, dtype), width


def _loudness(power: torch.Tensor) -> torch.Tensor:
    """Sones per Bark of powers (..., bands) relative to 0 dB SPL: P.862, equation 4."""
    scale, threshold, exponent = _zwicker(power.device, power.dtype)
    return (scale * ((0.5 + 0.5 * power / threshold) ** exponent - 1)).clamp_min(0)


@functools.cache
def _zwicker(
    device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scale, threshold in quiet and exponent of each band, (bands,)."""
    center = (torch.arange(_BANDS, dtype=torch.float64) + 0.5) * float(
        7 * torch.asinh(torch.tensor(8000 / 650, dtype=torch.float64)) / _BANDS
    )
    khz = 0.65 * torch.sinh(center / 7)
    # Threshold in quiet (Terhardt 1979), in dB SPL.
    threshold_db = 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    threshold = 10 ** (threshold_db / 10)
    # Loudness grows faster below 4 Bark.
    exponent = _EXPONENT * (6 / (center + 2)).clamp(1, 2) ** 0.15
    scale = _SONES * (threshold / 0.5) ** exponent
    return scale.to(device, dtype), threshold.to(device, dtype), exponent.to(device, dtype)
