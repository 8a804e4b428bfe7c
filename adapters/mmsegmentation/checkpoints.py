"""mmengine's checkpoints under torch's weights_only=True: what they hold beside tensors is named here, one by one."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from sdi_plugin.checkpoint.reading import refused

_STATISTICS = ("current", "max", "mean", "min")


def trust_mmengine() -> None:
    """Admit what mmengine writes (its log's history, numpy's arrays and numbers), and nothing else, to torch.load.

    torch.load refuses any other class by name before anything of it runs. Files named in load_from, in --resume or for
    `init_model` are read with weights_only=True whatever the version of torch, and refused with a clear error.
    """
    core = cast(Any, np)._core if hasattr(np, "_core") else cast(Any, np).core
    numpy_functions = [
        _under(function, f"{module}.multiarray", name)
        for module in ("numpy.core", "numpy._core")  # before numpy 2, and since
        for name, function in (("_reconstruct", core.multiarray._reconstruct), ("scalar", core.multiarray.scalar))
    ]
    dtypes = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type)]
    history = [HistoryBuffer, _under(_statistic, "builtins", "getattr")]
    torch.serialization.add_safe_globals([*history, np.ndarray, np.dtype, *dtypes, *numpy_functions])
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """mmengine's loader for local files, with weights_only=True.

    Raises:
        FileNotFoundError: there is no such file.
        sdi_plugin.checkpoint.CheckpointError: the file holds a class that is not admitted; nothing of it was run.
    """
    path = Path(os.path.expanduser(filename))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint, found no such file.")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise refused(path, error) from error


def _statistic(owner: Any, name: str) -> Any:
    """What a HistoryBuffer's pickle needs of getattr: its own four methods. More would open the way to any code."""
    if owner is HistoryBuffer and name in _STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f"GLOBAL builtins.getattr({owner!r}, {name!r}) was not an allowlisted global")


def _under(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """`function` under the name by which pickles ask for it; torch before 2.6 admits a function by no other."""

    def admitted(*args: Any) -> Any:
        return function(*args)

    admitted.__module__, admitted.__name__, admitted.__qualname__ = module, name, name
    return admitted
