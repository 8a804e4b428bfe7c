"""mmengine's checkpoints under torch's weights_only=True: what they hold besides tensors is read by stand-ins."""

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from sdi_plugin.adapters.mmsegmentation import downloads
from sdi_plugin.checkpoint.admitted import Array, admitted, plain
from sdi_plugin.checkpoint.reading import contents


def trust_mmengine() -> None:
    """Admit what mmengine writes (its log's history, numpy's arrays and numbers), and nothing else, to torch.load.

    torch.load refuses any other class by name before any of it runs. Files and URLs named in load_from, in
    --resume or for `init_model` are read with weights_only=True in every version of torch, and refused with a clear
    error.
    """
    torch.serialization.add_safe_globals(_ADMITTED)
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
    CheckpointLoader.register_scheme(prefixes=downloads.SCHEMES, loader=load_from_http, force=True)


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """mmengine's loader for local files, with weights_only=True.

    Raises:
        FileNotFoundError: there is no such file.
        sdi_plugin.checkpoint.CheckpointError: not a checkpoint, truncated or damaged, or the file holds a class that is
            not admitted; none of it was run.
    """
    path = Path(os.path.expanduser(filename))
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a checkpoint, found no such file.")
    return plain(contents(path, map_location, _ADMITTED))


def load_from_http(filename: str, map_location: Any = None) -> Any:
    """mmengine's loader for URLs, with weights_only=True.

    Raises:
        sdi_plugin.hub.HubError: see `downloads.fetch`.
        sdi_plugin.checkpoint.CheckpointError: see `load_from_local`.
    """
    cure = "Download it elsewhere, and pass the file."
    return load_from_local(str(downloads.fetch(filename, "load_from", cure)), map_location)


class _History(HistoryBuffer):
    """Becomes a HistoryBuffer once it holds numbers; the statistics are the class's own, whatever the file says."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        logs, counts = (state[name] for name in ("_log_history", "_count_history"))
        length = state["max_length"]
        if not (isinstance(logs, Array) and isinstance(counts, Array) and isinstance(length, int)):
            raise TypeError("HistoryBuffer: expected arrays of numbers")
        if logs.array.ndim != 1 or logs.array.shape != counts.array.shape:
            raise ValueError("HistoryBuffer: expected as many counts as values")
        # No longer a stand-in: a second state is refused.
        self.__class__ = HistoryBuffer  # pyright: ignore[reportAttributeAccessIssue]
        numbers = {"max_length": length, "_log_history": logs.array, "_count_history": counts.array}
        HistoryBuffer.__setstate__(self, numbers)


_ADMITTED = admitted(_History)
