"""Fine-tuning from self-supervised checkpoints, in the format of nnssl's OpenMind models."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2_nnssl, variants
from sdi_plugin.checkpoint import CheckpointError
from tests.adapters.nnunet import plans as nnunet_plans

CASE = "3d-residual"
TWO_CHANNELS = {**nnunet_plans.DATASET, "channel_names": {"0": "T1", "1": "T2"}}


def pretrained(case: str = CASE) -> dict[str, Any]:
    """What nnssl saves: the network of nnU-Net that it pretrained on one channel, and where its parts are."""
    found = copy.deepcopy(nnunet_plans.CASES[case][0])
    network = get_network_from_plans(
        found["network_class_name"], found["arch_kwargs"], found["_kw_requires_import"], 1, 1, allow_init=True
    )
    return {
        "network_weights": network.state_dict(),
        "citations": [{"name": "OpenMind"}],
        "nnssl_adaptation_plan": {
            "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
            "pretrain_num_input_channels": 1,
            "key_to_encoder": "encoder.stages",
            "key_to_stem": "encoder.stem",
            "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
            "key_to_lpe": None,
        },
    }


@pytest.fixture
def start(no_data, monkeypatch, tmp_path):
    """start(checkpoint): a trainer that has loaded it."""

    def start(content: Any, dataset: dict[str, Any] = nnunet_plans.DATASET) -> Any:
        torch.save(content, tmp_path / "openmind.pth")
        monkeypatch.setenv("SDI_PLUGIN_NNSSL", str(tmp_path / "openmind.pth"))
        trainer = nnunet_plans.trainer(nnUNetTrainerUNetV2_nnssl, CASE, dataset=dataset)
        trainer.initialize()
        trainer._load_nnssl()
        return trainer

    return start


def test_the_encoder_starts_from_the_checkpoint_and_the_log_counts_what_does_not(start):
    content = pretrained()
    trainer = start(content)
    state, given = trainer.bare_network.state_dict(), content["network_weights"]
    encoder = [key for key in state if key.startswith("encoder.")]
    assert all(torch.equal(state[key], given[key]) for key in encoder)
    log = Path(trainer.log_file).read_text()
    assert f"{len(encoder)} tensors were loaded, {len(state) - len(encoder)} start as U-Net v2 starts them" in log
    assert f"{len(given) - len(encoder)} of the file's were left out" in log


def test_more_channels_repeat_the_first_convolution(start):
    content = pretrained()
    state = start(content, TWO_CHANNELS).bare_network.state_dict()
    key = "encoder.stem.convs.0.conv.weight"
    torch.testing.assert_close(state[key].sum(1, keepdim=True), content["network_weights"][key])
    assert torch.equal(state[key][:, 0], state[key][:, 1])


def test_the_schedule_is_that_of_fine_tuning(start):
    trainer = start(pretrained())
    rates = []
    for epoch in (0, 49, 50, 999):
        trainer.lr_scheduler.step(epoch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[:3] == pytest.approx([1e-3 / 50, 1e-3, 1e-3])
    assert 0 < rates[3] < 1e-5


def without(key: str) -> dict[str, Any]:
    content = pretrained()
    del content["network_weights"][key]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda: without("encoder.stages.0.blocks.0.conv1.conv.weight"),
            r"Missing: encoder\.stages\.0\.blocks\.0\.conv1",
        ),
        (lambda: pretrained("2d-residual-6-stages"), "Different shapes|Unexpected"),
        (lambda: {"network_weights": {"eva.pos_embed": torch.zeros(1)}}, "Missing: encoder.stem"),
    ],
    ids=["missing", "other-encoder", "primus"],
)
def test_a_checkpoint_that_does_not_fit_says_what_and_what_to_do(start, content, message):
    with pytest.raises(CheckpointError, match=f"({message}).*SDI_PLUGIN_NNSSL.*nnUNetPlannerUNetV2ResEncL"):
        start(content())


def test_without_a_checkpoint_it_says_how_to_name_one(no_data, monkeypatch):
    monkeypatch.delenv("SDI_PLUGIN_NNSSL", raising=False)
    trainer = nnunet_plans.trainer(nnUNetTrainerUNetV2_nnssl, CASE)
    with pytest.raises(FileNotFoundError, match="expected a checkpoint to start from, got none.*SDI_PLUGIN_NNSSL"):
        trainer._load_nnssl()


def test_it_has_variants():
    assert variants.nnUNetTrainerUNetV2_nnssl_150epochs_NoMirroring.epochs == 150
