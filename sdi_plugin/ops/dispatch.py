"""Which calls get a kernel, and from which backend: what the ops in library.py and attend.py ask first."""

import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from sdi_plugin.ops import cpu, gpu

FORCE_REFERENCE = os.environ.get("SDI_PLUGIN_REFERENCE", "") not in ("", "0")
HAS_VMAP = hasattr(torch.library, "register_vmap")  # torch 2.5 or newer; in older ones the reference handles vmap
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_PLAIN = frozenset((Tensor, torch.nn.Parameter))
_functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]


def reasons() -> dict[str, str]:
    """Why the kernels of each kind are not available, or the empty string."""
    forced = "SDI_PLUGIN_REFERENCE is set: the plain-torch reference is used instead" if FORCE_REFERENCE else ""
    return {"cpu": forced or cpu.reason(), "triton": forced or gpu.reason()}


def backend_of(device: torch.device) -> ModuleType:
    """The backend for a device, available or not: `gpu` for GPUs and Triton's interpreter, otherwise `cpu`."""
    return gpu if device.type == "cuda" or gpu.INTERPRETED else cpu


def allows_kernels(tensors: Sequence[Tensor]) -> bool:
    """Whether a call with these tensors, a map first, may get a kernel: by the environment, transforms and dtypes."""
    device = tensors[0].device
    return not (
        FORCE_REFERENCE
        or is_exporting()
        or is_transformed()
        or tensors[0].ndim not in (4, 5)
        or any(t.device != device or t.dtype not in _DTYPES for t in tensors)
    )


def is_exporting() -> bool:
    """Whether a program is being exported. It may run without this package, so it gets torch's own ops."""
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    # torch.onnx.export(dynamo=False) also traces.
    return exporting() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def is_transformed() -> bool:
    """Whether forward-mode AD, or a transform of torch.func for which the op has no rule, is active.

    The op has a rule only for vmap. `_current_level`, `_are_functorch_transforms_active` and `get_interpreter_stack`
    are private; torch 2.4 to 2.14 have them. torch.compile can trace the first two.
    """
    if forward_ad._current_level >= 0:
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    if torch.compiler.is_compiling() or not HAS_VMAP:
        return True
    stack = _functorch.get_interpreter_stack() or ()
    return any(level.key() != _functorch.TransformType.Vmap for level in stack)


def is_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether nothing intercepts the dispatcher: torch.library's Python layers, slow for small maps, can be skipped."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or not _PLAIN.issuperset(map(type, tensors))
    )


def is_followed(grads: Sequence[Tensor]) -> bool:
    """Whether backward itself is differentiated, or intercepted by a transform.

    In backward, grad mode is on only with create_graph. `is_grads_batched` passes tensors of torch's older vmap, which
    the private `is_legacy_batchedtensor` of torch 2.4 to 2.14 detects.
    """
    return (
        torch.is_grad_enabled()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or any(map(_functorch.is_legacy_batchedtensor, grads))
    )
