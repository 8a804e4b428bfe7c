"""What runs exported graphs: OpenVINO and ONNX Runtime, without torch, and torch itself."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Run = Callable[[Array], list[Array]]

RUNTIMES = {"onnx": ("openvino", "onnxruntime"), "openvino": ("openvino",), "pt2": ("torch",)}
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_HINTS = {"fp16": "f16", "bf16": "bf16"}


def installed(kind: str) -> list[str]:
    """The runtimes for a kind of file that are installed."""
    return [name for name in RUNTIMES[kind] if find_spec(name) is not None]


def start(runtime: str, graph: Path, threads: int | None, precision: str, required: bool = False) -> Run:
    """A function from images to the graph's outputs.

    Args:
        precision: in which OpenVINO computes, where the processor has it.
        required: raise where it has not, instead of computing in float32.

    Raises:
        ImportError: the runtime is not installed.
        ValueError: the precision is required, and the runtime or the processor has not got it.
    """
    if find_spec(runtime) is None:
        raise ImportError(f"{graph.name} needs {runtime}. Install it: pip install {runtime}")
    if runtime == "openvino":
        return _openvino(graph, threads, precision, required)
    if required:
        raise ValueError(
            f"Predictor: expected the graph's own precision with {runtime}, got {precision}. Export it with "
            "that precision, or use openvino."
        )
    return (_onnxruntime if runtime == "onnxruntime" else _torch)(graph, threads)


def _onnxruntime(graph: Path, threads: int | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings are about graphs, which users did not write
    options.intra_op_num_threads = threads or 0
    session: Any = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def _openvino(graph: Path, threads: int | None, precision: str, required: bool) -> Run:
    import openvino

    hint = _HINTS.get(precision, "f32")  # OpenVINO's own default is bf16 where the processor has it
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if required and used != hint:
        raise ValueError(f"Predictor: expected a processor that computes in {precision}, got one for {used} only.")
    return lambda images: list(compiled(images).to_tuple())


def _torch(graph: Path, threads: int | None) -> Run:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    module = torch.export.load(graph).module()

    def run(images: Array) -> list[Array]:
        with torch.inference_mode():
            return [each.numpy() for each in module(torch.from_numpy(images))]

    return run
