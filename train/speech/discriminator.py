"""The adversary of the speech codec: looks at complex spectra of three window lengths.

EnCodec's multi-scale STFT discriminator (arXiv 2210.13438, section 3.4) made small: three layers a
scale, strides over frequency.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from train.speech.loss import spectrum_of

__all__ = ["Discriminator", "adversarial_losses"]

_WINDOWS = (256, 512, 1024)
_LEAK = 0.2


class _Scale(nn.Module):
    """One window length: spectra (N, 2, T, bins) to scores and what lies before them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(2 if i == 0 else channels, channels, (3, 9), stride=(1, 4), padding=(1, 4))
            for i in range(3)
        )
        self.score = nn.Conv2d(channels, 1, (3, 3), padding=1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for layer in self.layers:
            x = nn.functional.leaky_relu(layer(x), _LEAK)
            found.append(x)
        return [*found, self.score(x)]


class Discriminator(nn.Module):
    """Scores of audio at three window lengths, high for what seems recorded."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_Scale(channels) for _ in _WINDOWS)

    def forward(self, audio: torch.Tensor) -> list[list[torch.Tensor]]:
        """For each scale the layers' outputs, scores last, of audio (N, samples) of power 1."""
        found = []
        for size, scale in zip(_WINDOWS, self.scales, strict=True):
            spectrum = spectrum_of(audio, window_samples=size, hop_samples=size // 4)
            # Magnitudes to the power 0.3, phases as they are.
            power = spectrum.square().sum(1, keepdim=True) + 1e-4
            found.append(scale(spectrum * power**-0.35))
        return found


def adversarial_losses(
    judge: Discriminator, audio: torch.Tensor, reference: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the codec loses to the judge, how far features are off, and what the judge gets wrong.

    One backward pass serves both: the first two have no derivatives by the judge's weights, the
    third none by the audio. Hinge losses.

    Args:
        judge: of the network that is trained.
        audio, reference: float32 (N, samples) of power 1.
    """
    fixed = {name: value.detach() for name, value in judge.named_parameters()}
    fooled = functional_call(judge, fixed, (audio,))
    with torch.no_grad():
        wanted = judge(reference)
    real, made = judge(reference), judge(audio.detach())
    pairs = [
        (f - w).abs().mean() / w.abs().mean().clamp_min(1e-4)
        for found, true in zip(fooled, wanted, strict=True)
        for f, w in zip(found[:-1], true[:-1], strict=True)
    ]
    lost = torch.stack([(1 - scale[-1]).clamp_min(0).mean() for scale in fooled]).mean()
    wrong = [
        (1 - r[-1]).clamp_min(0).mean() + (1 + m[-1]).clamp_min(0).mean()
        for r, m in zip(real, made, strict=True)
    ]
    return lost, torch.stack(pairs).mean(), torch.stack(wrong).mean()
