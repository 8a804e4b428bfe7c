"""U-Net v2 without any framework: an encoder, and the decoder of the paper."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sdi_plugin import canvas, checkpoint, files, frameworks, precision
from sdi_plugin.checkpoint.card import KEY
from sdi_plugin.checkpoint.export import WEIGHTS, build_without_weights
from sdi_plugin.checkpoint.readme import readme
from sdi_plugin.decoder import UNetV2Decoder
from sdi_plugin.encoder import TimmEncoder


class _DecoderAndHeads(UNetV2Decoder):
    """The decoder with the heads of `UNetV2`, which are named decoder.heads.* in checkpoints."""

    def __init__(self, in_channels: Sequence[int], classes: int, channels: int, *, heads: int, **options: Any):
        super().__init__(in_channels, channels, **options)
        self.heads = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _ in range(heads))


class UNetV2(nn.Module):
    """U-Net v2 (Peng, Sonka, Chen 2023, arXiv 2311.17791).

    Args:
        encoder: timm's name; the paper's is "pvt_v2_b2". Models with feature maps at several strides give the levels
            themselves, from stride 2; plain ViTs give four, at 1/4 to 2 patches.
        in_channels: channels of the image.
        classes: K, the channels of the logits.
        channels: C of the decoder.
        encoder_weights: None for random weights, True for pretrained weights from timm's hub, "package" for ImageNet
            weights that a Python package has (tf_efficientnet_lite0, 1 and 2), or a file: an official PVTv2
            checkpoint, or one of timm's or of safetensors. All parameters load, or none.
        deep_supervision: number of supervised levels, see below; True means 2, as in the official training.
        drop_path: stochastic depth rate of the encoder, in training mode, where it has one.
        freeze: True for the whole encoder (not the stem, nor the pyramid on a plain ViT), or the number of its finest
            levels: what they depend on gets no gradients, keeps nothing for backward, and stays in evaluation mode
            (batch norm too).
        stem: True for two more levels, at strides 1 and 2, from light convolutions on the image, before an encoder
            that starts at stride 4; for boundary detail, at the cost of maps of the image's size.
        image_size: N or (H, W), for encoders that are built for one size of images; by default timm's own.
        norm, fusion: those of `SDI`; None and "product" as in the paper.
        init: initialisation of the decoder, "paper" or "unit"; see `UNetV2Decoder`.
        checkpointing: recompute maps in backward instead of storing them; also `set_grad_checkpointing()`.

    Shape:
        x: (B, in_channels, H, W), any H and W from 1 pixel, unless the encoder takes one size only. Returns logits
        (B, K, H, W); in training mode with deep_supervision=n >= 1 a list of n logits (B, K, H, W), finest first.

    Convention:
        Logits are resized bilinearly, align_corners=False. Images are zero-padded at the bottom and right where the
        encoder needs it, and the logits cropped: to 32 pixels (one at the coarsest level), and to a multiple of the
        patch or of the window. `preprocessing` holds the mean and std that pretrained weights expect.

    Raises:
        ValueError: an argument is out of range; timm has no such model, or no feature maps of it; an image has other
            channels or axes, or a size that the encoder does not take; or, in training mode, batch 1 has a single pixel
            at the coarsest level (batch norm).
        ImportError: timm is not installed.
        FileNotFoundError, sdi_plugin.checkpoint.CheckpointError: encoder_weights is missing or does not match.

    Examples:
        >>> import torch
        >>> from sdi_plugin import UNetV2
        >>> model = UNetV2("pvt_v2_b0", classes=2, deep_supervision=2)
        >>> images = torch.randn(2, 3, 64, 90)
        >>> [logits.shape for logits in model(images)]
        [torch.Size([2, 2, 64, 90]), torch.Size([2, 2, 64, 90])]
        >>> model.eval()(images).shape
        torch.Size([2, 2, 64, 90])
        >>> detailed = UNetV2("pvt_v2_b0", stem=True)  # six levels, from stride 1
        >>> frozen = UNetV2("vit_tiny_patch16_224", freeze=True)  # the pyramid on its tokens trains
        >>> frozen(images).shape
        torch.Size([2, 1, 64, 90])
    """

    def __init__(
        self,
        encoder: str = "pvt_v2_b2",
        in_channels: int = 3,
        classes: int = 1,
        channels: int = 32,
        encoder_weights: bool | str | Path | None = None,
        deep_supervision: int = 0,
        *,
        drop_path: float = 0.1,
        freeze: bool | int = False,
        stem: bool = False,
        image_size: int | tuple[int, int] | None = None,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "paper",
        checkpointing: bool = False,
    ):
        super().__init__()
        if classes < 1 or in_channels < 1:
            raise ValueError(f"UNetV2: expected in_channels and classes >= 1, got {in_channels=}, {classes=}.")
        self.deep_supervision = 2 if deep_supervision is True else int(deep_supervision)
        self.encoder = TimmEncoder(
            encoder, in_channels, encoder_weights, drop_path=drop_path, image_size=image_size, freeze=freeze, stem=stem
        )
        levels = len(self.encoder.out_channels)
        if not 0 <= self.deep_supervision <= levels:
            raise ValueError(
                f"UNetV2: expected deep_supervision from 0 to {levels} (one head per level at most), got "
                f"{deep_supervision}."
            )
        self.decoder = _DecoderAndHeads(
            self.encoder.out_channels,
            classes,
            channels,
            strides=self.encoder.steps,
            heads=max(1, self.deep_supervision),
            norm=norm,
            fusion=fusion,
            init=init,
        )
        self.set_grad_checkpointing(checkpointing)

    @property
    def preprocessing(self) -> dict[str, tuple[float, ...]]:
        """`mean` and `std` per channel, for pixels from 0 to 1, of the images on which the weights were trained."""
        return {"mean": self.encoder.mean, "std": self.encoder.std}

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "UNetV2":
        """The network of a checkpoint, built to fit its weights, in eval mode.

        Args:
            path: a file of U-Net v2 (official, core, smp, MMSegmentation or nnU-Net), or a folder with one, see
                `sdi_plugin.checkpoint.read_whole`. The encoder is a PVTv2, or one of timm's that the file names.

        Raises:
            FileNotFoundError: there is no such file.
            sdi_plugin.checkpoint.CheckpointError: it cannot be read, or is another network's.

        Examples:
            >>> from sdi_plugin import UNetV2
            >>> model = UNetV2.from_checkpoint("official.pth")
            >>> model.encoder.name, len(model.decoder.heads), model.training
            ('pvt_v2_b0', 4, False)
        """
        found = checkpoint.read_whole(path)
        try:
            return cls.from_state(found.state, found.card)
        except checkpoint.CheckpointError as error:
            raise checkpoint.CheckpointError(f"{found.file}: {error}") from error

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], card: checkpoint.Card | None = None) -> "UNetV2":
        """`from_checkpoint` for weights that have been read, and a card that names an encoder other than a PVTv2."""
        recognised = checkpoint.recognise(state, card)
        description = recognised.description
        expected = build_without_weights(lambda arguments: cls(**arguments), description).state_dict()
        checkpoint.check(recognised.core, expected, f"UNetV2 ({description['encoder']})")
        model = cls(**description)
        model.load_state_dict(recognised.core)
        if card is not None and card.mean is not None and card.std is not None:
            model.encoder.mean, model.encoder.std = (
                tuple(value / 255 for value in values) for values in (card.mean, card.std)
            )
        return model.eval()

    def save(self, path: str | Path, card: checkpoint.Card | None = None) -> None:
        """Write the weights to a safetensors file that `sdi_plugin.load` takes, whatever the encoder; or to a folder.

        Args:
            path: a file that ends in .safetensors, or a folder for model.safetensors and a README.md with the card.
            card: what is known besides; without one, `preprocessing`. The network's own arguments are filled in.

        Examples:
            >>> import sdi_plugin
            >>> sdi_plugin.UNetV2("convnext_atto", classes=2).save("mine.safetensors")
            >>> sdi_plugin.load("mine.safetensors").network.encoder.name
            'convnext_atto'
        """
        if card is None:
            mean, std = (tuple(255 * value for value in self.preprocessing[name]) for name in ("mean", "std"))
            card = checkpoint.Card(mean=mean, std=std)
        built = {"encoder": self.encoder.name, "in_channels": self.encoder.in_channels}
        built["image_size"] = self.encoder.image_size
        named = checkpoint.Card(architecture={"framework": "core", "arguments": built})
        arguments = checkpoint.describe(self.state_dict(), named)
        card = dataclasses.replace(
            card,
            architecture={"framework": "core", "arguments": arguments},
            versions={**card.versions, **frameworks.versions()},
        )
        metadata = {"format": "pt", KEY: card.to_json()}
        if Path(path).suffix:
            checkpoint.save(path, self.state_dict(), metadata)
            return
        with files.folder(Path(path), into=True) as partial:
            checkpoint.save(partial / WEIGHTS, self.state_dict(), metadata)
            (partial / "README.md").write_text(readme(card), encoding="utf-8")

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As for every module, with a cure in the error for weights that have more heads than the network."""
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            names = {name for name in state_dict if name.startswith("decoder.heads.")}
            heads = len(names) // 2
            if heads <= len(self.decoder.heads):
                raise
            raise RuntimeError(
                f"{error}\nThe weights have {heads} heads, the network {len(self.decoder.heads)}. Use "
                f"UNetV2.from_checkpoint(FILE), which builds the network that fits, or deep_supervision={heads}, or "
                'sdi_plugin.checkpoint.load_state(model, weights, heads="drop").'
            ) from error

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        if self.training and self.deep_supervision:
            return self.forward_heads(x)
        return self._logits(x, 1)[0]

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """The logits (B, K, H, W) of every head, finest first, in training and eval mode.

        The published polyp scores are those of the sum of the two finest heads: `sum(model.forward_heads(x))`.
        """
        return self._logits(x, len(self.decoder.heads))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.encoder.set_grad_checkpointing(enable)
        self.decoder.set_grad_checkpointing(enable)

    def _pad(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.encoder.in_channels:
            raise ValueError(
                f"UNetV2: expected images (B, {self.encoder.in_channels}, H, W), got {tuple(x.shape)}. "
                "Pass in_channels= when building the network for other images."
            )
        return self.encoder.pad(x)

    def _logits(self, x: Tensor, heads: int) -> list[Tensor]:
        padded = self._pad(x)
        ys = self.decoder(self.encoder(padded))[:heads]
        with precision.float32_stays(ys[0]):
            logits = [head(y) for head, y in zip(self.decoder.heads, ys, strict=False)]
        return [canvas.to_image(each, x.shape[2:], padded.shape[2:]) for each in logits]
