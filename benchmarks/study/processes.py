"""One process, or the several that torchrun starts."""

import os
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def part(self) -> slice:
        """Of every batch, this process's images."""
        return slice(self.rank, None, self.count)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Average gradients over processes and, on GPUs, compute batch norm over the whole batch as in one process."""
        if self.count == 1:
            return model
        if next(model.parameters()).is_cuda:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(model, find_unused_parameters=False)

    def mean(self, value: float) -> float:
        """Over all processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(total)
        return total.item() / self.count

    def agree(self, answer: bool) -> bool:
        """The first process's answer."""
        if self.count == 1:
            return answer
        answers = [answer]
        distributed.broadcast_object_list(answers, src=0)
        return answers[0]

    def end(self) -> None:
        if self.count > 1:
            distributed.destroy_process_group()

    def wait(self) -> None:
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


def of_torchrun() -> tuple[Processes, str]:
    """This process's place, and its device; one process where torchrun did not start it."""
    cuda = torch.cuda.is_available()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE, "cuda" if cuda else "cpu"
    device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo")
    return Processes(int(os.environ["RANK"]), count), device
