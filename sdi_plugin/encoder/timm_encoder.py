"""A model of timm as a feature pyramid, with weights that load completely or not at all."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdi_plugin import canvas
from sdi_plugin.encoder import weights as pretrained
from sdi_plugin.encoder.build import check_name, create, create_pyramid
from sdi_plugin.encoder.freeze import freeze as freeze_levels
from sdi_plugin.encoder.freeze import frozen_parts
from sdi_plugin.encoder.plain import PlainViT
from sdi_plugin.encoder.stem import CHANNELS, STRIDES, ConvStem


class TimmEncoder(nn.Module):
    """A model of timm as a feature pyramid.

    Attributes:
        out_channels, strides: one per level, fine to coarse; read from the model.
        min_size: pixels that each axis needs for the coarsest level to have one.
        multiple: the size of images must be a multiple of this.
        image_size: the only size (H, W) of images that the model takes, or None.
        stem: the `ConvStem` of the two finest levels, or None.
        frozen: the number of timm's finest levels whose part of the network is frozen.
        mean, std: per channel, of the images on which the weights were trained, for pixels from 0 to 1.

    Args:
        name: timm's model name. A plain ViT gets the small pyramid of `PlainViT`.
        in_channels: channels of the image.
        weights: None, True (timm's hub), "package" or a file, see `UNetV2`.
        drop_path: stochastic depth rate, for models that have it.
        out_indices: the features of timm to use as levels; by default all from stride 2. Stages after the last of them
            are not built.
        image_size: N or (H, W), for models that are built for one size; by default timm's own.
        stem: whether a `ConvStem` gives levels at strides 1 and 2, before those of a model whose finest has stride 3.5
            or more.
        freeze: True, or the number of timm's finest levels: the part of timm's network on which they depend gets no
            gradients and stays in evaluation mode.
        owner: the class name with which an error about the name or the hub begins.

    Shape:
        x: (B, in_channels, H, W). Returns one map (B, out_channels[j], H_j, W_j) per level, with H_j near
        H / strides[j].
    """

    def __init__(
        self,
        name: str = "pvt_v2_b2",
        in_channels: int = 3,
        weights: bool | str | Path | None = None,
        *,
        drop_path: float = 0.1,
        out_indices: Sequence[int] | None = None,
        image_size: int | tuple[int, int] | None = None,
        stem: bool = False,
        freeze: bool | int = False,
        owner: str = "UNetV2",
    ):
        super().__init__()
        check_name(name, owner)
        pretrained.check(weights)
        self.name, self.in_channels, self._owner = name, in_channels, owner
        self.frozen, self.stem = 0, None
        arguments: dict[str, Any] = {"in_chans": in_channels, "drop_path": drop_path}
        if image_size is not None:
            arguments["img_size"] = image_size
        chosen = {} if out_indices is None else {"out_indices": tuple(out_indices)}
        self.model: Any = create_pyramid(name, owner, **arguments, **chosen)
        self.strides: tuple[float, ...] = tuple(self.model.feature_info.reduction())
        self.out_channels: tuple[int, ...] = tuple(self.model.feature_info.channels())
        if len(set(self.strides)) < len(self.strides):
            if chosen:
                raise ValueError(f"{owner}: {name!r} is a plain ViT, whose levels are fixed. Leave out out_indices.")
            self.model = PlainViT(create(name, **arguments))
            self.strides, self.out_channels = self.model.strides, self.model.out_channels
        # Maps of the image's own size cost more than they bring: smp leaves them out, too.
        self._skipped = sum(stride < 2 for stride in self.strides)
        self.strides, self.out_channels = self.strides[self._skipped :], self.out_channels[self._skipped :]
        self._channels_last = getattr(self.model, "output_fmt", None) == "NHWC"
        self._arguments = arguments
        self.mean, self.std = pretrained.statistics(self.model, None, in_channels)
        if weights is not None and weights is not False:
            self.load_weights(weights)
        self.multiple, self.image_size = self._sizes(image_size)
        self.min_size = self.multiple * -(-int(self.strides[-1]) // self.multiple)
        self._freeze(freeze)
        self.stem = self._stem() if stem else None

    def load_weights(self, weights: bool | str | Path) -> None:
        """Load weights into timm's network, all of its parameters or none; see `UNetV2`."""
        pretrained.check(weights)
        pretrained.load(self.model, self.name, weights, self._owner, **self._arguments)
        self.mean, self.std = pretrained.statistics(self.model, weights, self.in_channels)

    @property
    def network(self) -> nn.Module:
        """timm's own network, which pretrained weights are for."""
        return pretrained.network(self.model)

    @property
    def steps(self) -> list[int]:
        """From each level to the next coarser one, for `UNetV2Decoder(strides=)`."""
        return [max(1, round(coarse / fine)) for fine, coarse in itertools.pairwise(self.strides)]

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        features = self.model(x)[self._skipped :]
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return features if self.stem is None else [*self.stem(x), *features]

    def pad(self, x: Tensor) -> Tensor:
        """Zero-pad images at the bottom and right to a size that the model takes.

        Raises:
            ValueError: the model takes images of one size, and these have another.
        """
        if self.image_size is not None and tuple(x.shape[2:]) != self.image_size:
            raise ValueError(
                f"{self._owner}: expected images of {self.image_size} pixels, for which {self.name} was built, got "
                f"{tuple(x.shape[2:])}. Pass image_size=, or choose an encoder for any size, such as 'pvt_v2_b2'."
            )
        return canvas.pad(x, self.min_size, self.multiple)

    def train(self, mode: bool = True) -> "TimmEncoder":
        super().train(mode)
        if self.frozen:
            for module in frozen_parts(self):
                module.eval()
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        try:
            self.model.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError) as error:
            if enable:
                raise ValueError(f"{self._owner}: timm has no gradient checkpointing for {self.name}.") from error

    def _stem(self) -> ConvStem:
        if self.strides[0] <= STRIDES[-1]:
            raise ValueError(
                f"{self._owner}: expected an encoder that starts at stride 4 with stem=True, got {self.name!r}, which "
                f"starts at {self.strides[0]:g}. Leave stem out."
            )
        self.strides, self.out_channels = (*STRIDES, *self.strides), (*CHANNELS, *self.out_channels)
        return ConvStem(self.in_channels)

    def _sizes(self, built_for: int | tuple[int, int] | None) -> tuple[int, tuple[int, int] | None]:
        """What the size of images must be a multiple of, and the only size, if there is one; found by trying."""
        last = math.ceil(self.strides[-1])
        if not self._refusal((3 * last + 1, 4 * last + 2)):
            return 1, None
        if not self._refusal((3 * last, 4 * last)):
            return math.ceil(self.strides[-2] if isinstance(self.model, PlainViT) else last), None
        height, width = pretrained.settings(self.model)["input_size"][1:] if built_for is None else _pair(built_for)
        reason = self._refusal((height, width))
        if reason and next(self.parameters()).device.type != "meta":  # which lacks some operators
            raise ValueError(f"{self._owner}: {self.name!r} takes no images of {(height, width)} ({reason}).")
        return 1, (height, width)

    def _refusal(self, size: tuple[int, int]) -> str:
        """Why the model takes no images of that size, or an empty string."""
        training, like = self.model.training, next(self.parameters())
        try:
            with torch.no_grad():
                self.model.eval()(like.new_zeros(1, self.in_channels, *size))
        except Exception as error:  # assertions, shapes that do not fit
            return str(error) or type(error).__name__
        finally:
            self.model.train(training)
        return ""

    def _freeze(self, freeze: bool | int) -> None:
        levels = len(self.out_channels)
        frozen = levels if freeze is True else int(freeze)
        if not 0 <= frozen <= levels:
            raise ValueError(
                f"{self._owner}: expected freeze True or from 0 to {levels} (the encoder's levels), got {freeze}."
            )
        if frozen:
            size = self.image_size or (2 * self.min_size, 2 * self.min_size)
            freeze_levels(self, self.network, frozen, size)
        self.frozen = frozen
        self.train(self.training)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
