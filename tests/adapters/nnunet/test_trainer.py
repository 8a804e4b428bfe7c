"""The trainers: their variants, what they make of plans, the recipe of the paper's network, both nnU-Net signatures."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.adapters.nnunet import (
    PVTUNetV2,
    nnUNetTrainerUNetV2,
    nnUNetTrainerUNetV2PVT,
    nnUNetTrainerUNetV2PVT_noPretrain,
    signature,
    trainer,
)
from sdi_plugin.adapters.nnunet.plans import class_path, with_unetv2
from tests import official
from tests.adapters.nnunet import plans as nnunet_plans


@pytest.mark.parametrize("case", nnunet_plans.CASES)
def test_plans_name_the_network_and_nnunets_own_trainer_builds_it(folders, case):
    ours = nnunet_plans.trainer(nnUNetTrainerUNetV2, case)
    plans = PlansManager(ours.my_init_kwargs["plans"])
    configuration = plans.get_configuration(ours.configuration_name)
    build: Any = nnUNetTrainer.build_network_architecture
    network = build(*signature_arguments(plans, configuration), 1, 2, enable_deep_supervision=True)
    assert class_path(type(network)) == configuration.network_arch_class_name
    assert with_unetv2(plans.plans) == plans.plans
    before = nnunet_plans.plans(case)
    with_unetv2(before)
    assert before == nnunet_plans.plans(case)


@pytest.mark.parametrize("kind", [nnUNetTrainerUNetV2, nnUNetTrainerUNetV2PVT])
def test_an_exported_model_says_that_it_needs_the_plugin(folders, kind):
    """nnUNetv2_export_model_to_zip takes known files only, and plans.json is the one among them that we write."""
    ours = nnunet_plans.trainer(kind)
    model = Path(ours.output_folder_base)
    (model / "plans.json").write_text(json.dumps(ours.plans_manager.plans))  # as nnU-Net's on_train_start does
    for name in ("dataset.json", "dataset_fingerprint.json", "fold_0/checkpoint_final.pth", "fold_0/progress.png"):
        (model / name).touch()
    (model / "fold_0" / "validation").mkdir()
    (model / "fold_0" / "validation" / "summary.json").touch()
    export_pretrained_model("Dataset001_Test", str(folders / "model.zip"), ("2d",), kind.__name__, folds=(0,))
    with zipfile.ZipFile(folders / "model.zip") as exported:
        (plans,) = (name for name in exported.namelist() if name.endswith("plans.json"))
        content = json.loads(exported.read(plans))
    assert next(iter(content)) == "requires"
    assert "pip install 'sdi-plugin[nnunet]'" in content["requires"]


def signature_arguments(plans, configuration) -> Any:
    """What the installed nnU-Net passes before the channels."""
    if signature.TAKES_MANAGERS:
        return plans, configuration
    return (
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
    )


def test_the_signature_before_2_7(folders, monkeypatch):
    monkeypatch.setattr(signature, "TAKES_MANAGERS", False)
    build = signature.network_builder(trainer._build)
    kind: Any = type("Old", (nnUNetTrainerUNetV2,), {"build_network_architecture": build})
    architecture, patch = nnunet_plans.CASES["3d"]
    network = kind.build_network_architecture(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        2,
        enable_deep_supervision=False,
    )
    assert network(torch.randn(2, 1, *patch)).shape == (2, 2, *patch)


def test_the_log_says_where_no_kernel_is_available(no_data, monkeypatch):
    monkeypatch.setattr(trainer, "_missing_kernel", lambda device: "none today")
    ours = nnunet_plans.trainer(nnUNetTrainerUNetV2)
    ours.initialize()
    assert "no fused kernel is available for SDI on cpu (none today)" in Path(ours.log_file).read_text()
    assert all(sdi.checkpointing for sdi in ours.bare_network.decoder.skip.sdi)


@pytest.mark.parametrize("size", [(48, 40), (33, 70), (20, 90)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pvt_takes_any_size_and_channels_at_the_scales_of_its_labels(folders, size, channels):
    ours = nnunet_plans.trainer(nnUNetTrainerUNetV2PVT_noPretrain)
    network = PVTUNetV2(channels, 2, "pvt_v2_b0")
    outputs = network(torch.randn(1, channels, *size))
    scales = ours._get_deep_supervision_scales() or []
    labels = [tuple(round(n * s) for n, s in zip(size, scale, strict=True)) for scale in scales]
    assert [tuple(y.shape) for y in outputs] == [(1, 2, *label) for label in labels]
    network.decoder.deep_supervision = False
    assert network(torch.randn(1, channels, *size)).shape == (1, 2, *size)


@pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning")  # timm's depthwise convolutions
def test_pvt_trains_every_parameter_on_four_heads_with_its_loss(folders):
    ours = nnunet_plans.trainer(nnUNetTrainerUNetV2PVT_noPretrain)
    loss: Any = ours._build_loss()
    assert (loss.loss.weight_dice, loss.loss.weight_ce) == (1.5, 1)
    assert sum(loss.weight_factors) == pytest.approx(1)
    network = PVTUNetV2(3, 2, "pvt_v2_b0")
    outputs = network(torch.randn(2, 3, 64, 64))
    loss(outputs, [torch.randint(0, 2, (2, 1, *y.shape[2:])) for y in outputs]).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_pvt_computes_what_the_core_does():
    state = official.state("pvt_v2_b0", classes=2, channels=16)
    core = UNetV2("pvt_v2_b0", classes=2, channels=16, deep_supervision=4).eval()
    checkpoint.load_state(core, state)
    network = PVTUNetV2(3, 2, "pvt_v2_b0", 16, deep_supervision=False).eval()
    network.load_state_dict(checkpoint.convert(state, "nnunet")[0])
    x = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        assert torch.equal(network(x), core(x))


@pytest.mark.slow
def test_pvt_compiles_to_one_graph():
    network = PVTUNetV2(3, 2, "pvt_v2_b0").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)
        for found, wanted in zip(torch.compile(network, fullgraph=True, backend="eager")(x), expected, strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("kind", [nnUNetTrainerUNetV2PVT, nnUNetTrainerUNetV2PVT_noPretrain])
def test_pvt_says_that_it_takes_no_volumes(folders, kind):
    with pytest.raises(ValueError, match="expected a 2-D configuration, got '3d_fullres'.*-tr nnUNetTrainerUNetV2"):
        nnunet_plans.trainer(kind, "3d")
    manager = PlansManager(nnunet_plans.plans("3d"))
    with pytest.raises(ValueError, match="timm's encoders take images only"):
        kind.build_network_architecture(*signature_arguments(manager, manager.get_configuration("3d_fullres")), 1, 2)


def started(kind=nnUNetTrainerUNetV2PVT):
    """A trainer, with the network in the state that on_train_start leaves."""
    ours = nnunet_plans.trainer(kind)
    ours.initialize()
    ours._load_pretrained_weights()
    return ours.bare_network.encoder.model.state_dict(), Path(ours.log_file).read_text()


def test_pvt_starts_from_the_weights_in_a_file(folders, small, monkeypatch, tmp_path):
    torch.save(official.pvt_v2_state("pvt_v2_b0"), tmp_path / "pvt.pth")
    monkeypatch.setenv("SDI_PLUGIN_PVT_WEIGHTS", str(tmp_path / "pvt.pth"))
    state, log = started()
    assert f"the encoder starts from {tmp_path / 'pvt.pth'}" in log
    expected = checkpoint.read(tmp_path / "pvt.pth")
    assert torch.equal(state["stages_0.norm.weight"], expected["norm1.weight"])
    assert state["patch_embed.proj.weight"].shape[1] == 1  # adapted to the data's single channel


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, FileNotFoundError), (b"no weights", checkpoint.CheckpointError)],
    ids=["missing", "bad"],
)
def test_pvt_without_its_weights_is_an_error_with_the_ways_out(folders, small, monkeypatch, tmp_path, content, error):
    if content is not None:
        (tmp_path / "pvt.pth").write_bytes(content)
    monkeypatch.setenv("SDI_PLUGIN_PVT_WEIGHTS", str(tmp_path / "pvt.pth"))
    with pytest.raises(error, match=r"pvt\.pth.*SDI_PLUGIN_PVT_WEIGHTS.*nnUNetTrainerUNetV2PVT_noPretrain"):
        started()


def test_pvt_without_the_hub_is_an_error_with_the_ways_out(folders, small, monkeypatch):
    monkeypatch.delenv("SDI_PLUGIN_PVT_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(RuntimeError, match="could not get.*SDI_PLUGIN_PVT_WEIGHTS.*_noPretrain") as raised:
        started()
    assert "encoder_weights" not in str(raised.value)  # the core's cure, which no trainer takes


def test_the_log_reports_a_random_start(folders, small):
    assert "the encoder starts at random" in started(nnUNetTrainerUNetV2PVT_noPretrain)[1]


def test_prediction_needs_no_imagenet_weights(folders):
    """nnU-Net builds the network for prediction in the same way, where the hub may be out of reach."""
    manager = PlansManager(nnunet_plans.plans("2d"))
    arguments = signature_arguments(manager, manager.get_configuration("2d"))
    build: Any = nnUNetTrainerUNetV2PVT.build_network_architecture
    network = build(*arguments, 5, 2, enable_deep_supervision=False)
    assert (network.encoder.in_channels, network.encoder.name) == (5, "pvt_v2_b2")
