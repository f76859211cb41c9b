"""The network that finds what is strange in an image: features of the photo codec's encoder, how
far they are from those of good images, and how much further than around.

From a hundred good images a convolutional network learns no features in minutes, and made defects
are unlike real ones: a head of measures trained on them found cracks in commutators with an area of
0.56. Features that were learned from photographs need no defect, and their distance finds 0.87.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from train.checkpoint import SHIPPED
from train.inspection.mixture import Mixture
from train.layers import SeparableResidual

# The map has one value for a square of so many pixels a side.
MAP_STRIDE = 8
# The sides of what the network sees are multiples of this.
STRIDE = 16
# Pixels of the image's mirror image that it sees around it, so that edges are nothing strange, and
# pixels of the edge that count for no score: there parts end and light falls off.
MIRROR, MARGIN = 64, 8
# Light is compared with the mean over so many squares of STRIDE pixels, distances with the mean
# over so many squares of the map.
_LIGHT_AROUND, _AROUND = 7, 17
# The encoder whose features they are, and its sizes.
FEATURES, _CHANNELS, _BLOCKS = SHIPPED / "photo-features.npz", 128, 4
# Pixels beyond which the input does not matter for a value of the map, at most.
REACH = (_LIGHT_AROUND // 2 + 1) * STRIDE + MAP_STRIDE * (1 + _BLOCKS + _AROUND // 2)
# Light counts by its logarithm: twice the light is no defect. Pixels in [0, 1] below this are dark.
_DARK = 0.03
# What a logarithm of light above that around it counts in pixels, for which the features are made.
_CONTRAST = 0.35
# At first nothing is strange: the probability that this logit stands for is 5 %.
_FIRST_LOGIT = -3.0
# The distance to a cluster that does not exist.
_NOWHERE = 1e6


@dataclass(frozen=True)
class InspectionNetwork:
    """Sizes of the detector: at most so many clusters of features, in so many principal
    components."""

    clusters: int = 8
    components: int = 96

    def __post_init__(self) -> None:
        for key, most in (("clusters", 64), ("components", _CHANNELS)):
            if not 1 <= getattr(self, key) <= most:
                raise ValueError(f"{key} is {getattr(self, key)}, expected 1 to {most}")


class Inspector(nn.Module):
    """Pixels (N, 3, H, W) in [0, 1] to logits (N, 1, H / 8, W / 8): higher is stranger."""

    def __init__(self, config: InspectionNetwork) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Conv2d(3 * MAP_STRIDE**2, _CHANNELS, 1)
        self.blocks = nn.Sequential(*(SeparableResidual(_CHANNELS) for _ in range(_BLOCKS)))
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        count, size = config.clusters, config.components
        self.register_buffer("weight", torch.zeros(count * size, _CHANNELS, 1, 1))
        self.register_buffer("bias", torch.zeros(count * size))
        self.register_buffer("constant", torch.zeros(count))
        self.register_buffer("lowest", torch.zeros(()))
        # What is learned: how much a strange place counts, and how many are.
        self.log_gain = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.tensor(_FIRST_LOGIT))

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features (N, 128, H / 8, W / 8), the same however bright the light is."""
        light = torch.log(pixels.clamp_min(0) + _DARK)
        around = _mean(F.avg_pool2d(light, STRIDE), _LIGHT_AROUND)
        around = F.interpolate(around, scale_factor=float(STRIDE), mode="nearest")
        seen = (_CONTRAST * (light - around)).clamp(-1, 1)
        found: torch.Tensor = self.blocks(self.enter(F.pixel_unshuffle(seen, MAP_STRIDE)))
        return found

    def strangeness(self, pixels: torch.Tensor) -> torch.Tensor:
        """How much further than around features are from good ones, (N, 1, H / 8, W / 8): a
        difference of logarithms."""
        weight, bias, constant, lowest = (
            self.get_buffer(name) for name in ("weight", "bias", "constant", "lowest")
        )
        square = F.conv2d(self.features(pixels), weight, bias).square()
        ones = torch.ones(self.config.clusters, self.config.components, 1, 1, device=square.device)
        distances = F.conv2d(square, ones, constant, groups=self.config.clusters)
        far = torch.log(torch.relu(distances.amin(1, keepdim=True) - lowest) + 1)
        return far - _mean(far, _AROUND)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The map."""
        with torch.no_grad():
            strange = self.strangeness(pixels)
        return torch.exp(self.log_gain) * strange + self.offset

    @torch.no_grad()
    def take_features(self) -> None:
        """Begin with the features of a photo codec's encoder (photo-codec of 0.2.0).

        Raises ValueError if they are of other sizes.
        """
        with np.load(FEATURES) as weights:
            for name, part in (("enter", self.enter), ("blocks", self.blocks)):
                prefix = f"{name}."
                found = {
                    key.removeprefix(prefix): torch.from_numpy(weights[key])
                    for key in weights.files
                    if key.startswith(prefix)
                }
                try:
                    part.load_state_dict(found)
                except RuntimeError as error:
                    raise ValueError(f"{FEATURES.name} has another {name}: {error}") from None

    @torch.no_grad()
    def take(self, mixture: Mixture) -> None:
        """Hold features against those of a mixture, of at most as many clusters and components."""
        count, size = mixture.bias.shape
        weight = self.get_buffer("weight").zero_().view(self.config.clusters, -1, _CHANNELS)
        bias = self.get_buffer("bias").zero_().view(self.config.clusters, -1)
        weight[:count, :size] = torch.from_numpy(mixture.weight)
        bias[:count, :size] = torch.from_numpy(mixture.bias)
        self.get_buffer("constant").fill_(_NOWHERE)[:count] = torch.from_numpy(mixture.constant)
        self.get_buffer("lowest").fill_(mixture.lowest)


def _mean(x: torch.Tensor, side: int) -> torch.Tensor:
    """The mean over a square around each value; beyond the edge its values go on."""
    return F.avg_pool2d(F.pad(x, (side // 2,) * 4, mode="replicate"), side, 1)
