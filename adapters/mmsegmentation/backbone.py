"""PVTv2 as a backbone of MMSegmentation."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from sdi_plugin import checkpoint
from sdi_plugin.adapters.mmsegmentation import downloads
from sdi_plugin.encoder import TimmEncoder
from sdi_plugin.hub import HubError

from mmseg.registry import MODELS

_STAGES = 4
CURE = "init_cfg=dict(type='Pretrained', checkpoint=FILE), or None for a random start."


@MODELS.register_module()
class PVTv2(BaseModule):
    """Pyramid Vision Transformer v2 (Wang et al. 2022, arXiv 2106.13797), timm's, with strict loading of weights.

    Args:
        name: "pvt_v2_b0" to "pvt_v2_b5", or "pvt_v2_b2_li"; U-Net v2's is "pvt_v2_b2".
        in_channels: channels of the image.
        out_indices: the stages to return, from 0 to 3. Stages after the last of them are not built.
        frozen_stages: n freezes the first n stages, with the patch embedding; -1 and 0 freeze none.
        drop_path_rate: stochastic depth; 0.1 in the official code.
        with_cp: recompute maps in backward instead of storing them.
        pretrained: True for ImageNet weights from timm's hub, or a file as in init_cfg.
        init_cfg: None for a random start, or dict(type="Pretrained", checkpoint=FILE): an official PVTv2 or U-Net v2
            checkpoint, timm's or safetensors; a URL (http, https) is downloaded once, by one process per machine, and
            checked where it ends in #sha256=HEX.

    Shape:
        x: (B, in_channels, H, W), at least 32 pixels per axis. Returns a tuple of maps, fine to coarse, stage i with
        stride 4 * 2^i, for b2 with 64, 128, 320 and 512 channels (`out_channels`).

    Convention:
        Weights are loaded when mmengine initialises the model, which it does for training, not for test or inference.
        All parameters load, or none and an error names the keys.

    Raises:
        ValueError: an argument out of range, or an image with other channels or fewer pixels.
        FileNotFoundError, sdi_plugin.checkpoint.CheckpointError: on loading: the file is missing or does not match.
        RuntimeError: the hub or the URL's host does not answer within seconds.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.mmsegmentation import PVTv2
        >>> backbone = PVTv2("pvt_v2_b0")  # in a config: backbone=dict(type="PVTv2", name="pvt_v2_b0")
        >>> [f.shape[1:] for f in backbone(torch.randn(1, 3, 64, 96))]
        [torch.Size([32, 16, 24]), torch.Size([64, 8, 12]), torch.Size([160, 4, 6]), torch.Size([256, 2, 3])]
    """

    def __init__(
        self,
        name: str = "pvt_v2_b2",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        drop_path_rate: float = 0.1,
        with_cp: bool = False,
        pretrained: bool | str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        if isinstance(pretrained, str):
            if init_cfg is not None:
                raise ValueError("PVTv2: expected pretrained or init_cfg, got both. Keep one of them.")
            init_cfg = {"type": "Pretrained", "checkpoint": pretrained}
        super().__init__(init_cfg)
        if not out_indices or list(out_indices) != sorted(set(out_indices) & set(range(_STAGES))):
            raise ValueError(f"PVTv2: expected out_indices from 0 to 3, increasing, got {tuple(out_indices)}.")
        if not -1 <= frozen_stages <= _STAGES:
            raise ValueError(f"PVTv2: expected frozen_stages from -1 to {_STAGES}, got {frozen_stages}.")
        if not re.fullmatch(r"pvt_v2_b([0-5]|2_li)", name):
            raise ValueError(f"PVTv2: expected pvt_v2_b0, pvt_v2_b1, ... pvt_v2_b5 or pvt_v2_b2_li, got {name!r}.")
        self.name, self.in_channels, self.drop_path_rate = name, in_channels, drop_path_rate
        self.out_indices, self.frozen_stages = tuple(out_indices), frozen_stages
        self.from_hub = pretrained is True
        encoder = self._encoder()
        # The pyramid alone: its names are those of the core's and of smp's encoders after "encoder.".
        self.model = encoder.model
        self.out_channels = encoder.out_channels
        if with_cp:
            encoder.set_grad_checkpointing()
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.ndim != 4 or x.shape[1] != self.in_channels or min(x.shape[2:]) < 32:
            raise ValueError(
                f"PVTv2: expected images (B, {self.in_channels}, H, W) of at least 32 pixels per axis, got "
                f"{tuple(x.shape)}. Pass in_channels= for other images; pad small ones: "
                "data_preprocessor=dict(size_divisor=32, test_cfg=dict(size_divisor=32))."
            )
        return tuple(self.model(x))

    def init_weights(self) -> None:
        """Load the weights asked for; mmengine's own loader would silently accept a file that does not fit."""
        if self.from_hub:
            try:
                hub = self._encoder(weights=True)
            except HubError as error:
                raise error.with_cure(f"Download them elsewhere, and pass {CURE}") from error
            self.model.load_state_dict(hub.model.state_dict())
        elif isinstance(self.init_cfg, Mapping) and self.init_cfg.get("type") == "Pretrained":
            checkpoint.load_encoder(self.model, local_file(self.init_cfg["checkpoint"], "PVTv2"), owner=self.name)
        else:
            super().init_weights()
            if self.init_cfg is None:
                self._start_patch_embedding()
        self._is_init = True

    def train(self, mode: bool = True) -> "PVTv2":
        super().train(mode)
        for module in self._frozen():
            module.eval()  # no stochastic depth in what is frozen
        return self

    def no_weight_decay(self, name: str) -> bool:
        """Whether a parameter of this name, such as "model.stages_0.norm.weight", is a bias or belongs to a norm."""
        return self.get_parameter(name).ndim <= 1

    def layer_depth(self, name: str) -> tuple[int, int]:
        """The layer of a parameter of this name, and the number of layers: the patch embedding, then block by block.

        A stage's downsampling belongs to its first block, its norm to its last one.
        """
        blocks = [len(getattr(self.model, stage).blocks) for stage in self._stage_names()]
        match = re.match(r"model\.stages_(\d)\.(?:(downsample|norm)|blocks\.(\d+))\.", name)
        if match is None:
            return 0, sum(blocks) + 1
        stage, part, block = int(match[1]), match[2], int(match[3] or 0)
        if part == "norm":
            block = blocks[stage] - 1
        return sum(blocks[:stage]) + block + 1, sum(blocks) + 1

    def _start_patch_embedding(self) -> None:
        """Give the first convolution torch's own random bias in place of timm's zeros.

        mmseg pads images with zeros after it has normalised them. With a bias of zero such patches are zero after the
        convolution, the norm after it and the next block's norm, and each of these norms multiplies their gradient by
        1 / sqrt(eps) = 1000: the norm of the bias' gradient is 2e6 in the first iteration of unetv2_pvt_isic.py, that
        of all other parameters together 7e3 (1 without padding).
        """
        convolution: Any = self.model.patch_embed.proj
        bound = math.prod((convolution.in_channels, *convolution.kernel_size)) ** -0.5
        nn.init.uniform_(convolution.bias, -bound, bound)

    def _encoder(self, weights: bool | None = None) -> TimmEncoder:
        return TimmEncoder(
            self.name,
            self.in_channels,
            weights,
            drop_path=self.drop_path_rate,
            out_indices=self.out_indices,
            owner="PVTv2",
        )

    def _stage_names(self) -> list[str]:
        return [f"stages_{stage}" for stage in range(_STAGES) if hasattr(self.model, f"stages_{stage}")]

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 1:
            return []
        model: Any = self.model
        return [model.patch_embed, *(getattr(model, stage) for stage in self._stage_names()[: self.frozen_stages])]

    def _freeze(self) -> None:
        for module in self._frozen():
            module.eval()
            module.requires_grad_(False)


def local_file(path: str, owner: str) -> Path:
    """The file itself, or for a URL its copy in torch's cache; every process gets it, or the same error."""
    if path.startswith(downloads.SCHEMES):
        return downloads.fetch(path, owner, f"Download it elsewhere, and pass {CURE}")
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(
            f"{owner}: expected init_cfg's checkpoint, found no such file: {file}. Pass a file or a URL, or "
            "init_cfg=None for a random start."
        )
    return file
