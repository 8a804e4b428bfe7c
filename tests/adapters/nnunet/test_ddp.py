"""-num_gpus 2, shown with two processes on the CPU: nnU-Net's own training step under DistributedDataParallel."""

import importlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2
from tests.adapters.nnunet import plans as nnunet_plans

DATASET = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}


def train(rank: int, port: int, folder: str) -> None:
    """Two steps on data that differ from process to process; the weights go into a file."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = folder
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    # Where nnU-Net says cuda: the wrapper's device ids, and the data set's folder, which does not exist.
    patched: Any = importlib.import_module(nnUNetTrainer.__module__)
    patched.DDP = lambda network, device_ids: DistributedDataParallel(network)
    patched.infer_dataset_class = lambda folder: None
    plans: Any = nnunet_plans.plans("3d", data_identifier="none", batch_dice=True) | {"continue_training": False}
    torch.manual_seed(rank)
    trainer: Any = nnUNetTrainerUNetV2(plans, "3d_fullres", 0, DATASET)
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    trainer.initialize()
    assert isinstance(trainer.network, DistributedDataParallel)
    assert trainer.batch_size == 1
    trainer.set_deep_supervision_enabled(True)
    for _ in range(2):
        data = torch.randn(1, 1, *nnunet_plans.CASES["3d"][1])
        targets = [torch.randint(0, 2, (1, 1, *y.shape[2:])) for y in trainer.network(data)]
        trainer.train_step({"data": data, "target": targets})
    missing = [name for name, parameter in trainer.network.named_parameters() if parameter.grad is None]
    torch.save((trainer.bare_network.state_dict(), missing), Path(folder, f"rank{rank}.pt"))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_stay_equal_and_use_every_parameter(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "Dataset001_Test").mkdir()
    spawn(train, (port, str(tmp_path)), nprocs=2)
    (first, missing), (second, _) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert missing == []
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
