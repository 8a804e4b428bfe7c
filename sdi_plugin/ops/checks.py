"""The ops' input checks, made once at their public boundary, and the shapes that the kernels rely on."""

from collections.abc import Sequence

from torch import Tensor

from sdi_plugin.ops import reference


def pixels(owner: str, sizes: Sequence[Sequence[int]]) -> None:
    """Raise a ValueError if a map has no pixels: it has no mean. An empty batch is allowed and has an empty result."""
    if any(0 in size for size in sizes):
        raise ValueError(
            f"{owner}: expected maps of one pixel or more, got sizes {[tuple(size) for size in sizes]}. "
            "Pass a larger input or fewer levels."
        )


def counts(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], targets: Sequence[int]) -> None:
    expected = len(xs) * len(targets)
    if not expected or len(weights) != expected or len(biases) != expected:
        raise ValueError(
            f"resize_smooth_multiply: expected {expected} weights and biases ({len(xs)} levels, {len(targets)} targets)"
            f", got {len(weights)} and {len(biases)}. Pass one convolution per target and level."
        )
    if not all(0 <= target < len(xs) for target in targets):
        raise ValueError(
            f"resize_smooth_multiply: expected targets from 0 (finest) to {len(xs) - 1}, got {list(targets)}."
        )


def fusion_name(fusion: str) -> None:
    if fusion not in reference.FUSIONS:
        expected = " or ".join(map(repr, reference.FUSIONS))
        raise ValueError(f"resize_smooth_multiply: expected fusion {expected}, got {fusion!r}.")


def one_device(owner: str, tensors: Sequence[Tensor]) -> None:
    """Raise a ValueError that names the devices, if there are several."""
    if any(t.device != tensors[0].device for t in tensors):
        devices = " and ".join(sorted({str(t.device) for t in tensors}))
        raise ValueError(f"{owner}: expected all tensors on one device, got {devices}. Move them to the same one.")


def is_uniform(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]) -> bool:
    """Whether the shapes are those that the kernels rely on. The reference accepts, or rejects, all others."""
    batch, channels, *size = xs[0].shape
    shape = (weights[0].shape[0], channels, *(3,) * len(size))
    return (
        0 not in shape
        and all(0 not in x.shape[2:] for x in xs)
        and all(x.ndim == xs[0].ndim and x.shape[0] == batch and x.shape[1] == channels for x in xs)
        and all(tuple(weight.shape) == shape for weight in weights)
        and all(tuple(bias.shape) == shape[:1] for bias in biases)
    )


def attention_counts(fs: Sequence[Tensor], *parameters: Sequence[Tensor]) -> None:
    if not len(fs) or any(len(group) != len(fs) for group in parameters):
        raise ValueError(
            f"attend_and_reduce: expected one fc1, fc2, conv7 and conv1 per level, got {len(fs)} levels and "
            f"{', '.join(str(len(group)) for group in parameters)} of these. Pass one of each per level."
        )


def is_attention(fs: Sequence[Tensor], *parameters: Sequence[Tensor]) -> bool:
    """Whether the shapes of attend_and_reduce are those that the kernels rely on."""

    def fits(f: Tensor, fc1: Tensor, fc2: Tensor, conv7: Tensor, conv1: Tensor) -> bool:
        channels, *size = f.shape[1:]
        hidden, out, ones = fc1.shape[0], conv1.shape[0], (1,) * len(size)
        return (
            0 not in (channels, hidden, out, *size)
            and tuple(fc1.shape) == (hidden, channels, *ones)
            and tuple(fc2.shape) == (channels, hidden, *ones)
            and tuple(conv7.shape) == (1, 2, *(7,) * len(size))
            and tuple(conv1.shape) == (out, channels, *ones)
        )

    return all(f.ndim == fs[0].ndim and f.shape[0] == fs[0].shape[0] for f in fs) and all(
        fits(*level) for level in zip(fs, *parameters, strict=True)
    )
