"""Weights from files: read, recognised, renamed, and loaded completely or not at all."""

from sdi_plugin.checkpoint.architecture import describe, without_weights
from sdi_plugin.checkpoint.errors import CheckpointError
from sdi_plugin.checkpoint.export import Converted, Export, Recognised, recognise
from sdi_plugin.checkpoint.loading import check, load, load_encoder, load_state
from sdi_plugin.checkpoint.names import convert, identify
from sdi_plugin.checkpoint.reading import read
from sdi_plugin.checkpoint.writing import save, save_torch

__all__ = [
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
    "recognise",
    "save",
    "save_torch",
    "without_weights",
]
