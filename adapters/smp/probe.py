"""What an encoder does, found by running it on the meta device, which computes shapes but no numbers."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

_ANY_SIZE = "or choose an encoder that takes any size, such as 'tu-pvt_v2_b2'"

Size = tuple[int, int]


def on_meta(module: nn.Module) -> Any:
    """A copy in evaluation mode whose parameters and buffers have shapes but no memory."""
    with torch.inference_mode(False):
        tensors = {id(p): nn.Parameter(_meta(p), p.requires_grad) for p in module.parameters()}
        tensors |= {id(buffer): _meta(buffer) for buffer in module.buffers()}
    return copy.deepcopy(module, tensors).eval()


def takes(encoder: Any, in_channels: int, size: Size) -> bool:
    """Whether an encoder on the meta device runs on images of that size."""
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            encoder(torch.zeros(1, in_channels, *size, device="meta", dtype=next(encoder.parameters()).dtype))
    except Exception:  # assertions, shapes that do not fit, operators that the meta device lacks
        return False
    return True


def unused_parameters(encoder: Any, in_channels: int, levels: Sequence[int], size: Any = None) -> list[str]:
    """Names of the parameters that no feature of `levels` depends on.

    Encoders keep such parameters at depths below their own, smp's EfficientNets and timm's MobileNetV5 at any depth.
    Where the meta device lacks an operator of the encoder, it runs on the CPU.

    Args:
        encoder: an encoder of smp.
        in_channels: channels of the image.
        levels: indices of the features that are used.
        size: the size that the encoder was built for, N or (H, W), if any.
    """
    built_for = [(size, size) if isinstance(size, int) else tuple(size)] if size else []
    sizes = [*built_for, (64, 64), native_size(encoder)]
    for candidate in (lambda: on_meta(encoder), lambda: copy.deepcopy(encoder).cpu().float()):
        module = candidate()
        for image_size in sizes:
            try:
                return _unused(module, in_channels, levels, image_size)
            except Exception:  # not a size that this encoder takes, or an operator that the meta device lacks
                continue
    return []


def training_bytes(encoder: Any, in_channels: int, batch: int, size: Size) -> int:
    """Bytes of the feature maps that an encoder keeps for backward; 0 where it does not run on the meta device."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no later storage takes its address
        return tensor

    meta = on_meta(encoder).train()
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.random.fork_rng(devices=[]),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            meta(torch.zeros(batch, in_channels, *size, device="meta"))
    except Exception:  # as in takes
        return 0
    own = {parameter.untyped_storage()._cdata for parameter in meta.parameters()}
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


def native_size(encoder: Any) -> Size:
    """The image size that an encoder of timm was made for; 224 x 224 where it does not say."""
    settings = getattr(getattr(encoder, "model", None), "pretrained_cfg", None) or {}
    return tuple(settings.get("input_size", (3, 224, 224))[1:])


def size_cure(encoder: Any, in_channels: int, size: Size, rebuild: Callable[[Size], Any]) -> str | None:
    """What to do about images of a size that the encoder refused; None where the size is not the cause.

    Args:
        encoder: an encoder of smp.
        in_channels: channels of the image.
        size: (H, W) of the images.
        rebuild: makes the encoder for images of another size, or raises; called on the meta device, too.
    """
    meta, stride = on_meta(encoder), encoder.output_stride
    if takes(meta, in_channels, size):
        return None
    padded = (-(-size[0] // stride) * stride, -(-size[1] // stride) * stride)
    if padded != size and takes(meta, in_channels, padded):
        return f"Pad them to {padded}, multiples of {stride}."
    for candidate in dict.fromkeys((size, padded)):
        try:
            other = _on_meta_from(rebuild, candidate)
        except Exception:  # no argument img_size, or a size that it does not take
            break
        if takes(other, in_channels, candidate):
            first = "" if candidate == size else f"Pad them to {candidate}, and pass"
            return f"{first or 'Pass'} img_size={candidate} when building the network, {_ANY_SIZE}."
    for multiple in (64, 128, 256):
        larger = (-(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple)
        if takes(meta, in_channels, larger):
            return f"Pad or resize them to {larger}, {_ANY_SIZE}."
    native = native_size(encoder)
    return f"Resize them to {native}, {_ANY_SIZE}." if takes(meta, in_channels, native) else None


def _unused(encoder: Any, in_channels: int, levels: Sequence[int], size: Size) -> list[str]:
    encoder.train()  # in evaluation timm's EfficientFormer and TinyViT read attention biases from a cache
    named = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    first = next(iter(named.values()))
    with (
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        features = encoder(torch.zeros(2, in_channels, *size, device=first.device, dtype=first.dtype))
        total = torch.stack([features[index].sum() for index in levels]).sum()
        gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]


def _on_meta_from(rebuild: Callable[[Size], Any], size: Size) -> Any:
    try:
        with torch.device("meta"):
            return rebuild(size).eval()
    except Exception:  # timm computes some layers' widths with operators that the meta device lacks
        return on_meta(rebuild(size))


def _meta(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device="meta", requires_grad=False)
