"""From a checkpoint to masks: load, predict, export. Names are imported on first use; `deploy.run` needs no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdi_plugin.deploy.exporting import Exported, ExportError, export
    from sdi_plugin.deploy.folder import Summary, predict
    from sdi_plugin.deploy.images import ImageError
    from sdi_plugin.deploy.loading import Loaded, load
    from sdi_plugin.deploy.predictor import Prediction, Predictor

__all__ = [
    "ExportError",
    "Exported",
    "ImageError",
    "Loaded",
    "Prediction",
    "Predictor",
    "Summary",
    "export",
    "load",
    "predict",
]

_MODULES = {
    "ExportError": "exporting",
    "Exported": "exporting",
    "ImageError": "images",
    "Loaded": "loading",
    "Prediction": "predictor",
    "Predictor": "predictor",
    "Summary": "folder",
    "export": "exporting",
    "load": "loading",
    "predict": "folder",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sdi_plugin.deploy' has no attribute {name!r}")
    value = getattr(import_module(f"sdi_plugin.deploy.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
