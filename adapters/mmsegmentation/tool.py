"""mmseg's own scripts (get_flops, browse_dataset, print_config, confusion_matrix, publish_model ...), after the import.

`mim run mmseg TOOL` imports mmseg before any config is read, which fails with mmcv-lite: use `mim run sdi-plugin TOOL`
where the package is installed, and `python -m sdi_plugin.adapters.mmsegmentation TOOL` in a clone too.
"""

import functools
import runpy
import sys
from pathlib import Path
from typing import Any

import mmengine.analysis
import numpy as np

from sdi_plugin.encoder import import_timm

import mmseg
from mmseg.visualization import SegLocalVisualizer


def scripts() -> dict[str, Path]:
    """mmseg's scripts by name; of two with the same name the one with the shorter path, as in mim."""
    (package,) = mmseg.__path__
    files = sorted(Path(package, ".mim", "tools").rglob("*.py"), key=lambda path: (len(path.parts), path), reverse=True)
    return {path.stem: path for path in files}


def run(name: str) -> None:
    """Run a script of mmseg with this process's arguments.

    Raises:
        SystemExit: there is no such script.
    """
    known = scripts()
    if name not in known:
        raise SystemExit(f"sdi-plugin: expected a script of mmseg ({', '.join(sorted(known))}), got {name!r}.")
    if name == "get_flops":
        _count_given_inputs()
    if name == "browse_dataset":
        _draw_any_layout()
    sys.argv[0] = str(known[name])
    runpy.run_path(sys.argv[0], run_name="__main__")


def _count_given_inputs() -> None:
    """mmseg 1.2's get_flops passes inputs and their shape; mmengine 0.10 refuses both together.

    Neither counts timm's fused attention: its plain form is used here.
    """
    import_timm().layers.set_fused_attn(False)
    count = mmengine.analysis.get_model_complexity_info

    @functools.wraps(count)
    def count_given(model: Any, input_shape: Any = None, inputs: Any = None, **options: Any) -> Any:
        return count(model, input_shape if inputs is None else None, inputs, **options)

    mmengine.analysis.get_model_complexity_info = count_given


def _draw_any_layout() -> None:
    """mmseg 1.2's browse_dataset passes a view of an image with its channels reversed, which OpenCV 5 refuses."""
    draw = SegLocalVisualizer.add_datasample

    @functools.wraps(draw)
    def draw_contiguous(self: Any, name: str, image: np.ndarray, *args: Any, **options: Any) -> None:
        draw(self, name, np.ascontiguousarray(image), *args, **options)

    SegLocalVisualizer.add_datasample = draw_contiguous
