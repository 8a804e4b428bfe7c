"""From a checkpoint to masks: load, predict, export. Names are imported on first use; `deploy.run` needs no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdi_plugin.deploy.loading import Loaded, load

__all__ = ["Loaded", "load"]

_MODULES = {"Loaded": "loading", "load": "loading"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sdi_plugin.deploy' has no attribute {name!r}")
    value = getattr(import_module(f"sdi_plugin.deploy.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
