"""Prediction by nnU-Net's own reader, preprocessing and sliding window, without its folders of trainers."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn


class VolumePredictor:
    """Files of a case to its segmentation, in the case's own geometry.

    Args:
        network: as `restore` gives it.
        arguments: plans, configuration and dataset_json, as nnU-Net's checkpoints hold them.
        flips: average over all mirror images.

    Attributes:
        ending: of input and output files, such as ".nii.gz".
        channels: files per case.

    Raises:
        ValueError: a network of a cascade, which needs the stage before it.
    """

    def __init__(self, network: nn.Module, arguments: Mapping[str, Any], device: str = "cpu", flips: bool = False):
        plans, dataset = PlansManager(arguments["plans"]), dict(arguments["dataset_json"])
        configuration = plans.get_configuration(arguments["configuration"])
        if configuration.previous_stage_name is not None:
            raise ValueError(
                "predict: expected a network that needs volumes alone, got a cascade. Use nnUNetv2_predict."
            )
        self.ending: str = dataset["file_ending"]
        self.channels = len(dataset.get("channel_names") or dataset["modality"])
        on_gpu = device.startswith("cuda")
        self._predictor = nnUNetPredictor(
            use_mirroring=flips, perform_everything_on_device=on_gpu, device=torch.device(device), allow_tqdm=False
        )
        axes = tuple(range(len(configuration.patch_size))) if flips else None
        weights = [network.state_dict()]
        self._predictor.manual_initialization(network, plans, configuration, weights, dataset, "nnUNetTrainer", axes)

    def __call__(self, files: Sequence[Path], target: Path) -> None:
        """Write TARGET + ending; its folder gets nnU-Net's records too."""
        with contextlib.redirect_stdout(sys.stderr):  # nnU-Net prints what it does
            self._predictor.predict_from_files_sequential([[str(file) for file in files]], [str(target)])
