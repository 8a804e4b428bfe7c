"""The variants of the trainers: found by name, joined, and trained; and a custom trainer."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)
from nnunetv2.utilities import find_objects

from sdi_plugin.adapters.nnunet import (
    PlainConvUNetV2,
    nnUNetTrainerUNetV2,
    nnUNetTrainerUNetV2PVT,
    nnUNetTrainerUNetV2PVT_noPretrain,
    variants,
)
from sdi_plugin.adapters.nnunet.plans import class_path
from sdi_plugin.cli.nnunet.startup import trainers_folder
from tests.adapters.nnunet import plans as nnunet_plans

BASES = (nnUNetTrainerUNetV2, nnUNetTrainerUNetV2PVT, nnUNetTrainerUNetV2PVT_noPretrain)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("suffix", "epochs", "kinds"),
    [
        ("_1epoch", 1, ()),
        ("_100epochs", 100, ()),
        ("_NoMirroring", None, (nnUNetTrainerNoMirroring,)),
        ("_NoDeepSupervision", None, (nnUNetTrainerNoDeepSupervision,)),
        ("_DA5", None, (nnUNetTrainerDA5,)),
        ("_250epochs_NoMirroring", 250, (nnUNetTrainerNoMirroring,)),
        ("_DA5_10epochs", 10, (nnUNetTrainerDA5,)),
        ("_DA5_NoDeepSupervision_NoMirroring", None, (nnUNetTrainerDA5, nnUNetTrainerNoDeepSupervision)),
    ],
)
def test_a_variants_name_says_what_it_is(base, suffix, epochs, kinds):
    name = f"{base.__name__}{suffix}"
    kind: Any = getattr(variants, name)
    assert kind.__name__ == name
    assert kind.epochs == (base.epochs if epochs is None else epochs)
    assert issubclass(kind, (base, *kinds))
    assert all(issubclass(kind, each) for each in kinds)
    assert kind is getattr(variants, name)
    assert pickle.loads(pickle.dumps(kind)) is kind


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "suffix", ["_0epochs", "_1epochs", "_5epoch", "_5epochs_10epochs", "_DA5_DA5", "_NoMiroring", "_", "DA5", "_DA5_"]
)
def test_other_names_are_not_found(base, suffix):
    assert not hasattr(variants, f"{base.__name__}{suffix}")


def test_variants_change_only_what_they_name(folders):
    assert (
        nnunet_plans.trainer(nnUNetTrainerUNetV2).num_epochs == nnunet_plans.trainer(nnUNetTrainer).num_epochs == 1000
    )
    assert nnunet_plans.trainer(variants.nnUNetTrainerUNetV2_20epochs).num_epochs == 20
    short = nnunet_plans.trainer(variants.nnUNetTrainerUNetV2PVT_5epochs)
    assert (short.num_epochs, short.initial_lr) == (5, 1e-3)
    assert nnunet_plans.trainer(nnUNetTrainerUNetV2PVT).num_epochs == 300


@pytest.mark.parametrize("suffix", ["_NoMirroring", "_DA5_NoMirroring"])
def test_no_mirroring_holds_with_any_augmentation(folders, suffix):
    ours = nnunet_plans.trainer(getattr(variants, f"nnUNetTrainerUNetV2{suffix}"))
    *_, axes = ours.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert axes is None
    assert ours.inference_allowed_mirroring_axes is None  # what prediction reads from the checkpoint


def test_da5_augments_as_nnunets_own_does(folders):
    ours, stock = nnunet_plans.trainer(variants.nnUNetTrainerUNetV2_DA5), nnunet_plans.trainer(nnUNetTrainerDA5)
    assert ours.get_training_transforms is stock.get_training_transforms is not nnUNetTrainer.get_training_transforms
    expected = stock.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert str(ours.configure_rotation_dummyDA_mirroring_and_inital_patch_size()) == str(expected)


@pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning")  # timm's depthwise convolutions
@pytest.mark.parametrize("name", ["nnUNetTrainerUNetV2", "nnUNetTrainerUNetV2PVT_noPretrain"])
def test_without_deep_supervision_one_head_trains(folders, small, name):
    ours = nnunet_plans.trainer(getattr(variants, f"{name}_NoDeepSupervision"))
    ours.initialize()
    ours.set_deep_supervision_enabled(ours.enable_deep_supervision)
    assert ours._get_deep_supervision_scales() is None
    data = torch.randn(2, 1, *nnunet_plans.CASES["2d"][1])
    assert ours.network(data).shape == (2, 2, *data.shape[2:])
    ours.train_step({"data": data, "target": torch.randint(0, 2, data.shape)})
    heads = ours.bare_network.decoder.seg_layers
    assert [head.weight.grad is not None for head in heads] == [True] + [False] * (len(heads) - 1)


def test_the_search_finds_a_variant_that_pickles_and_imports_no_timm():
    """nnU-Net's search of its own package, before it reads this folder, may import timm for its Primus trainers."""
    code = (
        "import pickle, sys; from nnunetv2.utilities.find_class_by_name import recursive_find_python_class as find; "
        f"kind = find({str(trainers_folder())!r}, 'nnUNetTrainerUNetV2_3epochs_DA5', None); "
        "print(pickle.loads(pickle.dumps(kind)) is kind, kind.__module__, 'timm' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("True sdi_plugin.adapters.nnunet.variants False\n", "")


SNIPPET = re.search(r"```python\n(.*?)```", (Path(__file__).parents[3] / "docs" / "nnunet.md").read_text(), re.DOTALL)


def test_the_custom_trainer_of_the_documentation(no_data, monkeypatch, tmp_path):
    assert SNIPPET
    (tmp_path / "my_trainers").mkdir()
    (tmp_path / "my_trainers" / "mine.py").write_text(SNIPPET[1])
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path / "my_trainers"), str(trainers_folder())]))
    ours = nnunet_plans.trainer(find_objects.recursive_find_trainer_class_by_name("nnUNetTrainerMine"))
    assert (ours.num_epochs, ours.initial_lr) == (200, 5e-3)
    assert ours.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[-1] is None
    assert class_path(PlainConvUNetV2) == ours.configuration_manager.network_arch_class_name
    ours.initialize()
    assert type(ours.lr_scheduler).__name__ == "CosineAnnealingLR"
    variant: Any = find_objects.recursive_find_trainer_class_by_name("nnUNetTrainerUNetV2_7epochs_DA5")
    assert variant is variants.nnUNetTrainerUNetV2_7epochs_DA5
