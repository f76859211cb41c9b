"""Which precision a network's products are to have on this machine: measured, not guessed.

bfloat16 halves the time of a step on processors and GPUs that have it, and takes many times as long
on those that have not.
"""

from __future__ import annotations

import copy
import time

import torch

from train.recipes import Recipe

__all__ = ["fastest", "seconds_per_step"]

# After the first step, which sets up kernels: so many steps, or so long.
_STEPS, _SECONDS = 3, 1.5


def seconds_per_step(
    recipe: Recipe, batch: tuple[torch.Tensor, ...], device: torch.device, precision: str
) -> float:
    """Seconds that one step takes, forward and backward, on a copy of the recipe's network.

    Args:
        recipe: whose loss is timed.
        batch: one batch on the device.
        device: that of the network.
        precision: "float32" or "bfloat16".
    """
    network = copy.deepcopy(recipe.network).train()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss, _ = recipe.loss(network, batch, 0)
        network.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    step()
    began = time.monotonic()
    count = 0
    while count < _STEPS and (not count or time.monotonic() - began < _SECONDS):
        step()
        count += 1
    return (time.monotonic() - began) / count


def fastest(seconds: dict[str, float]) -> str:
    """The precision with the shortest step; float32 unless another is at least 5 % faster."""
    found = min(seconds, key=seconds.__getitem__)
    return found if seconds[found] < 0.95 * seconds["float32"] else "float32"
