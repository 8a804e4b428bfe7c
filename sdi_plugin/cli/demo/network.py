"""The network that the demo trains, or why this encoder cannot be trained at this size, found before training."""

from typing import Any

import torch

from sdi_plugin import memory
from sdi_plugin.adapters.smp import UNetV2, probe
from sdi_plugin.cli.demo.recipe import Recipe
from sdi_plugin.cli.demo.weights import load_packaged_weights
from sdi_plugin.cli.errors import CommandError


def build(recipe: Recipe) -> tuple[UNetV2, str]:
    """The network, and where its encoder starts from; encoders for a single image size are built for the recipe's size.

    Raises:
        CommandError: the encoder is unknown, gives no pyramid of features, or does not take images of this size.
        sdi_plugin.memory.TooLargeError: training needs more memory than there is.
    """
    settings: dict[str, Any] = {"encoder_weights": None, "classes": 1, "deep_supervision": True}
    try:
        model = UNetV2(recipe.encoder, **settings)
    except Exception as error:  # smp and timm raise many kinds of errors for names and encoders that give no pyramid
        raise CommandError(
            f"demo: expected an encoder of segmentation_models_pytorch, got {recipe.encoder!r} ({error})."
        ) from error
    memory.check(probe.training_bytes(model.encoder, 3, 1, _size(recipe)), f"demo: one image of {recipe.size} pixels")
    try:
        _run_once(model, recipe)
    except Exception as refusal:
        try:
            model = UNetV2(recipe.encoder, **settings, img_size=_size(recipe))
            _run_once(model, recipe)
        except Exception:
            native = probe.native_size(model.encoder)[0]
            raise CommandError(
                f"demo: the encoder {recipe.encoder!r} cannot take images of {recipe.size} x {recipe.size} ({refusal}) "
                f"Pass --size {native}, which it was made for, or another --encoder."
            ) from refusal
    return model, load_packaged_weights(model, recipe.encoder)


def _size(recipe: Recipe) -> tuple[int, int]:
    return recipe.size, recipe.size


@torch.no_grad()
def _run_once(model: UNetV2, recipe: Recipe) -> None:
    model.eval()(torch.zeros(1, 3, *_size(recipe)))


def check_memory(model: UNetV2, recipe: Recipe, batch: int, device: torch.device) -> None:
    """Raise a TooLargeError where what the encoder keeps for backward exceeds the memory."""
    available = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None
    needed = probe.training_bytes(model.encoder, 3, batch, _size(recipe))
    memory.check(needed, f"demo: training {recipe.encoder!r} on {batch} images of {recipe.size} pixels", available)
