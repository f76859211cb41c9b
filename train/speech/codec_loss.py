"""What a speech codec is trained to lower: how far speech is off for an ear, and what it costs."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from train.speech.codec_network import target_bits
from train.speech.codec_signal import SAMPLE_RATE_HZ
from train.speech.loss import _compressed_error, _emphasis, intelligibility, spectrum_of
from train.speech.loudness import loudness_shortfall

__all__ = ["SpeechCodecLoss", "heard_loss", "mel_error", "rate_loss"]

_MELS = {256: 32, 512: 64, 1024: 80, 2048: 96}


@dataclass(frozen=True)
class SpeechCodecLoss:
    """Weights of the parts of the loss; a part of weight 0 is not computed.

    `mel` weighs how far logarithms of mel bands are off at the window lengths `resolutions`,
    `compressed` the squared error of spectra after |.|^0.3 of 32 ms windows, of which
    `magnitude_share` by magnitudes alone: phases are coded below 1200 Hz only. `loudness`
    weighs the opinion scores that PESQ's model of loudness takes off
    (`train.speech.loudness`), another color of the whole forgiven up to `forgiven_db` in any band:
    with all that PESQ forgives, 500 Hz came out 11 dB too loud after 4,000 steps, 150 Hz too soft.
    `intelligibility` weighs that of STOI and ESTOI.

    `rate` weighs bits as a share of what the level aims at, `overshoot` the share beyond that. From
    step `adversarial_from` on, if the network has a discriminator, `adversarial` weighs what the
    codec loses to it and `features` how far it is off in its eyes, on `adversarial_items` of a
    batch.
    """

    mel: float = 1.0
    resolutions: tuple[int, ...] = (256, 512, 1024, 2048)
    compressed: float = 2.0
    magnitude_share: float = 0.7
    loudness: float = 1.0
    forgiven_db: float = 0.0
    intelligibility: float = 2.0
    extended_share: float = 0.3
    rate: float = 0.05
    overshoot: float = 2.0
    adversarial: float = 0.0
    features: float = 0.0
    adversarial_from: int = 0
    adversarial_items: int = 4
    emphasis_hz: float = 500.0

    def __post_init__(self) -> None:
        if not 0 <= self.forgiven_db <= 20:
            raise ValueError(f"forgiven_db is {self.forgiven_db}, expected 0 to 20")
        for size in self.resolutions:
            if size not in _MELS:
                known = ", ".join(map(str, _MELS))
                raise ValueError(f"resolutions hold {size}, expected some of {known}")
        if self.adversarial_items < 1 or self.adversarial_from < 0:
            raise ValueError("adversarial_items or adversarial_from is below its least, 1 and 0")


def heard_loss(
    config: SpeechCodecLoss, audio: torch.Tensor, reference: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted sum of what is heard, a float32 scalar, and its parts by name.

    Args:
        config: what weighs how much.
        audio, reference: float32 (N, samples), the reference of power about 1.
    """
    parts: dict[str, torch.Tensor] = {}
    if config.mel:
        errors = [mel_error(audio, reference, size) for size in config.resolutions]
        parts["mel"] = torch.stack(errors).mean()
    if config.compressed:
        found, wanted = (_emphasized(x, config.emphasis_hz) for x in (audio, reference))
        parts["compressed"] = _compressed_error(found, wanted, config.magnitude_share)
    if config.loudness:
        lost = loudness_shortfall(audio, reference, forgiven_db=config.forgiven_db)
        parts["loudness"] = lost.mean()
    if config.intelligibility:
        understood = intelligibility(audio, reference, extended_share=config.extended_share)
        parts["intelligibility"] = 1 - understood.mean()
    total = audio.new_zeros(())
    for name, part in parts.items():
        total = total + getattr(config, name) * part
    return total, {name: part.detach() for name, part in parts.items()}


def rate_loss(config: SpeechCodecLoss, bits: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """What bits a frame (N,) at levels (N,) weigh: a little each, and much beyond the aim."""
    share = bits / target_bits(level)
    return (config.rate * share + config.overshoot * (share - 1).clamp_min(0)).mean()


def mel_error(audio: torch.Tensor, reference: torch.Tensor, size: int) -> torch.Tensor:
    """The mean difference of the logarithms of mel bands, windows of `size` samples.

    Args:
        audio, reference: float32 (N, samples) of power about 1.
    """
    bank = _mel_bank(size, _MELS[size], audio.device)
    levels = []
    for x in (audio, reference):
        spectrum = spectrum_of(x, window_samples=size, hop_samples=size // 4)
        # Scaled to windows of 512, so that the floor, 45 dB under the signal, means the same.
        power = spectrum.square().sum(1) * (512 / size)
        levels.append(torch.log((power @ bank) + 1e-2))
    return (levels[0] - levels[1]).abs().mean()


def _emphasized(audio: torch.Tensor, emphasis_hz: float) -> torch.Tensor:
    spectrum = spectrum_of(audio, window_samples=512, hop_samples=128)
    return spectrum * _emphasis(512, emphasis_hz, like=spectrum)


@functools.cache
def _mel_bank(size: int, bands: int, device: torch.device) -> torch.Tensor:
    """Triangles (bins, bands) even on the mel scale (O'Shaughnessy's), each of sum 1 or of the bin
    at its middle where it holds none."""
    highest = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, bands + 2) / 2595) - 1)
    return _triangles(edges, size).to(device)


def _triangles(edges_hz: torch.Tensor, size: int) -> torch.Tensor:
    frequency = torch.arange(size // 2 + 1)[:, None] * (SAMPLE_RATE_HZ / size)
    low, middle, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (frequency - low) / (middle - low)
    falling = (high - frequency) / (high - middle)
    bank = torch.minimum(rising, falling).clamp_min(0)
    nearest = (frequency - middle).abs().argmin(0)
    empty = bank.sum(0) < 0.5
    bank[nearest[empty], empty.nonzero()[:, 0]] = 1.0
    return bank / bank.sum(0)
