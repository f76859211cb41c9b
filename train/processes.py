"""The processes that train one network together, as torchrun starts them; alone, there is one."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Processes"]


class Processes:
    """The processes of a run: this one's rank and device, and what they do together.

    torch's DistributedDataParallel averages gradients, over NCCL on GPUs and gloo on processors.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        if torch.cuda.is_available():
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
            # Shapes stay the same from step to step, and float32 needs no more than a GPU's own.
            torch.backends.cudnn.benchmark = True
            torch.backends.cuda.matmul.allow_tf32 = True
        else:
            self.device = torch.device("cpu")
        self._decisions: Any = None
        if self.count > 1:
            if not distributed.is_initialized():
                distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            # Decisions go over processors, so that asking for one waits for no GPU.
            self._decisions = distributed.new_group(backend="gloo")

    @property
    def first(self) -> bool:
        """Whether this process is the one that validates, reports and writes checkpoints."""
        return self.rank == 0

    def parallel(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network to call in a step, so that its gradients are means over all processes."""
        if self.count == 1:
            return network
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids, forward_sync_buffers=False)

    def agree(self, value: float) -> float:
        """The first process's number, in all of them."""
        if self.count == 1:
            return value
        said = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(said, src=0, group=self._decisions)
        return float(said[0])

    def leave(self) -> None:
        """Wait for the others and end the group."""
        if self.count > 1:
            distributed.barrier(group=self._decisions)
            distributed.destroy_process_group()
