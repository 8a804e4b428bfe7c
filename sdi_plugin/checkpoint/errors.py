"""The one exception for weights that cannot be used."""


class CheckpointError(ValueError):
    """A file or state dict that cannot be used, and what is wrong with it. Nothing was loaded or written.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> try:
        ...     checkpoint.identify({"conv.weight": None})
        ... except checkpoint.CheckpointError:
        ...     print("not a U-Net v2")
        not a U-Net v2
    """
