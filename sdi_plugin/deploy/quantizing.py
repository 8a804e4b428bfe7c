"""Convolutions and matrix products of 8-bit integers in an ONNX file, in all layers that can afford it."""

import copy
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdi_plugin.deploy import folder, images
from sdi_plugin.deploy.predictor import TILE, Predictor
from sdi_plugin.deploy.runtimes import Array

COUNT = 32  # images of calibration
BLOCKS = 16  # of layers that stay in float, or do not, together
_LAYERS = ["Conv", "Gemm", "MatMul"]


def pixels(directory: Path, predictor: Predictor, inside: bool, size: tuple[int, int] | None) -> list[Array]:
    """COUNT images of a folder, evenly spread over its files, as the graph takes them: each (1, C, H, W).

    Args:
        inside: whether the graph normalises.
        size: of the images; None for their own, of which the middle TILE x TILE pixels count.

    Raises:
        FileNotFoundError: no image is in the folder.
        sdi_plugin.deploy.ImageError: a file cannot be used.
    """
    files = [item.file for item in folder.find([directory])]
    found = []
    for file in files[:: -(-len(files) // COUNT)]:
        picture = next(images.pages(file, predictor.backend.channels))
        if size is None:
            (height, width), (top, left) = picture.size, (max(0, axis - TILE) // 2 for axis in picture.size)
            values = picture.crop(top, left, min(height, top + TILE), min(width, left + TILE))
        else:
            values = picture.resized(size)
        found.append(values[None] if inside else predictor.normalised(values, picture)[None])
    return found


def quantize(file: Path, inputs: Sequence[Array], bound: float) -> list[str]:
    """Replace the layers of an ONNX file by those of integers, but for the few whose integers cost most.

    Convention:
        Activations 0 to 255, per tensor; weights -64 to 64, per channel: products of two neighbours then fit into the
        16 bits of processors without VNNI. The error is the largest difference of the logits, relative to the largest
        logit, on 8 of the inputs. If it exceeds half of the bound with all layers, each sixteenth of them, in order of
        execution, is tried alone, and the worst stay in float, one more at a time, until it does not.

    Returns:
        The layers that stay in float.
    """
    import onnx

    model = onnx.load(file)
    weights = {tensor.name for tensor in model.graph.initializer}
    layers = [node.name for node in model.graph.node if node.op_type in _LAYERS and node.input[1] in weights]
    ranges = _ranges(file, inputs)
    inputs = inputs[:8]
    expected = _logits(file, inputs)

    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary, "model.onnx")

        def error(floats: Collection[str], inputs: Sequence[Array] = inputs) -> float:
            _quantized(model, ranges, [name for name in layers if name not in floats], target)
            found = zip(_logits(target, inputs), expected, strict=False)
            return max(float(np.abs(own - other).max() / np.abs(other).max()) for own, other in found)

        floats: list[str] = []
        if error(floats) > bound / 2:
            length = -(-len(layers) // BLOCKS)
            blocks = [layers[first : first + length] for first in range(0, len(layers), length)]
            costs = [error(set(layers).difference(block), inputs[:2]) for block in blocks]
            for _, block in sorted(zip(costs, blocks, strict=True), reverse=True):
                floats += block
                if error(floats) <= bound / 2:
                    break
        file.write_bytes(target.read_bytes())
    return floats


def _ranges(file: Path, inputs: Sequence[Array]) -> Any:
    """The smallest and largest value of every tensor, by name."""
    from onnxruntime.quantization import CalibrationDataReader, calibrate

    class Reader(CalibrationDataReader):
        left = iter(inputs)

        def get_next(self) -> Any:
            images = next(self.left, None)
            return None if images is None else {"images": images}

    with tempfile.TemporaryDirectory() as temporary:
        augmented = str(Path(temporary, "augmented.onnx"))
        options = {"CalibMaxIntermediateOutputs": 4}  # otherwise it keeps those of all images
        calibrator: Any = calibrate.create_calibrator(file, _LAYERS, augmented, extra_options=options)
        calibrator.collect_data(Reader())
        return calibrator.compute_data()


def _quantized(model: Any, ranges: Any, layers: list[str], target: Path) -> None:
    from onnxruntime.quantization import QuantType, qdq_quantizer

    quantizer = qdq_quantizer.QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=layers,
        nodes_to_exclude=[],
        op_types_to_quantize=_LAYERS,
        extra_options={"QDQOpTypePerChannelSupportToAxis": {"MatMul": 1}},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(target))


def _logits(file: Path, inputs: Sequence[Array]) -> list[Array]:
    from sdi_plugin.deploy.runtimes import start

    run = start("onnxruntime", file, None, "int8")
    return [run(images)[-1] for images in inputs]
