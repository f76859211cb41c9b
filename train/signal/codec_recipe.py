"""The signal codec as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from train.config import Config
from train.signal.codec_data import CodecData, Signals
from train.signal.codec_network import (
    STRIDE,
    SignalCodecNetwork,
    SignalNetwork,
    distortion,
    distortion_weight,
)

# Levels that are validated, and the PRD in % at which bits a sample are read off between them.
_VALIDATED = (0.3, 0.5, 0.7)
_PRDS = (9.0, 5.0)


@dataclass(frozen=True)
class SignalRateDistortion:
    """How the loss weighs levels.

    An item's loss is divided by its own size to the power of `balance`: at 0 the finest levels,
    which cost most bits, count most.
    """

    balance: float = 0.5


class SignalCodecRecipe:
    """Trains `SignalCodecNetwork` for every quality level at once."""

    sections: ClassVar[dict[str, type]] = {
        "network": SignalNetwork,
        "data": CodecData,
        "loss": SignalRateDistortion,
    }
    network: SignalCodecNetwork

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.signals = Signals(config.data)
        self.network = SignalCodecNetwork(config.network)

    def start(self) -> None:
        """Give a new network its linear start; a resumed one has its weights already."""
        rng = np.random.default_rng(self.config.seed)
        self.network.to("cpu").start_linear(
            self.signals.batch(rng, 64, self.config.data.crop_steps)
        )
        self.network.to(self.device)

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Pieces (N, T) and quality levels (N,), spread evenly over [0, 1].

        Some batches are short pieces, as many times more: what a packet that stands alone is.
        """
        shorter = int(rng.choice([1, 4, 8], p=[0.7, 0.15, 0.15]))
        count = self.config.optimize.batch_size * shorter
        pieces = self.signals.batch(rng, count, self.config.data.crop_steps // shorter)
        level = (rng.permutation(count) + rng.random(count)) / count
        return pieces, torch.from_numpy(level.astype(np.float32))

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch and what to plot of it."""
        signal = batch[0]
        # Contexts see the level as one of 64ths, the file says it so too.
        level = (batch[1] * 64).round() / 64
        restored, bits = network(signal, level)
        rate = bits / signal.shape[1]
        error = distortion(signal, restored)
        whole = rate + distortion_weight(level) * error
        loss = (whole / whole.detach().clamp_min(0.02) ** self.config.loss.balance).mean()
        return loss, {"bits_per_sample": rate.mean(), "log_error": error.log10().mean()}

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """Bits a sample of the held-out records where their PRD is 9 and 5 %; the score is the
        mean of the logarithms of both."""
        figures: dict[str, float] = {}
        curves = []
        for signal in self.signals.held_out:
            points = []
            whole = torch.from_numpy(signal)[None].to(self.device)
            energy = float(whole.square().mean())
            for level in _VALIDATED:
                # In pieces: matching looks at all pairs of steps.
                rates, errors = [], []
                for piece in whole.split(1024 * STRIDE, dim=1):
                    restored, bits = network(piece, torch.full((1,), level, device=self.device))
                    rates.append(float(bits))
                    errors.append(float(distortion(piece, restored)) * piece.shape[1])
                prd = 100 * math.sqrt(sum(errors) / whole.shape[1] / energy)
                points.append((prd, sum(rates) / whole.shape[1]))
            curves.append(points)
        scores = []
        for prd in _PRDS:
            at = [bits_at(points, prd) for points in curves]
            figures[f"bits_at_prd_{prd:g}"] = float(np.mean(at))
            scores.append(float(np.log(np.mean(at))))
        figures["score"] = float(np.mean(scores))
        return figures

    def data_summary(self) -> dict[str, Any]:
        """How many records there are, and where they are from."""
        return {"records": self.signals.summary()}

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Signals are small and need no packing: ValueError."""
        raise ValueError("signals are read from their folders, there is nothing to pack")


def bits_at(points: list[tuple[float, float]], prd: float) -> float:
    """Bits a sample at a PRD, between points (PRD, bits) and beyond their ends, on logarithms."""
    ordered = sorted(points)
    place = int(np.searchsorted([x for x, _ in ordered], prd))
    place = min(max(place, 1), len(ordered) - 1)
    (x0, y0), (x1, y1) = ordered[place - 1], ordered[place]
    share = (math.log(prd) - math.log(x0)) / max(math.log(x1) - math.log(x0), 1e-9)
    return math.exp(math.log(y0) + share * (math.log(y1) - math.log(y0)))
