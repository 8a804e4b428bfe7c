"""ONNX files against TensorRT's limits, as far as they can be checked without it: its documentation, not its parser."""

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

# Operators of "supported ONNX operators", TensorRT 10, that graphs of ours may have.
OPERATORS = """
Abs Add And Asinh AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose Div
Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool Greater GreaterOrEqual HardSigmoid HardSwish
Identity InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log MatMul Max MaxPool Min Mod Mul Neg
Not Or Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Shape Sigmoid Sin
Slice Softmax Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where
"""
TYPES = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
}
# The inputs that decide a size: they must follow from shapes and constants, not from values.
SIZES = {
    "Resize": (2, 3),
    "Pad": (1,),
    "Slice": (1, 2, 3, 4),
    "Reshape": (1,),
    "Range": (0, 1, 2),
    "Expand": (1,),
    "Tile": (1,),
}


def problems(model: Any) -> list[str]:
    """What TensorRT would refuse, in words."""
    graph = model.graph
    made = {output: node for node in graph.node for output in node.output}
    values = {each.name for each in graph.input}
    found = [f"opset {each.version}" for each in model.opset_import if each.domain or not 13 <= each.version <= 22]
    found += [
        f"type {tensor.data_type} of {tensor.name}" for tensor in graph.initializer if tensor.data_type not in TYPES
    ]

    def from_values(name: str) -> bool:
        if name in values:
            return True
        node = made.get(name)
        return node is not None and node.op_type != "Shape" and any(from_values(each) for each in node.input)

    for node in graph.node:
        options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type not in OPERATORS.split():
            found.append(f"operator {node.op_type}")
        if node.op_type == "Cast" and options["to"] not in TYPES:
            found.append(f"Cast to {options['to']}")
        if node.op_type == "Resize" and (
            options.get("antialias") or options.get("mode") not in (b"linear", b"nearest", b"cubic")
        ):
            found.append(f"{node.name}: {options}")
        for index in SIZES.get(node.op_type, ()):
            if index < len(node.input) and from_values(node.input[index]):
                found.append(f"{node.name}: a size that depends on values")
    return found


def test_an_exported_graph_has_only_what_tensorrt_takes(dynamic):
    assert problems(onnx.load(dynamic / "model.onnx")) == []


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (helper.make_node("NonZero", ["images"], ["logits"]), "operator NonZero"),
        (helper.make_node("Cast", ["images"], ["logits"], to=TensorProto.DOUBLE), "Cast to 11"),
        (helper.make_node("Resize", ["images", "", "", "images"], ["logits"], "r", mode="linear"), "depends on values"),
        (helper.make_node("Resize", ["images"], ["logits"], "r", mode="linear", antialias=1), "antialias"),
    ],
    ids=["operator", "type", "size", "antialias"],
)
def test_what_it_does_not_take_is_found(node, said):
    shape = helper.make_tensor_value_info("images", TensorProto.FLOAT, [None])
    graph = helper.make_graph([node], "g", [shape], [])
    found = problems(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert len(found) == 1
    assert said in found[0]
