"""The planners: plans that build, sized by what U-Net v2 needs, where nnU-Net's own would be too large."""

import json
from typing import Any

import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as resenc
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from benchmarks import nnunet as benchmark
from sdi_plugin import ops
from sdi_plugin.adapters import nnunet
from sdi_plugin.adapters.nnunet.plans import REQUIRES, class_path

PLANNERS = {
    "nnUNetPlannerUNetV2": (ExperimentPlanner, "nnUNetUNetV2Plans", nnunet.PlainConvUNetV2),
    "nnUNetPlannerUNetV2ResEncM": (
        resenc.nnUNetPlannerResEncM,
        "nnUNetUNetV2ResEncUNetMPlans",
        nnunet.ResidualEncoderUNetV2,
    ),
    "nnUNetPlannerUNetV2ResEncL": (
        resenc.nnUNetPlannerResEncL,
        "nnUNetUNetV2ResEncUNetLPlans",
        nnunet.ResidualEncoderUNetV2,
    ),
    "nnUNetPlannerUNetV2ResEncXL": (
        resenc.nnUNetPlannerResEncXL,
        "nnUNetUNetV2ResEncUNetXLPlans",
        nnunet.ResidualEncoderUNetV2,
    ),
}
planners = pytest.mark.parametrize("name", PLANNERS)


@pytest.fixture
def plan(monkeypatch, tmp_path):
    """plan(planner class): the plans for 200 volumes of 96 x 160 x 160 at 1 mm, which exist only as numbers."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    raw, preprocessed = tmp_path / "raw" / "Dataset001_Test", tmp_path / "preprocessed" / "Dataset001_Test"
    for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        folder.mkdir(parents=True)
    (raw / "imagesTr" / "case_0000.nii.gz").touch()
    (raw / "labelsTr" / "case.nii.gz").touch()
    dataset = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 200,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    fingerprint = {
        "spacings": [[1, 1, 1]],
        "shapes_after_crop": [[96, 160, 160]],
        "median_relative_size_after_cropping": 1,
        "foreground_intensity_properties_per_channel": {},
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))

    def plan(planner: Any, **named: Any) -> dict[str, Any]:
        made = planner(1, **named)
        with torch.device("meta"):  # planners build the networks for their shapes alone
            made.plan_experiment()
        return json.loads((preprocessed / f"{made.plans_identifier}.json").read_text())

    return plan


def network(plans: dict[str, Any], configuration: str) -> Any:
    found = PlansManager(plans).get_configuration(configuration)
    with torch.device("meta"):
        return get_network_from_plans(
            found.network_arch_class_name,
            found.network_arch_init_kwargs,
            found.network_arch_init_kwargs_req_import,
            1,
            3,
            allow_init=True,
            deep_supervision=True,
        )


@planners
def test_plans_build_and_name_what_they_are_for(plan, name):
    _, plans_name, expected = PLANNERS[name]
    plans = plan(getattr(nnunet, name))
    assert (plans["plans_name"], plans["experiment_planner_used"]) == (plans_name, name)
    assert plans["requires"] == REQUIRES["requires"]
    for configuration in ("2d", "3d_fullres"):
        found = plans["configurations"][configuration]
        assert found["architecture"]["network_class_name"] == class_path(expected)
        assert found["data_identifier"] == f"nnUNetPlans_{configuration}"
        built = network(plans, configuration)
        assert type(built) is expected
        outputs = built(torch.empty(2, 1, *found["patch_size"], device="meta"))
        assert outputs[0].shape == (2, 3, *found["patch_size"])


def memory(plans: dict[str, Any], configuration: str) -> int:
    """What nnU-Net's estimate takes the memory of a step from: elements of the convolutions' outputs."""
    found = plans["configurations"][configuration]
    return found["batch_size"] * network(plans, configuration).compute_conv_feature_map_size(found["patch_size"])


@planners
def test_a_plan_uses_the_memory_that_nnunets_own_does(plan, name):
    """Whatever the network needs for an image: batches of images fill the memory, patches of volumes nearly."""
    ours, stock = plan(getattr(nnunet, name)), plan(PLANNERS[name][0])
    for configuration, tolerance in (("2d", 0.01), ("3d_fullres", 0.15)):
        assert memory(ours, configuration) == pytest.approx(memory(stock, configuration), rel=tolerance)


def voxels(configuration: dict[str, Any]) -> int:
    return configuration["batch_size"] * int(torch.tensor(configuration["patch_size"]).prod())


def test_the_memory_target_and_the_plans_name_are_arguments_as_in_nnunet(plan):
    small = plan(nnunet.nnUNetPlannerUNetV2, gpu_memory_target_in_gb=4, plans_name="mine")
    assert small["plans_name"] == "mine"
    sizes = [voxels(each["configurations"]["3d_fullres"]) for each in (small, plan(nnunet.nnUNetPlannerUNetV2))]
    assert sizes[0] < sizes[1]


@pytest.mark.slow
@pytest.mark.skipif(not ops.backends()["cpu"]["available"], reason="the estimate holds where a fused op is available")
@pytest.mark.parametrize(
    "patch", [pytest.param(patch, marks=pytest.mark.long if "3-D" in patch else ()) for patch in benchmark.MEDIUM]
)
def test_the_estimate_is_near_the_peak_of_a_step(patch):
    """Relative to nnU-Net's own network, as its planners use it."""

    def measure(name: str, checkpointing: bool = False) -> dict[str, int]:
        return benchmark.peak(name, patch, checkpointing=checkpointing, kernel=True)

    stock, residual = measure("PlainConvUNet"), measure("ResEncUNet-M")
    for ours, own in (
        (measure("U-Net v2, plain encoder"), stock),
        (measure("U-Net v2, plain encoder", checkpointing=True), stock),
        (measure("U-Net v2, ResEnc-M encoder"), residual),
    ):
        assert 0.9 < (ours["estimate"] / own["estimate"]) / (ours["peak"] / own["peak"]) < 1.1
