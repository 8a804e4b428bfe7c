"""Any model of timm as a backbone of MMSegmentation."""

from collections.abc import Mapping, Sequence

from mmengine.model import BaseModule
from torch import Tensor

from sdi_plugin.adapters.mmsegmentation.backbone import CURE, local_file
from sdi_plugin.encoder import TimmEncoder
from sdi_plugin.hub import HubError

from mmseg.registry import MODELS


@MODELS.register_module()
class TimmPyramid(BaseModule):
    """Any model of timm as a feature pyramid, plain ViTs included, with strict loading of weights.

    Args:
        name: timm's name, see `sdi_plugin.UNetV2`.
        in_channels: channels of the image.
        out_indices: the levels to return, fine to coarse; all by default.
        frozen_stages: n freezes what the n finest levels depend on; -1 and 0 freeze none. With the number of levels
            the whole network is frozen, except for the pyramid on a plain ViT.
        drop_path_rate: stochastic depth, where the model has it.
        with_cp: recompute maps in backward instead of storing them.
        stem: whether light convolutions on the image give two more levels, at strides 1 and 2.
        image_size: N or (H, W), for models that are built for one size of images.
        pretrained: True for weights from timm's hub, "package" for those of a Python package, or a file as in init_cfg.
        init_cfg: None for a random start, or dict(type="Pretrained", checkpoint=FILE): timm's, safetensors, or a URL
            (http, https), which is downloaded once, by one process per machine, and checked where it ends in
            #sha256=HEX.

    Shape:
        x: (B, in_channels, H, W). Returns a tuple of maps, one per level (`out_channels`, `strides`). Images are padded
        with zeros to a multiple of the patch or the window, where the model needs it.

    Convention:
        Weights are loaded when mmengine initialises the model, which it does for training, not for test or inference.
        All parameters load, or none and an error names the keys.

    Raises:
        ValueError: an argument out of range, a name that timm does not know, or an image with other channels or a size
            that the model does not take.
        FileNotFoundError, sdi_plugin.checkpoint.CheckpointError: on loading: the file is missing or does not match.
        RuntimeError: the hub or the URL's host does not answer within seconds.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.mmsegmentation import TimmPyramid
        >>> backbone = TimmPyramid("convnext_atto")  # in a config: backbone=dict(type="TimmPyramid", name=...)
        >>> [f.shape[1:] for f in backbone(torch.randn(1, 3, 64, 96))]
        [torch.Size([40, 16, 24]), torch.Size([80, 8, 12]), torch.Size([160, 4, 6]), torch.Size([320, 2, 3])]
    """

    def __init__(
        self,
        name: str,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        drop_path_rate: float = 0.1,
        with_cp: bool = False,
        image_size: int | Sequence[int] | None = None,
        stem: bool = False,
        pretrained: bool | str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        if isinstance(pretrained, str) and pretrained != "package":
            if init_cfg is not None:
                raise ValueError("TimmPyramid: expected pretrained or init_cfg, got both. Keep one of them.")
            init_cfg, pretrained = {"type": "Pretrained", "checkpoint": pretrained}, None
        super().__init__(init_cfg)
        size = (image_size[0], image_size[1]) if isinstance(image_size, Sequence) else image_size
        if frozen_stages < -1:
            raise ValueError(f"TimmPyramid: expected frozen_stages >= -1, got {frozen_stages}.")
        encoder = TimmEncoder(
            name,
            in_channels,
            drop_path=drop_path_rate,
            freeze=max(0, frozen_stages),
            image_size=size,
            stem=stem,
            owner="TimmPyramid",
        )
        # The parts are registered, not the encoder: their names are those of the core's after "encoder.".
        self.model, self.stem, self._encoder, self.pretrained = encoder.model, encoder.stem, (encoder,), pretrained
        levels = len(encoder.out_channels)
        self.out_indices = tuple(range(levels) if out_indices is None else out_indices)
        if not self.out_indices or list(self.out_indices) != sorted(set(self.out_indices) & set(range(levels))):
            raise ValueError(
                f"TimmPyramid: expected out_indices from 0 to {levels - 1} for {name!r}, increasing, got {out_indices}."
            )
        self.out_channels = tuple(encoder.out_channels[index] for index in self.out_indices)
        self.strides = tuple(encoder.strides[index] for index in self.out_indices)
        if with_cp:
            encoder.set_grad_checkpointing()

    @property
    def encoder(self) -> TimmEncoder:
        return self._encoder[0]

    def train(self, mode: bool = True) -> "TimmPyramid":
        super().train(mode)
        self.encoder.train(mode)  # what is frozen stays in evaluation mode
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.ndim != 4 or x.shape[1] != self.encoder.in_channels:
            raise ValueError(
                f"TimmPyramid: expected images (B, {self.encoder.in_channels}, H, W), got {tuple(x.shape)}. Pass "
                "in_channels= for other images."
            )
        features = self.encoder(self.encoder.pad(x))
        return tuple(features[index] for index in self.out_indices)

    def init_weights(self) -> None:
        """Load the weights asked for; mmengine's own loader would silently accept a file that does not fit."""
        if self.pretrained:
            try:
                self.encoder.load_weights(self.pretrained)
            except HubError as error:
                raise error.with_cure(f"Download them elsewhere, and pass {CURE}") from error
        elif isinstance(self.init_cfg, Mapping) and self.init_cfg.get("type") == "Pretrained":
            self.encoder.load_weights(local_file(self.init_cfg["checkpoint"], "TimmPyramid"))
        self._is_init = True
