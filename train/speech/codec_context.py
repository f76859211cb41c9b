"""How many bits a frame of speech costs: the signal codec's context model without its matches.

A frame is told what dilated causal convolutions make of the frames before it, and those of its own
symbols that are coded before. Where a packet begins nothing is known, so that each decodes alone.
"""

from __future__ import annotations

import torch
from torch import nn

from train.entropy_model import bits_of_items, logistic_scale
from train.signal.codec_context import History, SliceHead, later, rounded_to_middle, signed

__all__ = ["SpeechContext"]


class SpeechContext(nn.Module):
    """Bits of symbols (N, channels, 1, T), coded frame by frame and in slices inside a frame."""

    def __init__(
        self, slices: tuple[int, ...], *, width: int, head_width: int, dilations: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.slices = slices
        channels = sum(slices)
        self.history = History(channels, width, dilations)
        self.heads = nn.ModuleList(
            SliceHead(channels, sum(slices[:i]), own, width, head_width, matched=False)
            for i, own in enumerate(slices)
        )
        with torch.no_grad():
            for head in self.heads:
                assert isinstance(head, SliceHead) and head.scale.bias is not None
                head.scale.bias.zero_()
                if not head.known:
                    # Of the pitch: about the one before, give or take two steps.
                    head.middle.weight[:, -head.linear, 0, 0] = 16.0
                    head.scale.bias.fill_(0.7)

    def distribution(
        self, symbols: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw log scale and middle of every symbol (N, channels, 1, T), at levels (N,) in [0, 1]
        that are 64ths."""
        plane = level[:, None, None, None]
        history = self.history(symbols, plane)
        plane = plane.expand(-1, -1, -1, symbols.shape[3])
        numbers = signed(torch.cat([later(symbols, 1), later(symbols, 2)], dim=1))
        scales, middles = [], []
        for head in self.heads:
            assert isinstance(head, SliceHead)
            scale, middle = head(history, [], numbers, symbols[:, : head.known], plane)
            scales.append(scale)
            middles.append(middle)
        return torch.cat(scales, dim=1).float(), torch.cat(middles, dim=1).float()

    def forward(
        self, noisy: torch.Tensor, symbols: torch.Tensor, level: torch.Tensor
    ) -> torch.Tensor:
        """Bits of the symbols of every item, (N,); derivatives as of `bits_of_items`.

        Args:
            noisy: latents in quantization steps with uniform noise, (N, channels, 1, T).
            symbols: whole numbers, without derivatives.
            level: (N,) in [0, 1].
        """
        return bits_of_items(*self.distribution(symbols, level), noisy, symbols)

    @torch.no_grad()
    def rounded(self, values: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Latents in quantization steps to the symbols that the codec picks."""
        raw, middle = self.distribution(values.round(), level)
        return rounded_to_middle(values, (middle * 8).round() / 8, logistic_scale(raw))
