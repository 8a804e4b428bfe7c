"""The official U-Net v2, independently of sdi_plugin: its parameter names, and its equations in plain functions.

Written from docs and the paper (arXiv 2311.17791, section 2), for square images and four levels as the official network
has them. The encoder is timm's; only its names are the official ones.
"""

import re

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = (1, 2, 3, 4)  # fine to coarse, as the official names count them


def pvt_v2_state(encoder: str, in_channels: int = 3) -> dict[str, Tensor]:
    """Random weights of the encoder with its classifier, under the names of PVTv2's authors."""
    state = timm.create_model(encoder, in_chans=in_channels, num_classes=10).state_dict()
    return {_pvt_v2_name(key): torch.randn_like(value) * 0.02 + value for key, value in state.items()}


def _pvt_v2_name(key: str) -> str:
    key = re.sub(r"^patch_embed\.", "patch_embed1.", key)
    if match := re.match(r"stages\.(\d)\.(downsample|norm|blocks)\.(.*)", key):
        part = {"downsample": "patch_embed", "norm": "norm", "blocks": "block"}[match[2]]
        key = f"{part}{int(match[1]) + 1}.{match[3]}".replace("mlp.dwconv.", "mlp.dwconv.dwconv.")
    return key


def state(encoder: str = "pvt_v2_b0", classes: int = 2, channels: int = 16, in_channels: int = 3) -> dict[str, Tensor]:
    """Random weights of the whole network, in every buffer too, so that no two of them could be mistaken."""
    found = {f"encoder.backbone.{key}": value for key, value in pvt_v2_state(encoder, in_channels).items()}
    widths = timm.create_model(encoder, features_only=True).feature_info.channels()  # pyright: ignore
    for level, width in zip(LEVELS, widths, strict=True):
        found |= {
            f"ca_{level}.fc1.weight": _conv(width // 16, width, 1),
            f"ca_{level}.fc2.weight": _conv(width, width // 16, 1),
            f"sa_{level}.conv1.weight": _conv(1, 2, 7),
            f"Translayer_{level}.conv.weight": _conv(channels, width, 1),
            f"Translayer_{level}.bn.weight": torch.rand(channels) + 0.5,
            f"Translayer_{level}.bn.bias": torch.randn(channels) * 0.2,
            f"Translayer_{level}.bn.running_mean": torch.randn(channels) * 0.2,
            f"Translayer_{level}.bn.running_var": torch.rand(channels) + 0.5,
            f"Translayer_{level}.bn.num_batches_tracked": torch.tensor(100 + level),
        }
        for source in range(4):
            found[f"sdi_{level}.convs.{source}.weight"] = _conv(channels, channels, 3)
            found[f"sdi_{level}.convs.{source}.bias"] = torch.rand(channels) + 0.5
    for head in range(4):
        found[f"seg_outs.{head}.weight"] = _conv(classes, channels, 1)
        found[f"seg_outs.{head}.bias"] = torch.randn(classes)
    for number in (2, 3, 4, 5):
        found[f"deconv{number}.weight"] = _conv(channels, channels, 4)
    return found


def _conv(out_channels: int, in_channels: int, kernel: int) -> Tensor:
    return torch.randn(out_channels, in_channels, kernel, kernel) / (in_channels * kernel**2) ** 0.5


def renamed(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights in the naming of the second official variant."""
    short = {re.sub(r"^encoder\.backbone\.", "backbone.", key): value for key, value in official.items()}
    return {re.sub(r"^sdi_", "attention_", key): value for key, value in short.items()}


def forward(state: dict[str, Tensor], features: list[Tensor], size: int) -> list[Tensor]:
    """The logits of the four heads at the image's size, finest first."""
    reduced = [_reduce(state, level, f) for level, f in zip(LEVELS, features, strict=True)]
    infused = [_sdi(state, level, reduced) for level in LEVELS]
    y = infused[3]
    logits = [_head(state, 0, y, size)]
    for step, level in ((2, 3), (3, 2), (4, 1)):
        y = F.conv_transpose2d(y, state[f"deconv{step}.weight"], stride=2, padding=1) + infused[level - 1]
        logits.append(_head(state, step - 1, y, size))
    return logits[::-1]


def _reduce(state: dict[str, Tensor], level: int, f: Tensor) -> Tensor:
    def mlp(x: Tensor) -> Tensor:
        hidden = F.relu(F.conv2d(x, state[f"ca_{level}.fc1.weight"]))
        return F.conv2d(hidden, state[f"ca_{level}.fc2.weight"])

    x = torch.sigmoid(mlp(F.adaptive_avg_pool2d(f, 1)) + mlp(F.adaptive_max_pool2d(f, 1))) * f
    pooled = torch.cat([torch.mean(x, dim=1, keepdim=True), torch.max(x, dim=1, keepdim=True)[0]], dim=1)
    x = torch.sigmoid(F.conv2d(pooled, state[f"sa_{level}.conv1.weight"], padding=3)) * x
    x = F.conv2d(x, state[f"Translayer_{level}.conv.weight"])
    mean, variance, scale, shift = (
        state[f"Translayer_{level}.bn.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, variance, scale, shift)


def _sdi(state: dict[str, Tensor], level: int, maps: list[Tensor]) -> Tensor:
    size = maps[level - 1].shape[-1]
    product = torch.ones_like(maps[level - 1])
    for source, x in enumerate(maps):
        if x.shape[-1] > size:
            x = F.adaptive_avg_pool2d(x, size)
        elif x.shape[-1] < size:
            x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=True)
        name = f"sdi_{level}.convs.{source}"
        product = product * F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
    return product


def _head(state: dict[str, Tensor], number: int, y: Tensor, size: int) -> Tensor:
    logits = F.conv2d(y, state[f"seg_outs.{number}.weight"], state[f"seg_outs.{number}.bias"])
    return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
