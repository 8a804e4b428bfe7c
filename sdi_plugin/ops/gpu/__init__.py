"""resize_smooth_multiply on GPUs: torch computes the convolutions, three Triton kernels the rest.

As on CPUs, a coarser level's channels are mixed at the low resolution (docs/derivation.md). In 3-D the depth axis
comes first: a level is interpolated to a few planes of the target, and the depth taps of a plane are mixed together.
Internal maps are (B, *S, C), contiguous, in the lowest precision of the inputs; sums are in float32 or wider.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from sdi_plugin.ops import plan, reference

_OLDEST_TORCH = (2, 7)  # comes with Triton 3.3, the first that takes tuples of pointers
# Whether Triton's interpreter runs the kernels, on CPU tensors.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")
_IS_INSTALLED = importlib.util.find_spec("triton") is not None
_IS_NEW = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= _OLDEST_TORCH
# A float32 multiply-add costs about as much as eight on a tensor core (A100: 19.5 against 156 TFLOP/s).
COSTS = plan.Costs(8.0, lambda target, channels: 3 ** len(target) * channels)


def reason() -> str:
    """Why the kernels are not available, or the empty string."""
    if not _IS_INSTALLED:
        return "Triton is not installed: it comes with torch's builds for GPUs"
    if not _IS_NEW:
        return f"expected torch 2.7 or newer for its Triton 3.3, got torch {torch.__version__}. Install a newer torch."
    if not torch.cuda.is_available() and not INTERPRETED:
        return "no GPU: torch.cuda.is_available() is False"
    return ""


def serves(device: torch.device) -> bool:
    """Whether the kernels accept tensors on this device: GPUs, and CPUs if TRITON_INTERPRET=1.

    Cheap, and simple enough for torch.compile to trace.
    """
    if not _IS_INSTALLED or not _IS_NEW:
        return False
    if device.type == "cuda":
        # Inductor requires the same capability.
        return torch.compiler.is_compiling() or torch.cuda.get_device_capability(device) >= (7, 0)
    return device.type == "cpu" and INTERPRETED


def forward(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    out_dtype: torch.dtype,
    fusion: str = "product",
) -> list[Tensor]:
    """resize_smooth_multiply for several target levels.

    Shape:
        xs: L maps (B, C, *S_j), fine to coarse. weights: (C_out, C, 3, 3[, 3]), all of one shape, and biases (C_out,):
        those of targets[t] at [t * L, (t + 1) * L). Returns T maps (B, C_out, *S_target), channels last in memory.
    """
    # Imported on the first call: it takes a quarter of the package's time, and CPUs never need it.
    from sdi_plugin.ops.gpu import launch
    from sdi_plugin.ops.gpu.call import Call, channels_first

    with _quiet(xs[0]):
        call, outs = Call(xs, weights, biases, targets), []
        for terms, target, packed in zip(call.plan.targets, targets, call.biases, strict=True):
            size = tuple(xs[target].shape[2:])
            dense = [call.convolve(term, size) for term in terms if not term.by_taps]
            out = torch.empty(dense[0].shape, dtype=out_dtype, device=dense[0].device)
            by_taps = [term for term in terms if term.by_taps]
            for slab in call.slabs(by_taps, size):
                taps = [products for _, products in call.taps(by_taps, size, slab)]
                launch.multiply(out, dense, taps, packed, slab, reference.FUSIONS[fusion])
            outs.append(channels_first(out))
        return outs


def backward(
    grads: Sequence[Tensor],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str = "product",
    *,
    needs_maps: bool = True,
    needs_weights: bool = True,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The gradients of xs (channels last in memory), weights and biases, each in its tensor's dtype.

    A group that is not needed is an empty list.

    Recomputes the terms: forward keeps only its inputs. The kernels give bitwise equal results on every run; torch's
    convolutions do on GPUs if torch.backends.cudnn.deterministic is set.
    """
    from sdi_plugin.ops.gpu import launch
    from sdi_plugin.ops.gpu.call import Call, channels_last, unmix

    with _quiet(xs[0]):
        call = Call(xs, weights, biases, targets)
        weight_grads, bias_grads = list(weights), list(biases)
        for terms, target, grad, packed in zip(call.plan.targets, targets, grads, call.biases, strict=True):
            size = tuple(xs[target].shape[2:])
            dense_terms, by_taps = [[t for t in terms if t.by_taps == kind] for kind in (False, True)]
            dense = [call.convolve(term, size) for term in dense_terms]
            dense_grads = [torch.empty_like(d) for d in dense]
            grad = channels_last(grad)
            bias_grad: Tensor | float = 0.0  # summed over the slabs
            mixing_grads: list[Tensor | float] = [0.0] * len(by_taps)
            for slab in call.slabs(by_taps, size):
                pairs = call.taps(by_taps, size, slab)
                inputs, taps = [x for x, _ in pairs], [products for _, products in pairs]
                term_grads, sums = launch.multiply_backward(
                    grad, dense, taps, packed, dense_grads, slab, reference.FUSIONS[fusion]
                )
                bias_grad = _sum(bias_grad, sums)
                product_grads = launch.taps_adjoint(term_grads, taps, call.accumulator)
                parts = call.add_taps_grads(by_taps, inputs, product_grads, size, slab)
                mixing_grads = [_sum(a, b.to(call.accumulator)) for a, b in zip(mixing_grads, parts, strict=True)]
            for term, dense_grad in zip(dense_terms, dense_grads, strict=True):
                weight_grads[term.entry] = call.add_convolution_grad(term, dense_grad, size)
            for term, mixing_grad in zip(by_taps, mixing_grads, strict=True):
                weight_grads[term.entry] = unmix(torch.as_tensor(mixing_grad), weights[term.entry])
            for term, sums in zip((*dense_terms, *by_taps), torch.as_tensor(bias_grad), strict=True):
                bias_grads[term.entry] = sums
        # Copied to separate memory, because the results of an op must not share memory.
        results = [[torch.empty_like(t) for t in group] for group in (weights, biases)]
        for result, gradients in zip(results, (weight_grads, bias_grads), strict=True):
            torch._foreach_copy_(result, gradients)  # pyright: ignore[reportPrivateImportUsage]
        weight_grads, bias_grads = results if needs_weights else ([], [])
        return call.x_grads() if needs_maps else [], weight_grads, bias_grads


def _sum(total: Tensor | float, part: Tensor) -> Tensor:
    return total + part if isinstance(total, Tensor) else part


@contextmanager
def _quiet(x: Tensor) -> Iterator[None]:
    """On the tensor's device and without autocast: the inputs' dtypes determine the precision."""
    device = torch.cuda.device(x.device) if x.is_cuda else nullcontext()
    with device, torch.autocast(x.device.type, enabled=False), torch.no_grad():
        yield
