"""Plans whose patch and batch sizes are those that U-Net v2 has room for."""

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from sdi_plugin.adapters.nnunet.network import PlainConvUNetV2


class nnUNetPlannerUNetV2(ExperimentPlanner):  # noqa: N801
    """nnU-Net's default planner for U-Net v2; train with -p nnUNetUNetV2Plans.

    nnU-Net looks for planners in its own package only: `sdi-plugin nnunet run nnUNetv2_plan_experiment -d DATASET -pl
    nnUNetPlannerUNetV2` makes it known. The reference memory is that of nnU-Net's default planner, in the same measure
    (see `PlainConvUNetV2.compute_conv_feature_map_size`). The plans name the network's class, so that nnU-Net's own
    nnUNetTrainer trains them too.
    """

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str = "nnUNetUNetV2Plans",
        overwrite_target_spacing: list[float] | tuple[float, ...] | None = None,
        suppress_transpose: bool = False,
    ):
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name,
            overwrite_target_spacing,  # pyright: ignore[reportArgumentType]  (None is nnU-Net's own default)
            suppress_transpose,
        )
        self.UNet_class: type = PlainConvUNetV2

    def generate_data_identifier(self, configuration_name: str) -> str:
        """2d and 3d_fullres share the data that nnUNetPlans have preprocessed; see nnU-Net's ResEncUNetPlanner."""
        shared = configuration_name in ("2d", "3d_fullres")
        return f"{'nnUNetPlans' if shared else self.plans_identifier}_{configuration_name}"
