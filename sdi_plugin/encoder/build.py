"""Models of timm by name: as feature pyramids where timm has them, otherwise as they are; or why there is none."""

import difflib
from typing import Any

# Whatever the model takes of these: images of any size for Swin and for ViTs, whose position embeddings are resized.
_OPTIONAL = {"strict_img_size": False, "dynamic_img_size": True}
_OTHERS = "Others work, such as pvt_v2_b2, resnet34, convnext_tiny or vit_small_patch16_dinov3."


def import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ImportError("The encoders come from timm. Install it: pip install 'sdi-plugin[smp]'") from error
    return timm


def check_name(name: str, owner: str) -> None:
    """Raise a ValueError if timm has no model of that name."""
    timm = import_timm()
    if ":" in name:  # timm's hf-hub:REPOSITORY and local-dir:FOLDER, which it may read without weights_only=True
        raise ValueError(f"{owner}: expected the name of a model of timm, got {name!r}. Pass weights as a file.")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them."
        raise ValueError(f"{owner}: expected the name of a model of timm, got {name!r}. {hint}")
    base, _, tag = name.partition(".")
    if tag and name not in (known := timm.list_models(f"{base}*", pretrained=True)):
        tags = [each.partition(".")[2] for each in known if each.partition(".")[0] == base]
        raise ValueError(
            f"{owner}: expected a tag of timm's weights for {base}, got {tag!r}. It has {', '.join(tags)}."
        )


def create_pyramid(name: str, owner: str, **arguments: Any) -> Any:
    """timm's model with features_only=True.

    Raises:
        ValueError: timm has no feature maps of this model, or not with these arguments.
    """
    try:
        return create(name, features_only=True, **arguments)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{owner}: timm gives no feature maps of {name!r} ({reason}). {_OTHERS}") from error


def create(name: str, drop_path: float = 0.0, **arguments: Any) -> Any:
    """timm's model; optional arguments that it does not take are left out."""
    optional = _OPTIONAL | {"drop_path_rate": drop_path}
    while True:
        try:
            return import_timm().create_model(name, **arguments, **optional)
        except TypeError as error:
            refused = {key for key in optional if f"'{key}'" in str(error)}
            if not refused:
                raise
            optional = {key: value for key, value in optional.items() if key not in refused}
