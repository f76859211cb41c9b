"""Units of the photo denoiser that answer to nothing: found, and made anew.

A unit whose ReLU is off for every input has no gradient and never comes back by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["dead_units", "revive"]

# Standard deviation of what a unit made anew gives before its ReLU. Inside a block nothing listens
# to it at first; elsewhere what listens already knows another unit, so it begins quietly.
_DEVIATION, _QUIET = 0.5, 0.05


def dead_units(network: nn.Module, see: Callable[[], object]) -> dict[str, torch.Tensor]:
    """By convolution before a ReLU, which of its outputs are never above 0, bool (channels,).

    `see` runs the network on images.
    """
    alive: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, out: torch.Tensor) -> None:
            on = (out > 0).any(dim=3).any(dim=2).any(dim=0)
            alive[name] = alive[name] | on if name in alive else on

        return hook

    convolutions = _rectified(network).items()
    hooks = [conv.register_forward_hook(watch(name)) for name, conv in convolutions]
    with torch.no_grad():
        see()
    for hook in hooks:
        hook.remove()
    return {name: ~on for name, on in alive.items()}


@torch.no_grad()
def revive(network: nn.Module, see: Callable[[], object]) -> int:
    """Give dead units new weights, from the network's entry on; how many there were.

    New weights are random, scaled so that a unit is on about half of the time over what `see`
    shows. In a block, nothing takes notice of it until the weights that listen have learned to.
    """
    convolutions = _rectified(network)
    count = 0
    for name, conv in convolutions.items():
        dead = dead_units(network, see).get(name)
        if dead is None or not dead.any():
            continue
        count += int(dead.sum())
        fresh = torch.empty_like(conv.weight)
        nn.init.kaiming_normal_(fresh)
        conv.weight[dead] = fresh[dead]
        assert conv.bias is not None
        conv.bias[dead] = 0.0
        inside = name.endswith(".first")
        mean, deviation = _moments(conv, see)
        scale = (_DEVIATION if inside else _QUIET) / deviation.clamp_min(1e-6)
        conv.weight[dead] *= scale[dead, None, None, None]
        conv.bias[dead] = -(mean * scale)[dead]
        if inside:
            second = network.get_submodule(f"{name.removesuffix('first')}second")
            assert isinstance(second, nn.Conv2d)
            second.weight[:, dead] = 0.0
    return count


def _rectified(network: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions of the restoring network whose output goes through a ReLU, from its entry
    on; of those that go through one after a sum, the sum does."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
        and (name == "enter" or name.endswith(".first") or name.startswith("down."))
    }


def _moments(conv: nn.Conv2d, see: Callable[[], object]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each output of a convolution over what `see` shows."""
    seen: list[torch.Tensor] = []
    hook = conv.register_forward_hook(
        lambda _, __, out: seen.append(out.transpose(0, 1).flatten(1))
    )
    see()
    hook.remove()
    deviation, mean = torch.std_mean(torch.cat(seen, dim=1).float(), dim=1)
    return mean, deviation
