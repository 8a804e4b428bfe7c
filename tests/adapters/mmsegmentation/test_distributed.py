"""Two processes with half a batch each and batch norm over both equal one process with the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import convert_sync_batchnorm
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from tests.adapters.mmsegmentation import samples as given

from mmseg.registry import MODELS

MODEL = {
    "type": "EncoderDecoder",
    "backbone": {"type": "PVTv2", "name": "pvt_v2_b0", "drop_path_rate": 0.0},
    "decode_head": {
        "type": "UNetV2Head",
        "in_channels": [32, 64, 160, 256],
        "channels": 8,
        "num_classes": 2,
        "out_channels": 1,
        "deep_supervision": 2,
        "norm": "batch",
    },
}


class SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


class SynchronisedOnCpu(nn.SyncBatchNorm):
    """What torch's SyncBatchNorm computes; its own kernels are for GPUs only, which DistributedDataParallel
    enforces."""

    def forward(self, x: Tensor) -> Tensor:
        count = x.numel() / x.shape[1] * dist.get_world_size()
        mean = SumOverProcesses.apply(x.sum((0, 2, 3))) / count
        variance = SumOverProcesses.apply((x - mean[:, None, None]).square().sum((0, 2, 3))) / count
        with torch.no_grad():
            for running, value in ((self.running_mean, mean), (self.running_var, variance * count / (count - 1))):
                assert running is not None
                running.lerp_(value, 0.1)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
        x = (x - mean[:, None, None]) / (variance[:, None, None] + self.eps).sqrt()
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Parallel(nn.parallel.DistributedDataParallel):
    def _passing_sync_batchnorm_handle(self, module: nn.Module) -> None:
        """Torch's own, without the check that the model is on a GPU."""


def build() -> Any:
    torch.manual_seed(5)
    return MODELS.build(Config({"model": MODEL}).model).double().train()


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(6)
    images = torch.randn(4, 3, 64, 64, generator=random, dtype=torch.float64)
    return images, torch.randint(0, 2, (4, 64, 64), generator=random)


def step(model: Any, images: Tensor, labels: Tensor) -> None:
    losses = model(images, given.samples(labels), mode="loss")
    torch.stack([value for name, value in losses.items() if "loss" in name]).sum().backward()


def half(rank: int, folder: str) -> None:
    """One of two processes: half of the batch, DistributedDataParallel, synchronised batch norm."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model = convert_sync_batchnorm(build(), "torch")
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.__class__ = SynchronisedOnCpu
    images, labels = batch()
    step(Parallel(model), images[rank::2], labels[rank::2])
    torch.save(
        ({name: p.grad for name, p in model.named_parameters()}, dict(model.named_buffers())), f"{folder}/{rank}.pt"
    )
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path):
    spawn(half, (str(tmp_path),), nprocs=2)
    model = build()
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 8  # a reduction and an SDI at each of the four levels
    converted = convert_sync_batchnorm(build(), "torch")
    assert [n for n, m in converted.named_modules() if isinstance(m, nn.SyncBatchNorm)] == norms
    step(model, *batch())
    for rank in range(2):
        gradients, statistics = torch.load(tmp_path / f"{rank}.pt")
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-7, atol=1e-12)
        for name, value in model.named_buffers():
            torch.testing.assert_close(statistics[name], value, rtol=1e-10, atol=1e-12)
