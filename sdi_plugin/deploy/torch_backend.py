"""The network in PyTorch, on a CPU or a GPU."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sdi_plugin.deploy.loading import Loaded, load
from sdi_plugin.deploy.predictor import VOLUMES

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """See `sdi_plugin.deploy.predictor.Backend`."""

    runtime = "torch"

    def __init__(self, model: str | Path | Loaded, device: str, precision: str, threads: int | None):
        if precision not in _PRECISIONS:
            raise ValueError(f"Predictor: expected a precision of {', '.join(_PRECISIONS)}, got {precision!r}.")
        if threads is not None:
            torch.set_num_threads(threads)
        model = load(model) if isinstance(model, str | Path) else model
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.dtype = _PRECISIONS[precision]
        self.channels, self.dim = model.channels, model.dim
        if self.dim == 3:
            raise ValueError(f"Predictor: expected a network for images, got one for volumes, {model.file}. {VOLUMES}")
        with torch.no_grad():
            self.classes = model(torch.zeros(1, self.channels, *(model.card.size or (64, 64)))).shape[1]
        model.network.to(self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.model, self.card, self.size = model, model.card, model.only_size
        state = model.file.stat()
        self.identity = f"{model.file.resolve()} {state.st_size} {state.st_mtime_ns} {precision}"

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
            return self.model(inputs).float().cpu().numpy()
