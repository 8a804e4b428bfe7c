"""The modules that say how each framework's checkpoints are built and saved, imported when they are asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdi_plugin.checkpoint import Export

EXPORTS = {
    "core": "sdi_plugin.deploy.core_export",
    "smp": "sdi_plugin.adapters.smp.export",
    "mmseg": "sdi_plugin.adapters.mmsegmentation.export",
    "nnunet": "sdi_plugin.adapters.nnunet.export",
}


def export_of(framework: str) -> "Export":
    """The module, see `sdi_plugin.checkpoint.Export`.

    Raises:
        ImportError: the framework is not installed, or not in a supported version.
    """
    module: Any = import_module(EXPORTS[framework])
    return module
