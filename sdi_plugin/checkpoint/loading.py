"""Weights into networks: everything is compared first, so that a failed load changes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sdi_plugin.checkpoint.architecture import describe, without_weights
from sdi_plugin.checkpoint.errors import CheckpointError
from sdi_plugin.checkpoint.names import convert, encoder_of, rename, shorten
from sdi_plugin.checkpoint.reading import read


def load(model: nn.Module, path: str | Path, heads: str = "strict") -> list[str]:
    """Load a file into a core `UNetV2`, see `load_state` and `read`.

    Examples:
        >>> from sdi_plugin import UNetV2, checkpoint
        >>> model = UNetV2(**checkpoint.describe(checkpoint.read("UNet_v2_official.pth")))
        >>> dropped = checkpoint.load(model, "UNet_v2_official.pth")
        >>> "deconv5.weight" in dropped
        True
    """
    try:
        return load_state(model, read(path), heads)
    except CheckpointError as error:
        raise _of_file(path, error) from error


def load_state(model: nn.Module, state: Mapping[str, Tensor], heads: str = "strict") -> list[str]:
    """Load official, core, smp or nnunet weights into a core `UNetV2`, all of them or none.

    An official checkpoint has four heads. To load all of them, as the published evaluation requires, build
    `UNetV2(deep_supervision=4)`; to predict with only the finest, pass heads="drop".

    Args:
        model: its shapes must be those of the weights; `describe(state)` returns the arguments to build it.
        heads: "strict", or "drop" to leave out the coarser heads that the model does not have.

    Returns:
        The names that have no counterpart in the model and were dropped, see `convert`.

    Raises:
        CheckpointError: missing or unexpected names, or different shapes; the model is unchanged.
        ValueError: an unknown `heads`.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> state = checkpoint.read("UNet_v2_official.pth")
        >>> from sdi_plugin import UNetV2
        >>> model = UNetV2("pvt_v2_b0", classes=2)  # only the finest head
        >>> dropped = checkpoint.load_state(model, state, heads="drop")
    """
    if heads not in ("strict", "drop"):
        raise ValueError(f'load: expected heads="strict" or "drop", got {heads!r}.')
    core, dropped = convert(state)
    expected = model.state_dict()
    surplus = [key for key in core if key.startswith("decoder.heads.") and key not in expected]
    if heads == "drop":
        core = {key: value for key, value in core.items() if key not in surplus}
        dropped = dropped + surplus
    try:
        check(core, expected, "UNetV2")
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_cure(state, expected, surplus)}") from error
    model.load_state_dict(core)
    return dropped


def load_encoder(model: nn.Module, source: str | Path | Mapping[str, Tensor], owner: str) -> None:
    """Load a file or a state dict into a feature pyramid of timm, all of its parameters or none.

    It may contain only the encoder (official PVTv2; timm's names, as a classifier or a pyramid) or a whole U-Net
    v2 (official, core, smp, nnunet). Parameters that only timm's classifier has, such as its head, are left out. If the
    images do not have 3 channels, the first convolution is adapted as timm does.

    Args:
        model: the result of `timm.create_model(owner, features_only=True)`.
        owner: timm's name, or smp's name for it, with the prefix tu-.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: unreadable (see `read`), missing or unexpected names, or different shapes; the model is
            unchanged.

    Examples:
        >>> import timm
        >>> from sdi_plugin import checkpoint
        >>> encoder = timm.create_model("pvt_v2_b0", features_only=True)
        >>> checkpoint.load_encoder(encoder, "pvt_v2_b0.pth", owner="pvt_v2_b0")
    """
    expected = model.state_dict()
    # timm's pyramids and classifiers have the same names except for some dots: stages_0 is stages.0 in a classifier.
    own_names = {_flat(key): key for key in expected}
    try:
        found = encoder_of(source if isinstance(source, Mapping) else read(source))
        spare = {key for key in found if _flat(key) not in own_names}
        if len(spare) == len(found):
            raise CheckpointError(
                f"expected the weights of {owner}, got a checkpoint of another architecture, with "
                f"{shorten(list(found), 5)}."
            )
        if spare:
            classifier = _classifier_names(owner)
            found = {key: value for key, value in found.items() if key not in spare or _flat(key) not in classifier}
        state = rename(found, lambda key: own_names.get(_flat(key), key))
        _adapt_first_conv(model, state, expected)
        check(state, expected, owner)
    except CheckpointError as error:
        raise error if isinstance(source, Mapping) else _of_file(source, error) from error
    model.load_state_dict(state)


def check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], owner: str) -> None:
    """Raise a CheckpointError that says how two state dicts differ, if their names or shapes do.

    Examples:
        >>> import torch
        >>> from sdi_plugin import checkpoint
        >>> expected = torch.nn.Linear(2, 1).state_dict()
        >>> checkpoint.check(expected, expected, "Linear")  # no error: they fit
    """
    differences = []
    if missing := [key for key in expected if key not in state]:
        differences.append(f"Missing: {shorten(missing)}.")
    if unexpected := [key for key in state if key not in expected]:
        differences.append(f"Unexpected: {shorten(unexpected)}.")
    if other := [_difference(key, state[key], expected[key]) for key in expected if key in state]:
        other = [text for text in other if text]
        differences += [f"Different shapes: {shorten(other)}."] if other else []
    if differences:
        raise CheckpointError(f"{owner}: the checkpoint does not match; nothing was loaded. {' '.join(differences)}")


def _difference(name: str, value: Tensor, expected: Tensor) -> str:
    if value.shape != expected.shape:
        return f"{name} (expected {tuple(expected.shape)}, got {tuple(value.shape)})"
    if value.layout != expected.layout:
        return f"{name} (expected {expected.layout}, got {value.layout})"
    if value.is_floating_point() != expected.is_floating_point():
        return f"{name} (expected {expected.dtype}, got {value.dtype})"
    return ""


def _cure(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], surplus: list[str]) -> str:
    try:
        arguments, built = describe(state), describe(expected)
    except CheckpointError:  # another encoder, or too few parameters to describe it
        return ""
    if arguments == built:
        return ""
    call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    only_heads = surplus and arguments | {"deep_supervision": built["deep_supervision"]} == built
    drop = ', or pass heads="drop" to leave out its coarser heads' if only_heads else ""
    return f" The weights are those of UNetV2({call}): build that network{drop}."


def _of_file(path: str | Path, error: CheckpointError) -> CheckpointError:
    return error if str(error).startswith(str(path)) else CheckpointError(f"{path}: {error}")


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _classifier_names(owner: str) -> set[str]:
    import timm

    name = owner.removeprefix("tu-")
    if not timm.is_model(name):
        return set()
    return {_flat(key) for key in without_weights(lambda: timm.create_model(name)).state_dict()}


def _adapt_first_conv(model: Any, state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """timm's rule: one channel gets the sum over RGB; more channels repeat RGB, scaled to keep the response's size."""
    from timm.models import adapt_input_conv

    first = getattr(model, "pretrained_cfg", {}).get("first_conv") or ()
    names = {_flat(f"{name}.weight") for name in ((first,) if isinstance(first, str) else first)}
    for key in [key for key in state if _flat(key) in names and key in expected]:
        value, channels = state[key], expected[key].shape[1]
        if value.ndim == 4 and value.shape[1] == 3 != channels:
            state[key] = adapt_input_conv(channels, value)
