"""Programs written by torch's tracers: torch.jit.trace and the ONNX exporter that is built on it."""

import onnxruntime
import pytest
import torch

from sdi_plugin import SDISkip, UNetV2

# A traced program has fixed sizes, and torch's tracer says so at every decision that depends on a size.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Converting a tensor to a Python:torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.[a-z_]+` is deprecated:FutureWarning"),
]


class Maps(torch.nn.Module):
    """Two maps as two arguments."""

    def __init__(self, size):
        super().__init__()
        self.skip = SDISkip([3, 4], 5, dim=len(size))
        self.sizes = size, tuple(s // 2 for s in size)

    def forward(self, fine, coarse):
        return tuple(self.skip([fine, coarse]))

    def inputs(self):
        return torch.randn(2, 3, *self.sizes[0]), torch.randn(2, 4, *self.sizes[1])


class Image(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = UNetV2("pvt_v2_b0")

    def forward(self, image):
        return self.network(image)

    def inputs(self):
        return (torch.randn(1, 3, 64, 96),)


CASES = {"skip-2d": lambda: Maps((8, 6)), "skip-3d": lambda: Maps((4, 8, 6)), "unetv2": Image}


def tensors(output):
    return [output] if isinstance(output, torch.Tensor) else list(output)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_saved_traced_module_works_on_other_inputs(case, tmp_path):
    module = case().eval()
    traced = torch.jit.trace(module, module.inputs(), check_trace=False)  # it is checked below
    torch.jit.save(traced, tmp_path / "traced.pt")
    loaded = torch.jit.load(tmp_path / "traced.pt")
    inputs = module.inputs()
    torch.testing.assert_close(tensors(loaded(*inputs)), tensors(module(*inputs)))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning",
    "ignore:The feature will be removed. Please remove usage:DeprecationWarning",
)
def test_the_tracing_onnx_exporter_works_on_other_inputs(case, tmp_path):
    module = case().eval()
    names = [f"input{i}" for i in range(len(module.inputs()))]
    torch.onnx.export(module, module.inputs(), tmp_path / "model.onnx", dynamo=False, input_names=names)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = module.inputs()
    outputs = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    for output, expected in zip(outputs, tensors(module(*inputs)), strict=True):
        torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-4, atol=1e-5)
