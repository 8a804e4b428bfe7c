"""torch.compile, torch.export, ONNX, TorchScript."""

from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import segmentation_models_pytorch as smp
import torch

import sdi_plugin.adapters.smp  # noqa: F401  registers "unetv2"

slow = pytest.mark.slow
# Every level adds to what a compiler has to trace: the quick case has three, not four or five.
QUICK = pytest.param("tu-test_resnet", 3, id="quick")
ALL = [QUICK] + [
    pytest.param(name, 5, id=name, marks=slow) for name in ("resnet34", "tu-pvt_v2_b0", "mit_b0", "tu-convnext_atto")
]


def create(encoder: str, depth: int, size: tuple[int, int] = (64, 64)) -> Any:
    """A model in evaluation mode whose logits vary over the image, by 0.1: there is something to compare."""
    model: Any = smp.create_model("unetv2", encoder, None, encoder_depth=depth, decoder_channels=8, classes=2)
    for name, module in model.named_modules():
        if name.startswith("decoder.skip.sdi") and isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if name.startswith("decoder.skip.reductions") and isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.encoder.eval()
    images = torch.rand(8, 3, *size)
    with torch.no_grad():
        model(images)
        scale = 10 * model.eval()(images).std()
        for parameter in model.segmentation_head.parameters():
            parameter.div_(scale)
    return model


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(("encoder", "depth"), ALL)
def test_compile(encoder, depth):
    model = create(encoder, depth)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    with torch.inference_mode():
        for size in [(64, 64), (61, 83)]:
            x = torch.rand(2, 3, *size)
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-6)


def test_compile_in_training_with_deep_supervision():
    model = smp.create_model("unetv2", "tu-test_resnet", None, encoder_depth=3, deep_supervision=True)
    masks = torch.compile(model, fullgraph=True, backend="eager")(torch.rand(1, 3, 64, 64))
    assert [tuple(mask.shape) for mask in masks] == [(1, 1, 64, 64)] * 2


@pytest.mark.parametrize("size", [(64, 64), (61, 83)], ids=str)
@pytest.mark.parametrize(("encoder", "depth"), ALL)
def test_export(encoder, depth, size):
    model, x = create(encoder, depth, size), torch.rand(2, 3, *size)
    exported = torch.export.export(model, (x,), strict=True).module()
    with torch.inference_mode():
        torch.testing.assert_close(exported(x), model(x), rtol=1e-5, atol=1e-5)


# onnxscript, pytree and copyreg, of torch's own exporter
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("encoder", "depth", "size"),
    [
        pytest.param("tu-test_resnet", 3, (61, 83), id="quick, uneven levels"),
        pytest.param("tu-pvt_v2_b0", 5, (61, 83), id="tu-pvt_v2_b0, uneven levels", marks=slow),
        *(
            pytest.param(name, 5, (64, 96), id=name, marks=slow)
            for name in ("resnet34", "tu-pvt_v2_b0", "mit_b0", "tu-convnext_atto")
        ),
    ],
)
def test_onnx_agrees_in_onnx_runtime(tmp_path, encoder, depth, size):
    model = create(encoder, depth, size)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.onnx.export(model, (torch.rand(2, 3, *size),), dynamo=True, dynamic_shapes=(batch,), verbose=False)
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 3):
        x = torch.rand(count, 3, *size)
        with torch.inference_mode():
            expected = model(x).numpy()
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert expected.std() > 0.03
        np.testing.assert_allclose(cast(np.ndarray, got), expected, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_torchscript_is_refused_as_upstream_does():
    model = create("tu-test_resnet", 3)
    assert not model._is_torch_scriptable
    with pytest.raises(RuntimeError, match="Use torch.compile or torch.export"):
        torch.jit.script(model)
