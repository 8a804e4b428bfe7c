"""smp's encoders: which features are levels, which weights to start from, which image sizes they take."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from segmentation_models_pytorch.encoders import encoders, get_encoder, get_preprocessing_params
from torch import Tensor, nn

from sdi_plugin import checkpoint, hub
from sdi_plugin.adapters.smp.arguments import arguments_of_network
from sdi_plugin.encoder import TimmEncoder
from sdi_plugin.encoder.weights import packaged, statistics


def level_indices(channels: Sequence[int]) -> list[int]:
    """Indices of the features that are levels, fine to coarse.

    Feature 0 is the image (for timm's vgg: a map of the image's size). An encoder that starts at stride 4 puts a map
    with no channels at index 1.
    """
    return [index for index, count in enumerate(channels) if index >= 1 and count > 0]


def reduction(encoder: Any, index: int) -> int:
    """Pixels of the image per pixel of feature `index`, along each axis."""
    return min(2**index, encoder.output_stride)


def fixed_image_size(encoder: nn.Module) -> tuple[int, int] | None:
    """The only image size (H, W) that the encoder takes, or None; timm's Swin is built for one size."""
    if isinstance(encoder, Pyramid):
        return encoder.image_size
    for module in encoder.modules():
        size: Any = getattr(module, "img_size", None)
        if size and getattr(module, "strict_img_size", False):
            return tuple(size)
    return None


def build(name: str, in_channels: int, depth: int, weights: bool | str | Path | None, arguments: dict[str, Any]) -> Any:
    """smp's encoder of that name with the weights asked for, or an error; see `UNetV2`."""
    arguments = {key: value for key, value in arguments.items() if value is not None}
    if not name.startswith("tu-") and not arguments.keys() <= {"output_stride"}:
        # smp silently drops these, including misspelt names.
        raise TypeError(
            f"UNetV2: got unexpected arguments {sorted(arguments)}. Only tu- encoders take arguments of their own "
            f"(timm's, such as img_size), {name!r} does not."
        )
    arguments_of_network(name, arguments)
    known, source = _resolve(name, weights)
    make = functools.partial(get_encoder, name, in_channels=in_channels, depth=depth, weights=known, **arguments)
    try:
        if known is None:
            encoder = make()
        else:
            cure = "Pass encoder_weights=FILE (tu- encoders), or None for a random start."
            encoder = hub.get(
                make, "UNetV2", f"{name!r} with encoder_weights={weights!r}", cure, repository=_repository(name, known)
            )
    except (ValueError, hub.HubError) as error:
        if "downsampling pattern" not in str(error):
            raise
        return Pyramid(name.removeprefix("tu-"), in_channels, depth, True if known else source, arguments)
    if source is not None:
        checkpoint.load_encoder(encoder.model, source, owner=name)
    return encoder


def build_for_size(
    name: str, in_channels: int, depth: int, arguments: dict[str, Any], image_size: tuple[int, int]
) -> Any:
    """smp's encoder of that name with a random start, for images (H, W) of one size.

    Raises:
        TypeError: not an encoder that is built for a size.
    """
    if not name.startswith("tu-"):
        raise TypeError(f"UNetV2: {name!r} is not built for an image size.")
    return get_encoder(
        name, in_channels=in_channels, depth=depth, weights=None, **{**arguments, "img_size": image_size}
    )


