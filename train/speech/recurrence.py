"""Recurrences over time that are linear in what they carry, in few and wide operators.

On a GPU an operator costs some microseconds however little it does, so that a loop over frames
costs as much as the rest of a network. There a sequence is cut into chunks that run side by side,
each from nothing, and what one hands to the next is added afterwards.
"""

from __future__ import annotations

import math

import torch

__all__ = ["recur", "running_mean"]

# Frames whose running mean is one matrix product.
_BLOCK = 256


def recur(
    values: torch.Tensor,
    gates: torch.Tensor,
    start: torch.Tensor,
    retained: float,
    *,
    backwards: bool = False,
    chunks: int | None = None,
) -> None:
    """values[:, t] += retained gates[:, t] values[:, t - 1], frame after frame, in place.

    Args:
        values: (rows, time, batch, channels).
        gates: of the same shape, 0 to 1.
        start: what stands for values[:, -1] at the first frame, (rows, batch, channels).
        retained: 0 to 1.
        backwards: from the last frame to the first, with `start` after the last.
        chunks: how many run side by side; by default as many as a GPU is fast with, and one on a
            processor.
    """
    time = values.shape[1]
    if chunks is None:
        chunks = 1 if values.device.type == "cpu" else math.isqrt(time)
    steps = time // chunks if chunks > 1 else 0
    whole = chunks * steps
    rest = slice(0, time - whole) if backwards else slice(whole, time)
    if whole:
        inside = slice(time - whole, time) if backwards else slice(0, whole)
        shape = (chunks, steps)
        start = _side_by_side(
            values[:, inside].unflatten(1, shape),
            gates[:, inside].unflatten(1, shape),
            start,
            retained,
            backwards=backwards,
        )
    last = start
    frames = zip(values[:, rest].unbind(1), gates[:, rest].unbind(1), strict=True)
    for value, gate in reversed(list(frames)) if backwards else frames:
        last = value.addcmul_(gate, last, value=retained)


def _side_by_side(
    values: torch.Tensor,
    gates: torch.Tensor,
    start: torch.Tensor,
    retained: float,
    *,
    backwards: bool,
) -> torch.Tensor:
    """`recur` for values and gates (rows, chunks, steps, batch, channels), in place; the value of
    the last frame."""
    # What is left at each frame of what was there ahead of its chunk.
    left = gates * retained
    order = slice(None, None, -1) if backwards else slice(None)
    frames, shares, opened = (x.unbind(2)[order] for x in (values, left, gates))
    for step in range(1, len(frames)):
        frames[step].addcmul_(opened[step], frames[step - 1], value=retained)
        shares[step].mul_(shares[step - 1])
    ends, shares_of_all = frames[-1].unbind(1)[order], shares[-1].unbind(1)[order]
    before, last = [], start
    for end, share in zip(ends, shares_of_all, strict=True):
        before.append(last)
        last = torch.addcmul(end, share, last)
    handed = torch.stack(before[order], dim=1)
    values.addcmul_(left, handed[:, :, None])
    return last


def running_mean(x: torch.Tensor, decay: float) -> torch.Tensor:
    """The mean of x (time, batch) up to each frame, in which a frame ago counts `decay` as much.

    Args:
        x: float32 (time, batch).
        decay: above 0 and below 1.

    Returns:
        float32 of the same shape.
    """
    steps = torch.arange(min(_BLOCK, len(x)), device=x.device)
    ages = steps[:, None] - steps
    kept = torch.where(ages < 0, 0.0, decay ** ages.clamp_min(0).double()).to(x.dtype)
    falls = (decay ** (steps + 1.0).double())[:, None].to(x.dtype)
    totals, total = [], torch.zeros_like(x[:1])
    # A bfloat16 product would be off by a thirtieth of a decibel.
    with torch.autocast(x.device.type, enabled=False):
        for block in x.split(_BLOCK):
            size = len(block)
            totals.append(kept[:size, :size] @ block + falls[:size] * total)
            total = totals[-1][-1:]
        frames = torch.arange(1, len(x) + 1, device=x.device).double()
        weights = (1 - decay**frames) / (1 - decay)
        return torch.cat(totals) / weights[:, None].to(x.dtype)
