"""The Hausdorff distance of masks."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdi_plugin.metrics import checks


def hd95(prediction: Tensor, target: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """95th percentile of the Hausdorff distance per image, computed on the CPU.

    The surface of a mask is the mask minus its erosion with the 4-neighbourhood (6 in 3-D), with background outside the
    image. For every surface pixel of one mask, take the Euclidean distance to the nearest surface pixel of the other;
    take the 95th percentile (linear interpolation) of these in each direction; the result is the larger of the two.

    Args:
        spacing: the size of a pixel along each axis of S, in the unit of the result. Pixels by default.

    Shape:
        prediction, target: boolean masks (B, *S). Returns (B,), float64, CPU.

    Convention:
        Both masks empty: 0. One empty: inf.

    Raises:
        ImportError: scipy is not installed.
        TypeError: a mask is not boolean.
        ValueError: the shapes differ or have no axis after B; spacing is not one positive number per axis of S.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> prediction, target = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
        >>> prediction[0, 4, 2], target[0, 4, 5] = True, True
        >>> metrics.hd95(prediction, target), metrics.hd95(prediction, target, spacing=(1, 0.5))
        (tensor([3.], dtype=torch.float64), tensor([1.5000], dtype=torch.float64))
    """
    checks.masks(prediction, target)
    _check_spacing(spacing, prediction.ndim - 1)
    ndimage = import_ndimage()
    pairs = zip(prediction.cpu().numpy(), target.cpu().numpy(), strict=True)
    return torch.tensor([_hd95_of_image(p, t, spacing, ndimage) for p, t in pairs], dtype=torch.float64)


def _hd95_of_image(prediction: Any, target: Any, spacing: Sequence[float] | None, ndimage: Any) -> float:
    if not prediction.any() or not target.any():
        return math.inf if prediction.any() or target.any() else 0.0
    # Both surfaces are inside the box around both masks, so nothing outside it matters.
    (box,) = ndimage.find_objects((prediction | target).astype("uint8"))
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction[box], target[box])]
    percentiles = []
    for start, end in (surfaces, surfaces[::-1]):
        distances = ndimage.distance_transform_edt(~end, sampling=spacing)[start]
        percentiles.append(torch.from_numpy(distances).quantile(0.95).item())
    return max(percentiles)


def import_ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError("hd95 needs scipy. Install it: pip install 'sdi-plugin[smp]'") from error
    return ndimage


def _check_spacing(spacing: Sequence[float] | None, axes: int) -> None:
    if spacing is not None and (len(spacing) != axes or not all(0 < size < math.inf for size in spacing)):
        raise ValueError(f"metrics: expected a positive spacing for each of {axes} spatial axes, got {spacing}.")
