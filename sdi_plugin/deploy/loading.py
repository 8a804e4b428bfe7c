"""Any checkpoint as a network that fits it, with what is known of its images and classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sdi_plugin import checkpoint
from sdi_plugin.checkpoint import Card, CheckpointError
from sdi_plugin.deploy.exports import export_of
from sdi_plugin.model import UNetV2


@dataclass(frozen=True)
class Loaded:
    """A network in eval mode, with its card. A call gives its logits, without gradients.

    Attributes:
        network: the core's `UNetV2` wherever the weights are its own, else the framework's network.
        card: mean, std, size, labels, threshold and more, as far as the checkpoint says; the size of an encoder that is
            built for one, unless each image has its own mean and deviation (nnU-Net, which does not resize images).
        file: the file of the weights.

    Shape:
        images: normalised (B, C, H, W), or volumes for a 3-D network of nnU-Net. Returns logits (B, K, H, W).

    Examples:
        >>> import torch
        >>> import sdi_plugin
        >>> model = sdi_plugin.load("unetv2-smp")
        >>> model(torch.randn(1, 3, 64, 90)).shape
        torch.Size([1, 1, 64, 90])
    """

    network: nn.Module
    card: Card
    file: Path

    def __post_init__(self) -> None:
        if self.only_size is not None and self.card.size is None and not self.card.per_image:
            object.__setattr__(self, "card", replace(self.card, size=self.only_size))

    @property
    def only_size(self) -> tuple[int, int] | None:
        """(height, width) of all images that the network takes, where its encoder was built for one size."""
        encoder = getattr(self.network, "encoder", None)
        size: Any = getattr(self.network, "image_size", None) or getattr(encoder, "image_size", None)
        return None if size is None else (int(size[0]), int(size[1]))

    @property
    def channels(self) -> int:
        """Of its images."""
        return self._stem.in_channels

    @property
    def dim(self) -> int:
        """2 for images, 3 for volumes."""
        return 3 if isinstance(self._stem, nn.Conv3d) else 2

    @property
    def _stem(self) -> nn.Conv2d | nn.Conv3d:
        return next(layer for layer in self.network.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        if self.card.summed_heads > 1 and isinstance(self.network, UNetV2):
            return torch.stack(self.network.forward_heads(images)[: self.card.summed_heads]).sum(0)
        return self.network(images)


def load(path: str | Path) -> Loaded:
    """The network of a checkpoint, built to fit, in eval mode, with what is known of its images and classes.

    Args:
        path: a file or folder as `sdi_plugin.checkpoint.read_whole` takes it: official U-Net v2, the core's, what smp's
            save_pretrained or the demo wrote, MMSegmentation, nnU-Net. smp's own encoders and the networks of nnU-Net's
            plans need their framework; encoders of timm do not.

    Raises:
        FileNotFoundError: there is no such file.
        sdi_plugin.checkpoint.CheckpointError: it cannot be read, or is not a U-Net v2.
        ImportError: the framework of the network is not installed.

    Examples:
        >>> import sdi_plugin
        >>> model = sdi_plugin.load("official.pth")
        >>> model.network.encoder.name, model.card.labels
        ('pvt_v2_b0', ())
    """
    found = checkpoint.read_whole(path)
    try:
        return Loaded(_network(found.state, found.card).eval(), found.card, found.file)
    except CheckpointError as error:
        raise CheckpointError(f"{found.file}: {error}") from error


def _network(state: Mapping[str, Tensor], card: Card) -> nn.Module:
    try:
        return UNetV2.from_state(state, card)
    except CheckpointError:
        restore = _restoring(card)
        if restore is None:
            raise
    return restore(card.architecture["arguments"], state)


def _restoring(card: Card) -> Callable[[Mapping[str, Any], Mapping[str, Tensor]], nn.Module] | None:
    """`restore` of the adapter that knows the architecture."""
    if card.architecture.get("framework") not in ("smp", "nnunet"):
        return None
    return cast(Any, export_of(card.architecture["framework"])).restore
