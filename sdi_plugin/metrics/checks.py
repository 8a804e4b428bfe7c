"""What the metrics refuse."""

import torch
from torch import Tensor


def shapes(first: Tensor, target: Tensor) -> None:
    if first.shape != target.shape or first.ndim < 2:
        raise ValueError(
            f"metrics: expected tensors of one shape (B, *S), got {tuple(first.shape)} and {tuple(target.shape)}. "
            "Resize the prediction to the target; add or remove the channel axis."
        )


def masks(prediction: Tensor, target: Tensor) -> None:
    if prediction.dtype != torch.bool or target.dtype != torch.bool:
        raise TypeError(
            f"metrics: expected boolean masks, got {prediction.dtype} and {target.dtype}. "
            "Threshold a probability (probability >= 0.5); convert a mask of 0 and 1 with .bool()."
        )
    shapes(prediction, target)
