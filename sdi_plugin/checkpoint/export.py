"""What `sdi-plugin convert` asks of the core and of each adapter, and what it hands them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from sdi_plugin.checkpoint.architecture import describe_core
from sdi_plugin.checkpoint.names import from_core, to_core

# Beside config.json, in the folders of Hugging Face's save_pretrained, which smp's models have.
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Recognised:
    """Weights of a whole network, recognised once.

    Attributes:
        naming: that they came in, see `identify`.
        description: the arguments of the core's `UNetV2`, see `describe`.
        core: the weights under the core's names.
        dropped: the names that have no counterpart, see `convert`.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> found = checkpoint.recognise(checkpoint.read("UNet_v2_official.pth"))
        >>> checkpoint.identify(found.named("mmseg"))
        'mmseg'
    """

    naming: str
    description: dict[str, Any]
    core: dict[str, Tensor]
    dropped: list[str]

    def named(self, to: str) -> dict[str, Tensor]:
        """The weights under the names of "core", "smp", "mmseg" or "nnunet"."""
        return from_core(self.core, to)


def recognise(state: Mapping[str, Tensor]) -> Recognised:
    """What a state dict is, whether the framework that wrote it is installed or not.

    Raises:
        CheckpointError: see `convert` and `describe`.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> found = checkpoint.recognise(checkpoint.read("UNet_v2_official.pth"))
        >>> found.naming, found.description["encoder"]
        ('official', 'pvt_v2_b0')
    """
    naming, core, dropped = to_core(state)
    return Recognised(naming, describe_core(core), core, dropped)


@dataclass(frozen=True)
class Converted:
    """Weights that fit their network, ready to be written.

    Attributes:
        state: under the names of the target.
        network: that `Export.build` built, without weights.
        description: from which it was built.
        metadata: texts for a file that has room for them.

    Examples:
        >>> from pathlib import Path
        >>> from sdi_plugin import checkpoint
        >>> from sdi_plugin.adapters.smp import export
        >>> found = checkpoint.recognise(checkpoint.read("UNet_v2_official.pth"))
        >>> network = checkpoint.without_weights(lambda: export.build(found.description))
        >>> converted = checkpoint.Converted(found.named("smp"), network, found.description, {})
        >>> export.write(Path("unetv2.safetensors"), converted)
        ''
    """

    state: Mapping[str, Tensor]
    network: nn.Module
    description: Mapping[str, Any]
    metadata: Mapping[str, str]


class Export(Protocol):
    """How checkpoints of one framework are built and saved: the module `export` of its adapter has these names.

    The module is imported when its framework is asked for, by --to. A file is recognised and read by the core
    (`recognise`, `read`), for which the framework that wrote it need not be installed; the names of its parameters are
    therefore in `checkpoint/names.py`.

    Attributes:
        SUFFIXES: that the target may have; the empty string stands for a folder.
        OUT: the rest of "expected OUT ..." for a target of another suffix.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> from sdi_plugin.adapters.smp import export
        >>> adapter: checkpoint.Export = export  # a module with these names
        >>> adapter.SUFFIXES
        ('', '.safetensors')
    """

    SUFFIXES: tuple[str, ...]
    OUT: str

    def build(self, description: Mapping[str, Any]) -> Any:
        """The framework's network of `describe`'s arguments, whose state dict has the names of the target.

        Called on the meta device. ValueError or RuntimeError: there is no such network.
        """
        ...

    def write(self, target: Path, converted: Converted) -> str:
        """Write the weights, whole or not at all. Returns what the user needs to know to use them, or the empty string.

        Raises:
            OSError: the target cannot be written.
        """
        ...
