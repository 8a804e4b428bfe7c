"""Weights from files: read, recognised, renamed, and loaded completely or not at all.

Names are imported on first use: `Card` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdi_plugin.checkpoint.architecture import describe, without_weights
    from sdi_plugin.checkpoint.card import Card
    from sdi_plugin.checkpoint.errors import CheckpointError
    from sdi_plugin.checkpoint.export import Converted, Export, Recognised, recognise
    from sdi_plugin.checkpoint.loading import check, load, load_encoder, load_state
    from sdi_plugin.checkpoint.names import convert, identify
    from sdi_plugin.checkpoint.reading import read
    from sdi_plugin.checkpoint.whole import Checkpoint, read_whole
    from sdi_plugin.checkpoint.writing import save, save_torch

__all__ = [
    "Card",
    "Checkpoint",
    "CheckpointError",
    "Converted",
    "Export",
    "Recognised",
    "check",
    "convert",
    "describe",
    "identify",
    "load",
    "load_encoder",
    "load_state",
    "read",
    "read_whole",
    "recognise",
    "save",
    "save_torch",
    "without_weights",
]

_MODULES = {
    "Card": "card",
    "Checkpoint": "whole",
    "CheckpointError": "errors",
    "Converted": "export",
    "Export": "export",
    "Recognised": "export",
    "check": "loading",
    "convert": "names",
    "describe": "architecture",
    "identify": "names",
    "load": "loading",
    "load_encoder": "loading",
    "load_state": "loading",
    "read": "reading",
    "read_whole": "whole",
    "recognise": "export",
    "save": "writing",
    "save_torch": "writing",
    "without_weights": "architecture",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sdi_plugin.checkpoint' has no attribute {name!r}")
    value = getattr(import_module(f"sdi_plugin.checkpoint.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
