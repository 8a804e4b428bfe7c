"""What nnU-Net reads from the folder that nnUNet_extTrainer names: the trainers themselves are defined elsewhere."""

import sys
from typing import Any

try:
    from sdi_plugin.adapters.nnunet import variants
except Exception as error:  # an error in here would stop nnU-Net's search for any other trainer
    variants = None
    print(f"sdi-plugin: its trainers are not available: {error}", file=sys.stderr)


def __getattr__(name: str) -> Any:
    """The trainer of that name, or a variant of one."""
    try:
        return getattr(variants, name)
    except AttributeError as error:
        if "UNetV2Timm_" in name and variants is not None:  # nnU-Net itself would only say that it found no trainer
            print(f"sdi-plugin: {error}", file=sys.stderr)
        raise
