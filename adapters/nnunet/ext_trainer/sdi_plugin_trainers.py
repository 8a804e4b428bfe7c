"""What nnU-Net reads of the folder that nnUNet_extTrainer names: the trainers themselves are defined elsewhere."""

try:
    from sdi_plugin.adapters.nnunet.variants import *  # noqa: F403
except Exception as error:  # an error in here would stop nnU-Net's search for any other trainer
    import sys

    print(f"sdi-plugin: its trainers are not available: {error}", file=sys.stderr)
