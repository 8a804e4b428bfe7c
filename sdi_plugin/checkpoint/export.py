"""The interface between `sdi-plugin convert`, the core and each adapter."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from sdi_plugin.checkpoint.architecture import describe_core, without_weights
from sdi_plugin.checkpoint.card import Card
from sdi_plugin.checkpoint.errors import CheckpointError
from sdi_plugin.checkpoint.names import from_core, to_core

# The file beside config.json in folders written by Hugging Face's save_pretrained, as smp's models do.
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Recognised:
    """Weights of a whole network, recognised once.

    Attributes:
        naming: the naming of the file, see `identify`.
        description: the arguments of the core's `UNetV2`, see `describe`.
        core: the weights under the core's names.
        dropped: the names that have no counterpart, see `convert`.

    Examples:
        >>> from sdi_plugin import UNetV2, checkpoint
        >>> recognised = checkpoint.recognise(UNetV2("pvt_v2_b0", classes=2).state_dict())
        >>> "decode_head.conv_seg.weight" in recognised.named("mmseg")
        True
    """

    naming: str
    description: dict[str, Any]
    core: dict[str, Tensor]
    dropped: list[str]

    def named(self, to: str) -> dict[str, Tensor]:
        """The weights under the names of "core", "smp", "mmseg" or "nnunet"."""
        return from_core(self.core, to)


def recognise(state: Mapping[str, Tensor], card: Card | None = None) -> Recognised:
    """What a state dict is, whether the framework that wrote it is installed or not.

    Args:
        card: names the encoder where it is not a PVTv2, see `describe`.

    Raises:
        CheckpointError: see `convert` and `describe`.

    Examples:
        >>> from sdi_plugin import UNetV2, checkpoint
        >>> found = checkpoint.recognise(checkpoint.read("official.pth"))
        >>> found.naming, found.description["encoder"]
        ('official', 'pvt_v2_b0')
        >>> UNetV2(**found.description).load_state_dict(found.core)
        <All keys matched successfully>
    """
    naming, core, dropped = to_core(state)
    return Recognised(naming, describe_core(core, card), core, dropped)


def build_without_weights(build: Callable[[Mapping[str, Any]], Any], description: Mapping[str, Any]) -> Any:
    """build(description) on the meta device.

    Raises:
        CheckpointError: there is no such network; it is the fault of the weights that were described.
    """
    try:
        return without_weights(lambda: build(description))
    except ImportError:
        raise
    except Exception as error:  # the frameworks' networks raise, assert, divide and index as they like
        call = ", ".join(f"{name}={repr(value)[:60]}" for name, value in description.items())
        raise CheckpointError(f"expected the weights of U-Net v2, got those of UNetV2({call}): {error}") from error


@dataclass(frozen=True)
class Converted:
    """Weights that fit their network, ready to be written.

    Attributes:
        state: the weights under the names of the target.
        network: what `Export.build` built, without weights.
        description: the arguments from which it was built.
        metadata: texts for file formats that can store them; "card" is the `Card`.

    Examples:
        >>> from sdi_plugin import UNetV2, checkpoint
        >>> network = UNetV2("pvt_v2_b0", classes=2)
        >>> checkpoint.Converted(network.state_dict(), network, {"classes": 2}, {}).description
        {'classes': 2}
    """

    state: Mapping[str, Tensor]
    network: nn.Module
    description: Mapping[str, Any]
    metadata: Mapping[str, str]


class Export(Protocol):
    """How checkpoints of one framework are built and saved: the module `export` of its adapter has these names.

    The module is imported when --to names its framework. The core reads and recognises files (`read`, `recognise`), so
    that the framework that wrote a file need not be installed; this is why all parameter names are in
    `checkpoint/names.py`.

    Attributes:
        SUFFIXES: suffixes that the target may have; the empty string stands for a folder.
        OUT: the rest of the message "expected OUT ..." for a target with another suffix.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> from sdi_plugin.adapters.smp import export
        >>> smp: checkpoint.Export = export
        >>> smp.SUFFIXES
        ('', '.safetensors')
    """

    SUFFIXES: tuple[str, ...]
    OUT: str

    def build(self, description: Mapping[str, Any]) -> Any:
        """The framework's network for the arguments of `describe`; its state dict has the names of the target.

        Called on the meta device. Raises ValueError or RuntimeError if there is no such network.
        """
        ...

    def write(self, target: Path, converted: Converted) -> str:
        """Write the weights, completely or not at all. Returns what the user needs to know, or the empty string.

        Raises:
            OSError: the target cannot be written.
        """
        ...