class Pyramid(TimmEncoder):
    """What smp's own tu- encoders do not take, plain ViTs above all, with the interface of smp's encoders.

    Attributes:
        out_channels: per power of 2 in the strides, 0 where there is no level.
        output_stride: the coarsest level's, as a power of 2.

    Shape:
        x: (B, in_channels, H, W), multiples of `multiple`. Returns the image, then a map for each entry of
        out_channels; those with no channels have no pixels.
    """

    def __init__(self, name: str, in_channels: int, depth: int, weights: Any, arguments: dict[str, Any]):
        unknown = arguments.keys() - {"img_size", "drop_path_rate", "output_stride"}
        if unknown or arguments.get("output_stride", 32) != 32:
            raise TypeError(
                f"UNetV2: expected img_size or drop_path_rate for 'tu-{name}', got {sorted(arguments)}. Leave the "
                "others out."
            )
        super().__init__(
            name,
            in_channels,
            weights,
            image_size=arguments.get("img_size"),
            drop_path=arguments.get("drop_path_rate", 0.0),
        )
        powers = [round(math.log2(stride)) for stride in self.strides]  # 4 for patches of 14, too
        self._levels = {power: index for index, power in enumerate(powers) if power <= depth}
        if not self._levels:
            raise ValueError(
                f"UNetV2: expected encoder_depth >= {powers[0]} for 'tu-{name}', whose finest level has stride "
                f"{self.strides[0]}, got {depth}."
            )
        last = max(self._levels)
        channels = [self.out_channels[self._levels[i]] if i in self._levels else 0 for i in range(last + 1)]
        self.out_channels = (in_channels, *channels[1:])
        self.output_stride = 2**last

    def forward(self, x: Tensor) -> list[Tensor]:
        features = super().forward(x)
        empty = x.new_empty(x.shape[0], 0, 1, 1)
        others = range(1, len(self.out_channels))
        return [x, *(features[self._levels[power]] if power in self._levels else empty for power in others)]


def own_parameters(encoder: nn.Module) -> list[nn.Parameter]:
    """Parameters of an encoder that no pretrained weights are for: those of the pyramid on a plain ViT."""
    if not isinstance(encoder, Pyramid):
        return []
    network = set(encoder.network.parameters())
    return [parameter for parameter in encoder.parameters() if parameter not in network]


def pixels(
    name: str, weights: bool | str | Path | None, in_channels: int, encoder: Any
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation per channel that pretrained weights expect of pixels from 0 to 255; None if not known."""
    if weights is None or weights is False:
        return None
    if name.startswith("tu-"):
        found = statistics(encoder.model, weights, in_channels)
        return tuple(255 * value for value in found[0]), tuple(255 * value for value in found[1])
    try:
        settings = get_preprocessing_params(name, "imagenet" if weights is True else str(weights))
    except OSError:  # smp asks the hub
        return None
    scale = 255 / max(settings["input_range"])
    mean, std = (tuple(scale * settings[key][channel % 3] for channel in range(in_channels)) for key in ("mean", "std"))
    return mean, std


def _repository(name: str, weights: bool | str) -> str | None:
    """Where the hub has these weights, as far as smp and timm say."""
    if name.startswith("tu-"):
        return getattr(timm.get_pretrained_cfg(name.removeprefix("tu-")), "hf_hub_id", None)
    known = encoders.get(name, {}).get("pretrained_settings", {})
    return known.get("imagenet" if weights is True else weights, {}).get("repo_id")


def _resolve(name: str, weights: bool | str | Path | None) -> tuple[bool | str | None, Any]:
    """Split encoder_weights into what smp itself loads, and a file or state dict to load into the finished encoder."""
    if weights is None or weights is False:
        return None, None  # smp takes anything but None, even False, for "pretrained"
    universal = name.startswith("tu-")
    if not universal and name not in encoders:
        return weights if isinstance(weights, bool) else str(weights), None  # get_encoder lists the names that it knows
    known = ["imagenet"] if universal else sorted(encoders[name]["pretrained_settings"])
    if weights is True or weights in known:
        return True if universal or weights is True else str(weights), None
    if universal and weights == "package":
        return None, packaged(name.removeprefix("tu-"))
    file = Path(weights)
    if not file.is_file():
        raise FileNotFoundError(
            f"UNetV2: expected encoder_weights that smp knows for {name!r} ({', '.join(known)}), a file or None, got "
            f"{str(weights)!r}: no such name, and no such file."
        )
    if not universal:
        raise ValueError(
            f"UNetV2: expected encoder_weights that smp knows for {name!r} ({', '.join(known)}) or None, got the file "
            f"{str(weights)!r}. Only tu- encoders load files."
        )
    return None, file
