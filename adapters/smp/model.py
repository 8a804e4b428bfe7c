"""U-Net v2 as an architecture of segmentation_models_pytorch."""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from segmentation_models_pytorch.base import ClassificationHead, SegmentationHead, SegmentationModel
from segmentation_models_pytorch.base import initialization as init
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from torch import Tensor, nn

from sdi_plugin import canvas, precision
from sdi_plugin.adapters.smp import encoder as encoders
from sdi_plugin.adapters.smp import probe
from sdi_plugin.adapters.smp.arguments import check_values
from sdi_plugin.checkpoint.card import KEY, Card
from sdi_plugin.checkpoint.readme import sections
from sdi_plugin.decoder import UNetV2Decoder
from sdi_plugin.encoder.stem import CHANNELS, STRIDES, ConvStem

# Below this the attention of PVTv2 and MiT has no pixels to attend to, at any encoder_depth.
_MIN_SIZE = 32

_BATCH_NORM = (
    "UNetV2: expected more than one value per channel for batch norm in training (the coarsest level has stride "
    "{stride}), got one image of {size}. Pass a batch of 2 or more or a larger image, or call eval()."
)

_CARD_IMPORT = "import segmentation_models_pytorch as smp\n"


class UNetV2(SegmentationModel):
    """U-Net v2 (Peng, Sonka, Chen 2023, arXiv 2311.17791) on any encoder of smp, and any model of timm.

    Args:
        encoder_name: an encoder of smp; the paper's is "tu-pvt_v2_b2". Plain ViTs, which smp's other decoders do not
            take, are tu- encoders too, with a small pyramid (`sdi_plugin.UNetV2`): "tu-vit_small_patch14_dinov2".
        encoder_depth: 3 to 5, the number of times that the encoder halves the image.
        encoder_weights: None for a random start; a name that smp knows for this encoder, such as "imagenet" (for tu-
            encoders also True: timm's weights of that name and tag); "package" for tu- encoders whose ImageNet weights
            a Python package has (see `sdi_plugin.UNetV2`); any other string is a file with an official
            PVTv2 checkpoint, timm's or safetensors, for tu- encoders.
        decoder_channels: C of the decoder.
        decoder_norm, decoder_fusion: for SDI's product, None and "product" as in the paper; see `sdi_plugin.SDI`.
        decoder_init: "paper" or "unit", see `sdi_plugin.UNetV2Decoder`.
        in_channels: channels of the image.
        classes: K, the channels of the masks.
        activation: applied to the masks, as for every model of smp; None gives logits.
        aux_params: parameters of a classification head on the coarsest features, as for every model of smp.
        stem: True for two more levels, at strides 1 and 2, from light convolutions on the image, before an encoder
            that starts at stride 4, such as PVTv2, MiT, ConvNeXt or a plain ViT.
        deep_supervision: number of supervised levels; True means the 2 of the official training, False none.
        kwargs: for a tu- encoder: img_size for those built for one size (Swin, Hiera, MaxViT ...), drop_path_rate
            (officially 0.1; timm's default is 0) and the like; none with which timm chooses, reads or downloads
            weights, such as checkpoint_path.

    Shape:
        x: (B, in_channels, H, W), any H and W from 1 pixel. Returns masks (B, K, H, W); in training mode with deep
        supervision a list of them, finest first; with aux_params the pair (masks, labels).

    Convention:
        Logits are resized bilinearly, align_corners=False, then activated. Images below 32 pixels are padded with
        zeros at the bottom and right, and the logits cropped. With equal weights `sdi_plugin.UNetV2` gives the same
        logits. Parameters of the encoder that no level depends on (`unused`: the stages below encoder_depth, the last
        convolution of smp's EfficientNets) are frozen, requires_grad=False, so that DistributedDataParallel needs no
        find_unused_parameters. smp's initialisation is not applied to the decoder, where it makes the product of levels
        explode. from_pretrained is strict by default, and asks neither the hub nor a file for
        encoder_weights.

    Raises:
        ValueError: an argument out of range, or one that makes timm read files; an image with other channels or axes,
            or of a size that the encoder cannot take; in training mode, batch 1 with a single pixel at the coarsest
            level (batch norm).
        TypeError: kwargs for an encoder that takes none.
        FileNotFoundError, sdi_plugin.checkpoint.CheckpointError: encoder_weights is missing or does not match.
        RuntimeError: the hub cannot be reached.

    Examples:
        >>> import segmentation_models_pytorch as smp
        >>> import torch
        >>> import sdi_plugin.adapters.smp
        >>> model = smp.UNetV2("resnet18", encoder_weights=None, classes=4)
        >>> model.eval()(torch.randn(1, 3, 97, 130)).shape
        torch.Size([1, 4, 97, 130])
    """

    requires_divisible_input_shape = False
    _is_torch_scriptable = False

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "tu-pvt_v2_b2",
        encoder_depth: int = 5,
        encoder_weights: bool | str | Path | None = "imagenet",
        decoder_channels: int = 32,
        decoder_norm: str | None = None,
        decoder_fusion: str = "product",
        decoder_init: str = "paper",
        in_channels: int = 3,
        classes: int = 1,
        activation: str | Callable[..., nn.Module] | None = None,
        aux_params: dict[str, Any] | None = None,
        deep_supervision: bool | int = False,
        stem: bool = False,
        **kwargs: Any,
    ):
        super().__init__()
        if encoder_depth not in (3, 4, 5):
            raise ValueError(f"UNetV2: expected encoder_depth from 3 to 5, got {encoder_depth!r}.")
        if classes < 1 or in_channels < 1:
            raise ValueError(f"UNetV2: expected in_channels and classes >= 1, got {in_channels=}, {classes=}.")
        if not isinstance(decoder_channels, int) or decoder_channels < 1:
            raise ValueError(
                f"UNetV2: expected decoder_channels, one int >= 1 for all levels, got {decoder_channels!r}."
            )
        # A model is restored with all its weights: its configuration must not ask for a file on this machine.
        if isinstance(encoder_weights, Path) or Path(str(encoder_weights)).is_file():
            self.config["encoder_weights"] = None

        self.encoder = encoders.build(encoder_name, in_channels, encoder_depth, encoder_weights, kwargs)
        channels = self.encoder.out_channels
        self.levels = encoders.level_indices(channels)
        multiple = getattr(self.encoder, "multiple", 1)
        self._canvas = (-(-_MIN_SIZE // multiple) * multiple, multiple)  # the smallest size, and what sizes divide by
        self.unused = tuple(probe.unused_parameters(self.encoder, in_channels, self.levels, kwargs.get("img_size")))
        self._freeze_unused()
        reductions = [encoders.reduction(self.encoder, index) for index in self.levels]
        widths = [channels[index] for index in self.levels]
        self.stem = None
        if stem:
            if reductions[0] <= STRIDES[-1]:
                raise ValueError(
                    f"UNetV2: expected an encoder that starts at stride 4 with stem=True, got {encoder_name!r}, which "
                    f"starts at {reductions[0]}. Leave stem out."
                )
            self.stem, reductions, widths = ConvStem(in_channels), [*STRIDES, *reductions], [*CHANNELS, *widths]
        heads = 2 if deep_supervision is True else int(deep_supervision)
        if not 0 <= heads <= len(widths):
            raise ValueError(
                f"UNetV2: expected deep_supervision from 0 to {len(widths)} (levels of {encoder_name!r} at "
                f"{encoder_depth=}), got {deep_supervision!r}."
            )
        self.decoder = UNetV2Decoder(
            widths,
            decoder_channels,
            strides=[coarse // fine for fine, coarse in itertools.pairwise(reductions)],
            norm=decoder_norm,
            fusion=decoder_fusion,
            init=decoder_init,
        )
        self.segmentation_head = SegmentationHead(decoder_channels, classes, kernel_size=1, activation=activation)
        self.auxiliary_heads = nn.ModuleList(nn.Conv2d(decoder_channels, classes, 1) for _ in range(heads - 1))
        self.classification_head = None if aux_params is None else ClassificationHead(channels[-1], **aux_params)

        self.in_channels = in_channels
        self._encoder_for = functools.partial(encoders.build_for_size, encoder_name, in_channels, encoder_depth, kwargs)
        self.deep_supervision = heads
        self._pixels = functools.partial(encoders.pixels, encoder_name, encoder_weights, in_channels, self.encoder)
        self.image_size = encoders.fixed_image_size(self.encoder)
        self.name = f"unetv2-{encoder_name}"
        self.initialize()

    def initialize(self) -> None:
        # Not the decoder: with smp's He initialisation the product over levels explodes.
        if self.classification_head is not None:
            init.initialize_head(self.classification_head)

    def freeze_encoder(self) -> None:
        """As for every model of smp, except that the pyramid on a plain ViT, for which there are no weights, trains."""
        _check_freezing()
        super().freeze_encoder()
        for parameter in encoders.own_parameters(self.encoder):
            parameter.requires_grad_(True)
        self._freeze_unused()

    def unfreeze_encoder(self) -> None:
        """As for every model of smp, except that parameters which the features do not use stay frozen."""
        _check_freezing()
        super().unfreeze_encoder()
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        # Not removed: state dicts, and the encoder's ImageNet weights, hold them.
        for name in self.unused:
            self.encoder.get_parameter(name).requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        self.check_input_shape(x)
        padded = canvas.pad(x, *self._canvas)
        features = self._encode(padded)
        finer = [] if self.stem is None else self.stem(padded)
        ys = self.decoder([*finer, *(features[index] for index in self.levels)])
        if self.training and self.deep_supervision:
            heads = (self.segmentation_head[0], *self.auxiliary_heads)
            masks = [self._mask(head, y, x) for head, y in zip(heads, ys, strict=False)]
        else:
            masks = self._mask(self.segmentation_head[0], ys[0], x)
        if self.classification_head is None:
            return masks
        return masks, self.classification_head(features[-1])

    def check_input_shape(self, x: Tensor) -> None:
        """Raise a ValueError that names what the encoder cannot take; see the class."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"UNetV2: expected images (B, {self.in_channels}, H, W), got {tuple(x.shape)}. "
                "Pass in_channels= when building the network for other images."
            )
        size, stride = (x.shape[2], x.shape[3]), self.encoder.output_stride
        if self.image_size is not None and size != self.image_size:
            raise ValueError(
                f"UNetV2: expected images of {self.image_size} pixels, which this encoder was built for, got "
                f"{size}. {self._size_cure(size) or 'Pass img_size=... when building the network.'}"
            )
        if (
            self.training
            and x.shape[0] == 1
            and all(axis <= stride for axis in canvas.padded_size(size, *self._canvas))
        ):
            raise ValueError(_BATCH_NORM.format(stride=stride, size=size))

    def _encode(self, x: Tensor) -> Any:
        try:
            return self.encoder(x)
        except torch.cuda.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            size, stride = (x.shape[2], x.shape[3]), self.encoder.output_stride
            if "more than 1 value per channel" in str(error):
                raise ValueError(_BATCH_NORM.format(stride=stride, size=size)) from error
            same_dtype = x.dtype == next(self.encoder.parameters()).dtype  # otherwise the size is not the cause
            cure = self._size_cure(size) if same_dtype else None
            if cure is None:
                raise
            reason = str(error) or type(error).__name__
            raise ValueError(f"UNetV2: the encoder cannot take images of {size} ({reason}). {cure}") from error

    def _size_cure(self, size: tuple[int, int]) -> str | None:
        height, width = canvas.padded_size(size, *self._canvas)
        return probe.size_cure(self.encoder, self.in_channels, (height, width), self._encoder_for)

    def _mask(self, head: nn.Module, y: Tensor, x: Tensor) -> Tensor:
        with precision.float32_stays(y):
            logits = canvas.to_image(head(y), x.shape[2:], canvas.padded_size(x.shape[2:], *self._canvas))
        return cast(Tensor, self.segmentation_head[-1](logits))

    def __prepare_scriptable__(self) -> NoReturn:
        raise RuntimeError("UNetV2: torch.jit.script is not supported. Use torch.compile or torch.export.")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        """smp's README.md for save_pretrained and push_to_hub, with what `card` says."""
        known = self.card
        if known is not None:
            given = {"metrics": dict(known.metrics), "dataset": known.data.get("name")}
            kwargs = {name: value for name, value in given.items() if value} | kwargs
        card = super().generate_model_card(*args, **kwargs)
        # smp's own snippet finds the class only after the adapter has been imported.
        card.text = card.text.replace(
            _CARD_IMPORT, f"{_CARD_IMPORT}import sdi_plugin.adapters.smp  # registers it\n", 1
        )
        if known is not None:
            card.text += "\n" + sections(dataclasses.replace(known, architecture={}))
        return card

    @property
    def card(self) -> Card | None:
        """What is known of the network besides its weights: save_pretrained and push_to_hub write it into config.json.

        `sdi_plugin.load` and `sdi-plugin predict` read mean, std, size, labels and threshold there.
        """
        text = self.config.get(f"_{KEY}")
        return None if text is None else Card.from_json(text)

    @card.setter
    def card(self, card: Card) -> None:
        self.config[f"_{KEY}"] = card.to_json()  # smp leaves out names with an underscore when it builds the model

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """As for every model of smp. Without a card, pretrained weights leave one with their statistics."""
        if self.card is None and (pixels := self._pixels()):
            self.card = Card(*pixels)
        return super().save_pretrained(*args, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, strict: bool = True, map_location: str = "cpu", **kwargs: Any) -> Any:
        # Passed on, or config.json could set them: strict=False leaves missing weights at random values.
        return super().from_pretrained(*args, strict=strict, map_location=map_location, **kwargs)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **kwargs: Any) -> Any:
        known = {*inspect.signature(super()._from_pretrained).parameters, *cls._hub_mixin_init_parameters}
        own = {key: value for key, value in kwargs.items() if not key.startswith("_")}  # smp leaves the others out
        check_values({key: value for key, value in own.items() if key not in known})
        # The saved weights hold the encoder's too: neither ask the hub for others, nor look for a file.
        kwargs["encoder_weights"] = None
        return super()._from_pretrained(model_id=model_id, **kwargs)


def _check_freezing() -> None:
    if not hasattr(SegmentationModel, "freeze_encoder"):
        raise NotImplementedError(
            "UNetV2: expected segmentation_models_pytorch >=0.6, which can freeze encoders, got an older one. "
            "Upgrade it: pip install -U segmentation-models-pytorch"
        )
