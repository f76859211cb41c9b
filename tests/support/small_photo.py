"""A photo codec's network of a few thousand weights, as training would leave it. Needs torch."""

from __future__ import annotations

import torch

from train.image.network import Encoder, PhotoNetwork

SMALL = PhotoNetwork(
    slices=(2, 3, 4, 3, 4),
    components=8,
    fast=Encoder(16, 3, 8, 1, 8),
    best=Encoder(16, 2, 16, 1, 8, 8, 2),
    synthesis_channels=16,
    synthesis_blocks=2,
    synthesis_hidden=16,
    synthesis_deep_blocks=1,
    synthesis_deep_hidden=8,
    context_channels=(12,) * 5,
)


def shaken(network):
    """The network with every weight moved, so that nothing is zero."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()
