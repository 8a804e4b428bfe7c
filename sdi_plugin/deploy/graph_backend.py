"""An exported graph in ONNX Runtime, without torch, or one of torch.export."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdi_plugin.checkpoint.card import Card

SIDECAR = "model.json"
RUNTIMES = {"onnx": "onnxruntime", "pt2": "torch"}

Array = NDArray[np.float32]


class GraphBackend:
    """See `sdi_plugin.deploy.predictor.Backend`.

    Attributes:
        size: the network's only size, or None. Unless it is raw the graph resizes images to it.

    Args:
        file: the model.json that `export` wrote.
        runtime: "onnxruntime" or "torch", which must fit the file; or "auto".
        threads: of the CPU.

    Raises:
        FileNotFoundError: no such file, or not the one that it describes.
        ValueError: not such a file; a graph that has changed since; another runtime's.
        ImportError: onnxruntime is not installed.
    """

    def __init__(self, file: str | Path, runtime: str = "auto", threads: int | None = None):
        file = Path(file)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            kind, self.normalised_inside, raw = found["format"], found["normalised_inside"], found["raw"]
            hashes, self.card = found["sha256"], Card.from_json(json.dumps(found["card"]))
            self.channels, self.classes = (int(found[each][0]["shape"][1]) for each in ("inputs", "outputs"))
            self.size = None if found["size"] is None else (int(found["size"][0]), int(found["size"][1]))
            graph, needed = file.with_name(Path(found["file"]).name), RUNTIMES[kind]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{file}: expected a model.json of sdi-plugin export, got another file ({error!r})."
            ) from error
        if runtime not in ("auto", needed):
            raise ValueError(
                f"{file}: expected a graph for {runtime}, got one for {needed}. Export it again, or use it."
            )
        for name, expected in hashes.items():
            if hashlib.sha256(file.with_name(name).read_bytes()).hexdigest() != expected:
                raise ValueError(f"{file.with_name(name)}: not the graph that {file.name} describes. Export it again.")
        if self.normalised_inside:
            self.card = replace(self.card, mean=(0.0,), std=(1.0,))
        self.identity = json.dumps([str(file.resolve()), hashes])
        self._run = (_onnx if kind == "onnx" else _torch)(graph, threads)
        self._output = 0 if raw else 1  # the logits

    def __call__(self, images: Array) -> Array:
        return self._run(images)[self._output]


def _onnx(graph: Path, threads: int | None) -> Callable[[Array], Any]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("an exported graph needs onnxruntime. Install it: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings are about graphs, which users did not write
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def _torch(graph: Path, threads: int | None) -> Callable[[Array], Any]:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    module = torch.export.load(graph).module()

    def run(images: Array) -> list[Array]:
        with torch.inference_mode():
            return [each.numpy() for each in module(torch.from_numpy(images))]

    return run
