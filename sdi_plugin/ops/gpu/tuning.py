"""Chooses the tiles of the products by measuring, if SDI_PLUGIN_AUTOTUNE is 1.

Off by default: the tiles that the schedule computes come from sweeps on a GPU, and measuring compiles each product's
kernel several times, tens of seconds for each new class of shapes. A choice depends on measured times, and another tile
may round otherwise; so one is made once per class, dtype and architecture, kept on disk, and never changed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from sdi_plugin.ops.gpu import INTERPRETED
from sdi_plugin.ops.gpu.entries import Geometry, Request, Tile

AUTOTUNE = os.environ.get("SDI_PLUGIN_AUTOTUNE", "") not in ("", "0")
_MOST_ELEMENTS = 8192  # of a tile, pixels x channels: beyond, every candidate spills


class Key(NamedTuple):
    """A class of calls that share their choice. pixels: those of the finest level in all images, as a power of two."""

    kernel: str  # "multiply" or "multiply_backward"
    device: str
    dtype: str
    precision: str
    dim: int
    levels: int
    targets: int
    channels: int
    out_channels: int
    pixels: int


def is_on() -> bool:
    """Whether calls are tuned. With deterministic algorithms, results must not depend on measured times."""
    return AUTOTUNE and not INTERPRETED and not torch.are_deterministic_algorithms_enabled()


def key(kernel: str, request: Request, device: torch.device) -> Key:
    finest = request.images * max(torch.Size(size).numel() for size in request.sizes)
    return Key(
        kernel,
        torch.cuda.get_device_name(device),
        str(request.dtype),
        request.precision,
        len(request.sizes[0]),
        len(request.sizes),
        len(request.targets),
        request.channels,
        request.out_channels,
        finest.bit_length(),
    )


def candidates(kernel: str, request: Request) -> list[Tile]:
    """The tile of the schedule, then a few others."""
    geometry = Geometry(request)
    default = geometry.tile if kernel == "multiply" else geometry.backward_tile
    tiles = [default, default._replace(stages=2), *(Tile(*of, default.stages) for of in ((128, 8), (128, 4), (64, 4)))]
    return [tile for tile in dict.fromkeys(tiles) if tile.pixels * geometry.block_n <= _MOST_ELEMENTS]


_chosen: dict[Key, Tile] = {}


def choose(key: Key, tiles: Sequence[Tile], seconds: Callable[[Tile], float]) -> Tile:
    """The fastest tile. Once chosen for a key it stays, in this process and on disk.

    While a CUDA graph is captured nothing can be measured: without a choice on disk it is the first, in this process.
    """
    chosen = _chosen.get(key) or _read(key, tiles)
    if chosen is None and is_capturing():
        chosen = tiles[0]
    elif chosen is None:
        chosen = min(tiles, key=seconds)
        _write(key, tiles, chosen)
    return _chosen.setdefault(key, chosen)  # another thread's comes first


def is_capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def seconds(run: Callable[[], Any]) -> float:
    """The median time of a call on the GPU; infinite if its kernels do not compile or fit there."""
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources, PTXASError
    from triton.testing import do_bench

    try:
        milliseconds: Any = do_bench(run, warmup=5, rep=20, return_mode="median")
        return milliseconds / 1e3
    except (OutOfResources, CompilationError, PTXASError):
        return float("inf")


def _manager(key: Key, tiles: Sequence[Tile]) -> Any:
    """A folder of Triton's cache, by all that a choice depends on: also the kernels' source."""
    from triton import __version__
    from triton.runtime.cache import get_cache_manager

    from sdi_plugin.ops.gpu import launch

    kernels = launch.kernels()
    source = [getattr(kernels, name).cache_key for name in (key.kernel, "resize")]
    text = json.dumps([*key, *tiles, *source, __version__])
    return get_cache_manager(hashlib.sha256(text.encode()).hexdigest())


_FILE = "sdi_plugin.tile.json"


def _read(key: Key, tiles: Sequence[Tile]) -> Tile | None:
    path = _manager(key, tiles).get_file(_FILE)
    if path is None:
        return None
    try:
        with open(path) as file:
            tile = Tile(*json.load(file))
    except (OSError, ValueError, TypeError):
        return None  # a cache may be cut off: measure again
    return tile if tile in tiles else None


def _write(key: Key, tiles: Sequence[Tile], tile: Tile) -> None:
    _manager(key, tiles).put(json.dumps(tile), _FILE, binary=False)
