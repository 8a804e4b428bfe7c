"""Plans whose patch and batch sizes leave enough memory for U-Net v2."""

from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    ResEncUNetPlanner,
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
    nnUNetPlannerResEncXL,
)

from sdi_plugin.adapters.nnunet.network import PlainConvUNetV2, PlanUNetV2, ResidualEncoderUNetV2
from sdi_plugin.adapters.nnunet.plans import with_unetv2


class _UNetV2Planner(ExperimentPlanner):
    """Common to the planners: a planner of nnU-Net's, for another network, under another name.

    nnU-Net looks for planners in its own package only: `sdi-plugin nnunet run nnUNetv2_plan_experiment -d DATASET -pl
    PLANNER` makes them available. Reference memory and targets are nnU-Net's, in the same measure (see
    `PlanUNetV2.compute_conv_feature_map_size`); 2d and 3d_fullres share the data that nnUNetPlans have preprocessed.
    The plans name the network's class, so that nnU-Net's own nnUNetTrainer trains them too.

    Attributes:
        network: class attribute, the network that the plans are made for.
        default_plans_name: class attribute, the default name of the plans.
    """

    network: type[PlanUNetV2]
    default_plans_name: str

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float | None = None,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: list[float] | tuple[float, ...] | None = None,
        suppress_transpose: bool = False,
    ):
        target = {} if gpu_memory_target_in_gb is None else {"gpu_memory_target_in_gb": gpu_memory_target_in_gb}
        super().__init__(
            dataset_name_or_id,
            preprocessor_name=preprocessor_name,
            plans_name=plans_name or self.default_plans_name,
            overwrite_target_spacing=overwrite_target_spacing,  # pyright: ignore[reportArgumentType]  (nnU-Net's own default is None)
            suppress_transpose=suppress_transpose,
            **target,
        )
        self.UNet_class: type = self.network

    def save_plans(self, plans: dict[str, Any]) -> None:
        super().save_plans(with_unetv2(plans))

    generate_data_identifier = ResEncUNetPlanner.generate_data_identifier


class nnUNetPlannerUNetV2(_UNetV2Planner):  # noqa: N801
    """nnU-Net's default planner for U-Net v2; train with -p nnUNetUNetV2Plans.

    Examples:
        `sdi-plugin nnunet run nnUNetv2_plan_experiment -d 4 -pl nnUNetPlannerUNetV2` calls it.

        >>> from sdi_plugin.adapters.nnunet import nnUNetPlannerUNetV2
        >>> nnUNetPlannerUNetV2.default_plans_name
        'nnUNetUNetV2Plans'
    """

    network = PlainConvUNetV2
    default_plans_name = "nnUNetUNetV2Plans"


class nnUNetPlannerUNetV2ResEncM(_UNetV2Planner, nnUNetPlannerResEncM):  # noqa: N801
    """nnU-Net's ResEnc M, for GPUs of 9 to 11 GB, for U-Net v2; train with -p nnUNetUNetV2ResEncUNetMPlans.

    Examples:
        `sdi-plugin nnunet run nnUNetv2_plan_experiment -d 4 -pl nnUNetPlannerUNetV2ResEncM` calls it.

        >>> from sdi_plugin.adapters.nnunet import nnUNetPlannerUNetV2ResEncM
        >>> nnUNetPlannerUNetV2ResEncM.default_plans_name
        'nnUNetUNetV2ResEncUNetMPlans'
    """

    network = ResidualEncoderUNetV2
    default_plans_name = "nnUNetUNetV2ResEncUNetMPlans"


class nnUNetPlannerUNetV2ResEncL(_UNetV2Planner, nnUNetPlannerResEncL):  # noqa: N801
    """nnU-Net's ResEnc L, for GPUs of 24 GB, for U-Net v2; train with -p nnUNetUNetV2ResEncUNetLPlans.

    Examples:
        `sdi-plugin nnunet run nnUNetv2_plan_experiment -d 4 -pl nnUNetPlannerUNetV2ResEncL` calls it.

        >>> from sdi_plugin.adapters.nnunet import nnUNetPlannerUNetV2ResEncL
        >>> nnUNetPlannerUNetV2ResEncL.default_plans_name
        'nnUNetUNetV2ResEncUNetLPlans'
    """

    network = ResidualEncoderUNetV2
    default_plans_name = "nnUNetUNetV2ResEncUNetLPlans"


class nnUNetPlannerUNetV2ResEncXL(_UNetV2Planner, nnUNetPlannerResEncXL):  # noqa: N801
    """nnU-Net's ResEnc XL, for GPUs of 40 GB, for U-Net v2; train with -p nnUNetUNetV2ResEncUNetXLPlans.

    Examples:
        `sdi-plugin nnunet run nnUNetv2_plan_experiment -d 4 -pl nnUNetPlannerUNetV2ResEncXL` calls it.

        >>> from sdi_plugin.adapters.nnunet import nnUNetPlannerUNetV2ResEncXL
        >>> nnUNetPlannerUNetV2ResEncXL.default_plans_name
        'nnUNetUNetV2ResEncUNetXLPlans'
    """

    network = ResidualEncoderUNetV2
    default_plans_name = "nnUNetUNetV2ResEncUNetXLPlans"
