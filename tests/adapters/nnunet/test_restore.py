"""`sdi_plugin.load` of nnU-Net's model folders: the plan's own network, and what plans and data set say of images."""

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

import sdi_plugin
from sdi_plugin.adapters.nnunet import PVTUNetV2
from sdi_plugin.adapters.nnunet.plans import with_unetv2
from sdi_plugin.checkpoint import CheckpointError
from tests.adapters.nnunet.plans import CASES, DATASET, plans

RGB = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"a": 1, "background": 0}, "licence": "CC0"}


def save(path, network, found, configuration, dataset):
    """What nnU-Net's save_checkpoint writes."""
    arguments = {
        "plans": found,
        "configuration": configuration,
        "fold": 0,
        "dataset_json": DATASET | dataset,
        "device": torch.device("cpu"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"network_weights": network.state_dict(), "init_args": arguments, "trainer_name": "any"}, path)


def trained(case, schemes):
    """Plans as our trainer saves them, their configuration, and their network."""
    found = with_unetv2(plans(case, normalization_schemes=schemes))
    ((configuration, content),) = found["configurations"].items()
    architecture = content["architecture"]
    network = get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"], 1, 2
    )
    return found, configuration, network.eval()


@pytest.mark.parametrize("case", ["2d", "3d-anisotropic", "2d-residual-6-stages"])
def test_the_network_of_a_plan_is_restored(tmp_path, case):
    found, configuration, network = trained(case, ["ZScoreNormalization"])
    save(tmp_path / "fold_0" / "checkpoint_final.pth", network, found, configuration, {})
    model = sdi_plugin.load(tmp_path)
    images = torch.randn(1, 1, *CASES[case][1])
    with torch.no_grad():
        assert torch.equal(model(images), network(images))
    assert model.card.per_image
    assert model.card.labels == ("background", "a")


def test_what_the_data_set_says_is_on_the_card(tmp_path):
    network = PVTUNetV2(3, 2, "pvt_v2_b0", 4)
    found = plans("2d", normalization_schemes=["RGBTo01Normalization"] * 3)
    save(tmp_path / "x.pth", network, found, "2d", RGB)
    card = sdi_plugin.load(tmp_path / "x.pth").card
    assert (card.mean, card.std, card.labels) == ((0, 0, 0), (255, 255, 255), ("background", "a"))
    assert card.data == {"name": "Dataset001_Test", "licence": "CC0"}


@pytest.mark.parametrize("code", ["subprocess.getoutput", "torch.nn.parallel.distributed.os.system"])
def test_a_plan_that_names_other_code_is_refused(tmp_path, code):
    found, configuration, network = trained("2d", ["CTNormalization"])
    arguments = found["configurations"][configuration]["architecture"]["arch_kwargs"]
    arguments |= {"nonlin": code, "nonlin_kwargs": {"command": f"touch {tmp_path}/run"}}
    save(tmp_path / "x.pth", network, found, configuration, {})
    with pytest.raises(CheckpointError, match=rf"layers of torch.nn in the plan, got .*{code}"):
        sdi_plugin.load(tmp_path / "x.pth")
    assert not (tmp_path / "run").exists()


def test_a_plan_that_makes_no_network_is_refused(tmp_path):
    found, configuration, network = trained("2d", ["CTNormalization"])
    found["configurations"][configuration]["architecture"]["arch_kwargs"]["n_stages"] = 3
    save(tmp_path / "x.pth", network, found, configuration, {})
    with pytest.raises(CheckpointError, match="as many entries"):
        sdi_plugin.load(tmp_path / "x.pth")
