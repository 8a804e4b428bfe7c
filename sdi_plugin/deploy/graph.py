"""A network with the work around it as one program of torch.export, for images of any size."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdi_plugin import canvas
from sdi_plugin.deploy.loading import Loaded
from sdi_plugin.ops import reference

# The coarsest level of the example: no axis of a level has the size of another axis or, where it has a stride, level.
_EXAMPLE = (3, 5, 7)
_LINEAR = {2: "bilinear", 3: "trilinear"}


class Graph(nn.Module):
    """Pixels to probabilities and logits, of the images' own size.

    Args:
        normalisation: (mean, std) per channel; None if the images are normalised outside.
        size: to which images are resized for the network; None to keep their size.
        raw: the network alone: logits of images that are normalised and resized outside.

    Shape:
        images: (B, C, H, W), or volumes (B, C, D, H, W). Returns probabilities and logits (B, K, *S) of the same size;
        with raw the logits alone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Loaded, normalisation: Any, size: tuple[int, int] | None, raw: bool):
        super().__init__()
        self.network = model.network  # `model` is not a module: this registers its parameters
        self.model, self.size, self.raw = model, size, raw
        mean, std = (torch.tensor(each)[:, None, None] for each in normalisation or ((0.0,), (1.0,)))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.raw:
            return (self.model(images),)
        pixels = images if self.size is None else shrink(images, self.size)
        logits = self.model((pixels - self.mean) / self.std)
        if self.size is not None:
            logits = _resize_logits(logits, images.shape[2:])
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1), logits


def trace(graph: Graph, channels: int, multiple: Sequence[int] = (32, 32)) -> torch.export.ExportedProgram:
    """The program, for any batch and, unless it is raw and of one size, any size.

    Args:
        multiple: whose multiples are sizes for which the network does not pad.
    """
    fixed = graph.size if graph.raw else None
    example = [each * factor for each, factor in zip(multiple, _EXAMPLE[-len(multiple) :], strict=True)]
    images = torch.zeros(2, channels, *(fixed or example))
    dynamic: Any = torch.export.Dim.DYNAMIC
    axes = {axis: dynamic for axis in range(images.ndim) if axis == 0 or (axis > 1 and not fixed)}
    # With images of one size the network itself is traced as it is: encoders that bake sizes in can be exported.
    with torch.no_grad(), _any_size() if graph.size is None else nullcontext():
        return torch.export.export(
            graph.eval(),
            (images,),
            dynamic_shapes={"images": axes},
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


@contextmanager
def _any_size() -> Iterator[None]:
    """Resizing and padding whose amounts the program computes from the sizes that it gets."""
    with (
        mock.patch.object(reference, "resize", _resize),
        mock.patch.object(canvas, "resize", _resize_logits),
        mock.patch.object(canvas, "to_image", _to_image),
        mock.patch.object(canvas, "pad", _pad),
        mock.patch.object(F, "interpolate", _interpolate),
    ):
        yield


def shrink(images: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear with antialiasing, as `F.interpolate(antialias=True)` and Pillow resize, by a matrix per axis."""
    return _filtered(images, size, _triangle)


_torch_interpolate = F.interpolate


def _interpolate(x: Tensor, size: Any = None, *arguments: Any, **options: Any) -> Tensor:
    """With the antialiased bicubic resizing, by which timm's ViTs fit their position embeddings to the image, in
    matrices: torch writes it to ONNX for the example's size alone.
    """
    if size is not None and options.get("mode") == "bicubic" and options.get("antialias"):
        return _cubic_resize(x, size)
    return _torch_interpolate(x, size, *arguments, **options)


def _cubic_resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return _filtered(x, size, _cubic)


def _filtered(x: Tensor, size: Sequence[int], kernel: Callable[[Tensor], Tensor]) -> Tensor:
    rows, columns = (_weights(source, target, kernel) for source, target in zip(x.shape[2:], size, strict=True))
    return rows @ x @ columns.T


def _weights(source: int, target: int, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """(target, source): the kernel around each place of the source, wider where the source is finer."""
    scale = source * (torch.ones(()) / target)
    centres = (torch.arange(target)[:, None] + 0.5) * scale
    weights = kernel(((torch.arange(source)[None] + 0.5 - centres) / scale.clamp(min=1)).abs())
    return weights / weights.sum(1, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel with a = -1/2, which torch takes with antialiasing."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """`sdi_plugin.ops.resize`, where an axis that is finer in the example is finer at every size."""
    *depth, height, width = x.shape[2:]
    if depth and _example(depth[0]) > _example(size[0]):
        x = (_means(depth[0], size[0]) @ x.flatten(3)).unflatten(3, (height, width))
    if _example(height) > _example(size[-2]):
        x = _means(height, size[-2]) @ x
    if _example(width) > _example(size[-1]):
        x = x @ _means(width, size[-1]).T
    return F.interpolate(x, size=tuple(size), mode=_LINEAR[len(size)], align_corners=True)


def _example(size: Any) -> Any:
    """The number for which the program is traced: torch 2.4 to 2.14 have it in private."""
    return size.node.hint if isinstance(size, torch.SymInt) else size


def _means(source: int, target: int) -> Tensor:
    """(target, source): adaptive average pooling, means over [floor(i s / t), ceil((i + 1) s / t))."""
    at, column = torch.arange(target)[:, None], torch.arange(source)[None]
    begin, end = at * source // target, ((at + 1) * source + target - 1) // target
    return ((column >= begin) & (column < end)).float() / (end - begin).float()


def _resize_logits(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode=_LINEAR[len(size)], align_corners=False)


def _to_image(logits: Tensor, size: Sequence[int], padded: Sequence[int]) -> Tensor:
    """`canvas.to_image`, gathered: a slice that cuts nothing off the example would cut nothing off any image."""
    logits = _resize_logits(logits, padded)
    for axis, length in enumerate(size, 2):
        logits = logits.index_select(axis, torch.arange(length))
    return logits


def _pad(x: Tensor, minimum: int, multiple: int = 1) -> Tensor:
    amounts: list[Any] = []
    for axis in reversed(x.shape[2:]):  # in positive numbers: ONNX divides integers towards zero
        amounts += 0, torch.sym_max((axis + multiple - 1) // multiple * multiple, minimum) - axis
    return F.pad(x, amounts)
