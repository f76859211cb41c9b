"""A denoiser of 1-D signals that runs hop by hop: dilated convolutions over patches of samples.

Every layer looks a stated number of frames ahead and the rest back, so that the network over a
whole signal and its `step`, which carries each layer's last inputs, give the same numbers. Layers
are 1 x K convolutions and ReLU alone, which every provider takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

# Every convolution over time sees three frames.
_KERNEL = 3


@dataclass(frozen=True)
class SignalDenoiserNetwork:
    """Sizes of a denoiser.

    Attributes:
        rate_hz: sample rate of its signals.
        patch_samples: samples of a frame, which are the channels that the network sees.
        channels: width of the residual blocks.
        dilations: of the blocks, in order, in frames.
        ahead_up_to: blocks of a dilation up to this one look as far ahead as back; the others only
            look back.
        hop_frames: frames of one step of a stream.
        typical: what samples are divided by on the way in, so that they are near 1.
    """

    rate_hz: int = 360
    patch_samples: int = 8
    channels: int = 64
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 1, 2, 4, 8, 16, 32, 2, 1)
    ahead_up_to: int = 4
    hop_frames: int = 2
    typical: float = 0.5

    def __post_init__(self) -> None:
        least = min(self.patch_samples, self.channels, self.hop_frames, *self.dilations, 1)
        if least < 1 or not self.dilations or self.rate_hz < 1 or self.typical <= 0:
            raise ValueError(
                "rate_hz, patch_samples, channels, dilations, hop_frames and typical of a signal "
                "denoiser are expected to be above 0"
            )

    @property
    def hop_samples(self) -> int:
        """Samples of one step."""
        return self.patch_samples * self.hop_frames

    @property
    def lookahead_samples(self) -> int:
        """How far a clean sample depends on the future, beside the wait for a whole hop."""
        blocks = sum(d for d in self.dilations if d <= self.ahead_up_to)
        return self.patch_samples * (blocks + 2)


class _Causal(nn.Module):
    """A dilated convolution over frames (N, C, 1, T) that needs the `2 dilation` frames before."""

    def __init__(self, channels: int, after: int, dilation: int, ahead: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, after, (1, _KERNEL), dilation=(1, dilation))
        self.past, self.ahead = (_KERNEL - 1) * dilation, ahead

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (N, C, 1, past + T) to (N, after, 1, T)."""
        convolved: torch.Tensor = self.convolution(frames)
        return convolved


class _Block(nn.Module):
    """A residual block: what goes past the convolution is delayed as it is by its look-ahead."""

    def __init__(self, channels: int, dilation: int, ahead: int) -> None:
        super().__init__()
        self.time = _Causal(channels, channels, dilation, ahead)
        self.mix = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (N, C, 1, past + T) to (N, C, 1, T), `ahead` frames late."""
        count = frames.shape[-1] - self.time.past
        start = self.time.past - self.time.ahead
        straight = frames[..., start : start + count]
        added: torch.Tensor = self.mix(torch.relu(self.time(frames)))
        return straight + added


class SignalDenoiser(nn.Module):
    """Noisy samples (N, L) to clean ones, `lookahead_samples` late; L a multiple of the hop."""

    def __init__(self, config: SignalDenoiserNetwork) -> None:
        super().__init__()
        self.config = config
        self.enter = _Causal(config.patch_samples, config.channels, 1, 1)
        self.blocks = nn.ModuleList(
            _Block(config.channels, d, d if d <= config.ahead_up_to else 0)
            for d in config.dilations
        )
        self.leave = _Causal(config.channels, config.patch_samples, 1, 1)
        # What it takes away is nothing at first.
        nn.init.zeros_(self.leave.convolution.weight)
        nn.init.zeros_(self.leave.convolution.bias)  # type: ignore[arg-type]
        self.register_buffer("typical", torch.tensor(config.typical))

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each state of `step`, in order."""
        width, patch = self.config.channels, self.config.patch_samples
        shapes: dict[str, tuple[int, ...]] = {"enter": (1, patch, 1, self.enter.past)}
        for index, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            shapes[f"block{index}"] = (1, width, 1, block.time.past)
        shapes["leave"] = (1, width, 1, self.leave.past)
        late = self.config.lookahead_samples // patch
        shapes["noisy"] = (1, patch, 1, late)
        return shapes

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Clean samples of a whole signal (N, L): silence is before it."""
        states = [
            noisy.new_zeros((len(noisy), *shape[1:])) for shape in self.state_shapes().values()
        ]
        return self.step(noisy, *states)[0]

    def step(self, noisy: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The clean samples (N, L) of the next ones (N, L), and the states after them."""
        after: list[torch.Tensor] = []
        waiting = list(states)

        def joined(frames: torch.Tensor) -> torch.Tensor:
            state = waiting.pop(0)
            both = torch.cat([state, frames], dim=-1)
            after.append(both[..., both.shape[-1] - state.shape[-1] :])
            return both

        count = noisy.shape[-1]
        patch = self.config.patch_samples
        typical = self.get_buffer("typical")
        # A frame's samples become channels: (N, L) -> (N, patch, 1, L / patch).
        frames = noisy.reshape(-1, count // patch, patch).transpose(1, 2)[:, :, None] / typical
        features = self.enter(joined(frames))
        for block in self.blocks:
            features = block(joined(features))
        noise = self.leave(torch.relu(joined(features)))
        late = joined(frames)[..., : count // patch]
        clean = (late - noise) * typical
        return (clean[:, :, 0].transpose(1, 2).reshape(-1, count), *after)
