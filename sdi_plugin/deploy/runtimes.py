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
        return _OpenVINO(graph, threads, precision, required)
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


class _OpenVINO:
    """One program for images of any size, and a faster one for those of the usual size.

    Images go one by one: larger batches gain nothing on a CPU, and each image's result is then its own.
    """

    def __init__(self, graph: Path, threads: int | None, precision: str, required: bool):
        import openvino

        self._hint = _HINTS.get(precision, "f32")  # OpenVINO's own default is bf16 where the processor has it
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self._hint, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._core, self._graph, self._programs = openvino.Core(), graph, {}
        self._precision = (precision, required)
        self.usual: tuple[int, ...] | None = None
        if required:
            self._program(())

    def __call__(self, images: Array) -> list[Array]:
        size = images.shape[2:]
        program = self._program(size if size == self.usual else ())
        outputs = [program(images[index : index + 1]).to_tuple() for index in range(len(images))]
        return [np.concatenate(each) for each in zip(*outputs, strict=True)]

    def _program(self, size: tuple[int, ...]) -> Any:
        if size not in self._programs:
            model = self._core.read_model(self._graph)
            shape = model.input(0).partial_shape
            shape[0] = 1
            for axis, length in enumerate(size, 2):
                shape[axis] = length
            model.reshape(shape)
            program = self._core.compile_model(model, "CPU", self._settings)
            used = program.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            precision, required = self._precision
            if required and used != self._hint:
                raise ValueError(f"Predictor: expected a processor that computes in {precision}, got one for {used}.")
            self._programs[size] = program
        return self._programs[size]


def _torch(graph: Path, threads: int | None) -> Run:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    module = torch.export.load(graph).module()

    def run(images: Array) -> list[Array]:
        with torch.inference_mode():
            return [each.numpy() for each in module(torch.from_numpy(images))]

    return run
