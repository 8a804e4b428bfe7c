"""Layer-wise learning rates for the backbones of this adapter."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """A learning rate that falls from the head to the image, and no weight decay for biases and norms.

    lr_l = lr * rate^(L - l) for layer l of the backbone's L, the rest of the network l = L        Clark et al. 2020
    (ELECTRA), arXiv 2003.10555

    In a config: optim_wrapper=dict(constructor="LayerDecayConstructor", paramwise_cfg=dict(layer_decay_rate=0.9), ...).

    Convention:
        The backbone says which by `layer_depth(name)` and `no_weight_decay(name)`, as `PVTv2` does.

    Raises:
        ValueError: no rate in (0, 1], or other keys in paramwise_cfg.
        TypeError: the model has no such backbone.

    Examples:
        >>> from torch import nn
        >>> from sdi_plugin.adapters.mmsegmentation import LayerDecayConstructor, PVTv2
        >>> wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-4))
        >>> construct = LayerDecayConstructor(wrapper, dict(layer_decay_rate=0.9))
        >>> groups = construct(nn.ModuleDict({"backbone": PVTv2("pvt_v2_b0")})).param_groups
        >>> min(group["lr"] for group in groups) < max(group["lr"] for group in groups) == 1e-4
        True
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get("layer_decay_rate")
        if set(self.paramwise_cfg) != {"layer_decay_rate"} or not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise ValueError(
                "LayerDecayConstructor: expected paramwise_cfg=dict(layer_decay_rate=R) with R above 0 and at most 1, "
                f"got {self.paramwise_cfg}."
            )
        self.rate = rate

    def add_params(self, params: list[dict], module: nn.Module, **_: Any) -> None:
        backbone: Any = getattr(module, "backbone", None)
        if not hasattr(backbone, "layer_depth"):
            raise TypeError(
                f"LayerDecayConstructor: expected a backbone with layer_depth(), such as PVTv2, got "
                f"{type(backbone).__name__}. Use another constructor for it."
            )
        groups: dict[tuple[float, bool], dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            own, prefix = name.removeprefix("backbone."), "backbone."
            depth, layers = backbone.layer_depth(own) if name.startswith(prefix) else (1, 1)
            decays = parameter.ndim > 1 and not (name.startswith(prefix) and backbone.no_weight_decay(own))
            scale = self.rate ** (layers - depth)
            if (scale, decays) not in groups:
                groups[scale, decays] = {
                    "params": [],
                    "lr": self.base_lr * scale,
                    "weight_decay": self.base_wd if decays else 0.0,
                }
            groups[scale, decays]["params"].append(parameter)
        params.extend(groups.values())
