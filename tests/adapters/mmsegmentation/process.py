"""`mim` in a process of its own, on a network and images small enough for a test."""

import os
import subprocess
from pathlib import Path
from typing import Any

SMALL = [
    "model.backbone.init_cfg=None",
    "model.decode_head.channels=8",
    "image_size=(32,32)",
    "train_dataloader.batch_size=2",
    *(f"{part}_dataloader.num_workers=1" for part in ("train", "val", "test")),
    "train_cfg.max_iters=40",
    "train_cfg.val_interval=20",
    "default_hooks.checkpoint.interval=4",
    "default_hooks.logger.interval=4",
    "default_hooks.visualization.interval=1",
]


def mim(python: str, folder: Path, *arguments: str, background: bool = False, **environment: str) -> Any:
    """Run the `mim` beside `python` in a folder; return its output, or with `background` its process."""
    command = [python, "-W", "ignore", str(Path(python).with_name("mim")), *arguments]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    if background:
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, start_new_session=True)
    found = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout
