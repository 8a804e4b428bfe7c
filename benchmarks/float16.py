"""The effect of automatic mixed precision in float16 on a network, emulated on a machine that computes in float32.

Under autocast on a GPU, the results of layers, their gradients in backward, and the weight gradients of convolutions
are stored in float16, whose largest number is 65,504; sums inside a layer are in float32. `emulate` rounds to float16
in these places, so that values overflow to infinity, and small gradients vanish, where they do on a GPU.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sdi_plugin import SDISkip


def emulate(network: nn.Module) -> None:
    """Round the outputs of all layers, and all gradients, to float16 from now on.

    A layer is a module without children, or `SDISkip`, whose outputs are those of the fused op.
    """
    for module in network.modules():
        if isinstance(module, SDISkip) or not any(True for _ in module.children()):
            module.register_forward_hook(_round_outputs)
            if not isinstance(module, _NORMS):
                for parameter in module.parameters():
                    parameter.register_hook(lambda gradient: gradient.half().to(gradient.dtype))


# Autocast keeps their parameters, and therefore the gradients of these, in float32.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.half().to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].half().to(grads[0].dtype)


def _round_outputs(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return _Round.apply(outputs)
    return [_Round.apply(output) for output in outputs]
