"""Several processes that train one network, each on batches of its own, started by torchrun.

On a processor, small networks train about as many times faster as there are processes with a core
to themselves, while more threads in one process gain little.
"""

from __future__ import annotations

import os

import torch
from torch import distributed

__all__ = ["Team"]


class Team:
    """The processes of a run; a process that nobody started beside others is a team of one."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo")

    @property
    def leads(self) -> bool:
        """Whether this process is the one that validates, logs and writes checkpoints."""
        return self.rank == 0

    def average(self, network: torch.nn.Module) -> None:
        """Replace every gradient by its mean over the team; a missing one counts as zero."""
        if self.size == 1:
            return
        parameters = list(network.parameters())
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        message = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(message)
        parts = message.div_(self.size).split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def decide(self, wish: bool) -> bool:
        """What the leading process wishes."""
        if self.size == 1:
            return wish
        message = torch.tensor([float(wish)])
        distributed.broadcast(message, src=0)
        return bool(message[0])

    def part(self) -> None:
        """Wait for the others and leave."""
        if self.size > 1:
            distributed.barrier()
            distributed.destroy_process_group()
