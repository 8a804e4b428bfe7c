"""SDI in the models that smp already has."""

import copy
import functools
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import torch
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor, nn

from sdi_plugin.adapters.smp.encoder import level_indices, reduction
from sdi_plugin.adapters.smp.model import UNetV2
from sdi_plugin.sdi import SDISkip

Model = TypeVar("Model", bound=SegmentationModel)


def with_sdi(
    model: Model,
    channels: int = 32,
    *,
    norm: str | None = None,
    fusion: str = "product",
    init: str = "paper",
    checkpointing: bool = False,
) -> Model:
    """Put SDI (Peng, Sonka, Chen 2023, arXiv 2311.17791) between a model's encoder and its decoder.

    The model is changed in place and returned: it has a new child `sdi` (state-dict keys `sdi.*`, random start), and
    every other key stays as it is. The decoder gets features of the channels and sizes that it was built for. Every
    level of the encoder goes into each level that the decoder reads; the image, and levels that it does not read, pass
    through.

    Args:
        model: any model of smp with `encoder` and `decoder`: Unet, UnetPlusPlus, MAnet, Linknet, FPN, PSPNet,
            DeepLabV3, DeepLabV3Plus, PAN, UPerNet, Segformer.
        channels: C inside SDI.
        norm, fusion, init, checkpointing: see `sdi_plugin.SDISkip`.

    Convention:
        smp's from_pretrained rebuilds the class of the original model, which has no SDI: save_pretrained and
        push_to_hub raise a RuntimeError. Save model.state_dict(), and load it into with_sdi(...) of a new model.
        Pickling and deepcopy keep the SDI. Make the optimizer after this call.

    Raises:
        TypeError: not a model of smp.
        ValueError: the model has SDI already, or its decoder takes more than the encoder's features (DPT).

    Examples:
        >>> import segmentation_models_pytorch as smp
        >>> import torch
        >>> from sdi_plugin.adapters.smp import with_sdi
        >>> model = with_sdi(smp.Unet("resnet18", encoder_weights=None))
        >>> model.eval()(torch.randn(1, 3, 64, 96)).shape
        torch.Size([1, 1, 64, 96])
    """
    if not isinstance(model, SegmentationModel):
        raise TypeError(f"with_sdi: expected a model of segmentation_models_pytorch, got {type(model).__name__}.")
    name = type(model).__name__
    if isinstance(model, UNetV2) or hasattr(model, "sdi"):
        raise ValueError(f"with_sdi: expected a model without SDI, got a {name} that has it already.")
    if not hasattr(model.encoder, "out_channels") or not hasattr(model.encoder, "output_stride"):
        raise ValueError(_not_a_pyramid(name))
    _insert(model, channels, norm=norm, fusion=fusion, init=init, checkpointing=checkpointing)
    return model


def _insert(model: Any, channels: int, **options: Any) -> None:
    read, parameter = _features_read(model), next(model.parameters())
    sdi = FeatureSDI(model.encoder.out_channels, read, channels, **options)
    model.sdi = sdi.to(parameter.device, parameter.dtype).train(model.training)
    # A hook leaves the decoder's keys alone; it is a bound method, so that pickle and deepcopy keep it with its module.
    model.decoder.register_forward_pre_hook(sdi.infuse)
    model.save_pretrained = model.push_to_hub = functools.partial(_refuse_to_save, type(model).__name__)


class FeatureSDI(SDISkip):
    """SDISkip over smp's list of features, for the levels that a decoder reads.

    Args:
        encoder_channels: channels of every feature, starting with the image's.
        read: indices of the features that the decoder reads.
        channels, options: see `SDISkip`.
    """

    def __init__(self, encoder_channels: Sequence[int], read: Sequence[int], channels: int = 32, **options: Any):
        levels = level_indices(encoder_channels)
        in_channels = [encoder_channels[index] for index in levels]
        super().__init__(in_channels, channels, in_channels, targets=[levels.index(i) for i in read], **options)
        self.levels, self.read = tuple(levels), tuple(read)

    def infuse(self, decoder: nn.Module, arguments: tuple[Any, ...]) -> tuple[list[Tensor]]:
        """The decoder's forward pre-hook: returns its features, with those that it reads replaced by fused ones."""
        (features,) = arguments
        infused = list(features)
        fused = self([features[index] for index in self.levels])
        for index, feature in zip(self.read, fused, strict=True):
            infused[index] = feature
        return (infused,)


def _features_read(model: Any) -> list[int]:
    """Indices of the encoder's features that reach the decoder's output, found by a gradient on the meta device."""
    # 512 pixels: decoders pool the coarsest level further, PAN three times.
    sizes = [512 // reduction(model.encoder, index) for index in range(len(model.encoder.out_channels))]
    with torch.inference_mode(False), torch.enable_grad():
        features = [
            torch.zeros(1, channels, size, size, device="meta", requires_grad=True)
            for channels, size in zip(model.encoder.out_channels, sizes, strict=True)
        ]
        decoder = copy.deepcopy(model.decoder).to(device="meta", dtype=torch.float32).eval().requires_grad_(False)
        try:
            output = decoder(features)
        except TypeError as error:
            raise ValueError(_not_a_pyramid(type(model).__name__)) from error
        gradients = torch.autograd.grad(output.sum(), features, allow_unused=True)
    levels = level_indices(model.encoder.out_channels)
    return [index for index in levels if gradients[index] is not None]


def _not_a_pyramid(name: str) -> str:
    return (
        f"with_sdi: expected a model that passes its decoder only the encoder's features, got a {name}. SDI needs a "
        "pyramid of feature maps: use another architecture."
    )


def _refuse_to_save(name: str, *args: Any, **kwargs: Any) -> NoReturn:
    raise RuntimeError(
        f"with_sdi: from_pretrained would rebuild a plain {name} and lose the SDI. Save model.state_dict() with "
        "torch.save, and load it into with_sdi(...) of a new model."
    )
