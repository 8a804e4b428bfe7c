"""Weights from files: read, recognised, renamed, and loaded completely or not at all."""

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
