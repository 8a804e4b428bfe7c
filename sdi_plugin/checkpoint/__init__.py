"""Weights from files: read, recognised, renamed, and loaded entirely or not at all."""

from sdi_plugin.checkpoint.architecture import describe, without_weights
from sdi_plugin.checkpoint.errors import CheckpointError
from sdi_plugin.checkpoint.loading import check, load, load_encoder, load_state
from sdi_plugin.checkpoint.names import convert, identify
from sdi_plugin.checkpoint.reading import read
from sdi_plugin.checkpoint.writing import save

__all__ = [
    "CheckpointError",
    "check",
    "convert",
    "describe",
    "identify",
    "load",
    "load_encoder",
    "load_state",
    "read",
    "save",
    "without_weights",
]
