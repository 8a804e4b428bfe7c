"""ONNX files with weights of half the size, and in OpenVINO's format."""

from pathlib import Path


def halve(file: Path, precision: str) -> None:
    """Store every weight matrix in fp16 or bf16, with a Cast to float32 behind it, which runtimes fold on loading."""
    import onnx
    from ml_dtypes import bfloat16
    from onnx import TensorProto, helper, numpy_helper

    dtype = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    model = onnx.load(file)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        weights = numpy_helper.to_array(tensor).astype("float16" if precision == "fp16" else bfloat16)
        name = tensor.name
        tensor.CopyFrom(helper.make_tensor(f"{name}.{precision}", dtype, tensor.dims, weights.tobytes(), raw=True))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    onnx.save(model, file)


def to_openvino(onnx: Path, file: Path) -> None:
    """Write FILE.xml and FILE.bin."""
    import openvino

    openvino.save_model(openvino.Core().read_model(onnx), file, compress_to_fp16=False)
