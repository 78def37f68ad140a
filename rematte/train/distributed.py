"""Data-parallel training over the processes that torchrun starts."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rematte.engines.device import choose_device


class Processes:
    """The processes that torchrun started, each on its own GPU, or this one alone."""

    def __init__(self, device: str) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = torch.device(choose_device(device)[0])
        if self.world > 1:
            if self.device.type == "cuda":
                self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    def wrap(self, passes: nn.Module) -> nn.Module:
        """Wrap the passes so that gradients are averaged over all processes."""
        if self.world == 1:
            return passes
        ids = [self.device.index] if self.device.type == "cuda" else None
        # A pass uses only one of the two projections.
        return DistributedDataParallel(passes, ids, find_unused_parameters=True)

    def agree(self, stop: bool) -> bool:
        """Return the first process's decision in every process."""
        if self.world == 1:
            return stop
        flag = torch.tensor([stop], dtype=torch.int32, device=self.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def wait(self) -> None:
        """Wait until all processes are here.

        A process that ends right after its last exchange may abort, since gloo's thread
        may still hold that exchange's tensors while the interpreter ends.
        """
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1:
            dist.destroy_process_group()
