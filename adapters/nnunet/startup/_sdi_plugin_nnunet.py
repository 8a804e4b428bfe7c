"""Tell nnU-Net where the trainers of sdi-plugin are: Python calls this when it starts, so nothing here may be slow.

Installed at the top of site-packages beside sdi_plugin_nnunet.pth (and .start, for Python 3.15 and later).
SDI_PLUGIN_NNUNET=0 turns it off.
"""

import os
import sys


def append() -> None:
    """Append the folder of the trainers to the environment variable nnUNet_extTrainer, after what is there."""
    if os.environ.get("SDI_PLUGIN_NNUNET", "1").strip().lower() in ("0", "false", "off", "no"):
        return
    variable = "nnUNet_extTrainer"
    for package in _package_folders():
        # In the package, or beside it in a checkout.
        for adapters in (os.path.join(package, "adapters"), os.path.join(os.path.dirname(package), "adapters")):
            folder = os.path.join(adapters, "nnunet", "ext_trainer")
            if os.path.isdir(folder):
                there = [path for path in os.environ.get(variable, "").split(os.pathsep) if path]
                if folder not in there:
                    os.environ[variable] = os.pathsep.join([*there, folder])
                return


def _package_folders() -> list[str]:
    """Where sdi_plugin is, without importing it.

    The finders are asked one by one: importlib.util, which does the same, takes 4 ms to import at each start of Python.
    """
    for finder in sys.meta_path:
        spec = finder.find_spec("sdi_plugin", None)
        if spec is not None:
            return list(spec.submodule_search_locations or ())
    return []
