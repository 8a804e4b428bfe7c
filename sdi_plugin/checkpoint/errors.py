"""The one exception for weights that cannot be used."""


class CheckpointError(ValueError):
    """A file or state dict that cannot be used, and what is wrong with it. Nothing was loaded or written."""
