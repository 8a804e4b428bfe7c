"""PVTv2 from timm as a feature pyramid, with weights that load completely or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sdi_plugin import checkpoint, hub


def import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ImportError("The encoders come from timm. Install it: pip install 'sdi-plugin[smp]'") from error
    return timm


class TimmEncoder(nn.Module):
    """A PVTv2 from timm as a feature pyramid.

    Attributes:
        out_channels, strides: one per level, fine to coarse.
        min_size: pixels that each axis needs for the coarsest level to have one.

    Args:
        name: timm's model name.
        in_channels: channels of the image.
        weights: None, True (timm's hub) or a file, see `UNetV2`.
        drop_path: stochastic depth rate.
        out_indices: the stages to use as levels; all by default. Stages after the last of them are not built.
        owner: the class name with which an error about the name or the hub begins.

    Shape:
        x: (B, in_channels, H, W). Returns one map (B, out_channels[j], ceil(H / strides[j]), ...) per level.
    """

    def __init__(
        self,
        name: str = "pvt_v2_b2",
        in_channels: int = 3,
        weights: bool | str | Path | None = None,
        *,
        drop_path: float = 0.1,
        out_indices: Sequence[int] | None = None,
        owner: str = "UNetV2",
    ):
        super().__init__()
        timm = import_timm()
        known = timm.list_models("pvt_v2_b*")
        if name not in known:
            raise ValueError(
                f"{owner}: expected one of the encoders {', '.join(known)}, got {name!r}. For others use UNetV2Decoder "
                "on your own encoder, or the adapter for segmentation_models_pytorch."
            )
        if isinstance(weights, str | Path) and not Path(weights).is_file():
            raise FileNotFoundError(
                f"UNetV2: expected encoder_weights to be None, True or a file, got no such file: {weights}."
            )
        self.name, self.in_channels = name, in_channels
        self.model = self._create(timm, weights is True, drop_path, out_indices, owner)
        self.out_channels: tuple[int, ...] = tuple(self.model.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(self.model.feature_info.reduction())
        self.min_size = self.strides[-1]
        if isinstance(weights, str | Path):
            checkpoint.load_encoder(self.model, weights, owner=name)

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        return self.model(x)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.model.set_grad_checkpointing(enable)

    def _create(
        self, timm: Any, pretrained: bool, drop_path: float, out_indices: Sequence[int] | None, owner: str
    ) -> Any:
        arguments: dict[str, Any] = {"in_chans": self.in_channels, "drop_path_rate": drop_path, "features_only": True}
        if out_indices is not None:
            arguments["out_indices"] = tuple(out_indices)
        if not pretrained:
            return timm.create_model(self.name, pretrained=False, **arguments)
        return hub.get(
            lambda: timm.create_model(self.name, pretrained=True, **arguments),
            owner,
            f"the ImageNet weights of {self.name} from timm's hub",
            "Download them elsewhere and pass the file (encoder_weights=FILE), or pass None to start from random "
            "weights.",
            repository=timm.get_pretrained_cfg(self.name).hf_hub_id,
        )
