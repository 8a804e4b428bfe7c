import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from timm.layers.drop import DropPath
from torch import nn

import sdi_plugin
from benchmarks.memory import saved_bytes
from sdi_plugin import UNetV2


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return UNetV2("pvt_v2_b0", classes=2, channels=8, deep_supervision=2).eval()


def test_the_papers_network_has_the_papers_parameters():
    """25.15 M: measured on the official network, which has four heads and an unused 4x4 layer of 32 x 32 channels."""
    with torch.device("meta"):
        model = UNetV2(deep_supervision=4)
    count = sum(p.numel() for p in model.parameters()) + 32 * 32 * 4 * 4
    assert abs(count / 25.15e6 - 1) < 1e-3


@pytest.mark.parametrize(
    "size", [(1, 1), (31, 33), (33, 100), (64, 64), (97, 50)], ids=lambda size: "x".join(map(str, size))
)
def test_logits_have_the_images_size(tiny, size):
    with torch.no_grad():
        assert tuple(tiny(torch.randn(2, 3, *size)).shape) == (2, 2, *size)


@pytest.mark.parametrize("encoder", [f"pvt_v2_b{i}" for i in range(6)])
def test_every_pvt_v2_is_an_encoder(encoder):
    with torch.device("meta"):
        model = UNetV2(encoder, channels=4).eval()
        assert tuple(model(torch.zeros(1, 3, 64, 64)).shape) == (1, 1, 64, 64)
    assert model.encoder.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("heads", [0, 1, 2, 4])
def test_deep_supervision_returns_heads_finest_first_in_training_only(heads):
    model = UNetV2("pvt_v2_b0", channels=4, deep_supervision=heads, drop_path=0)
    x = torch.randn(2, 3, 64, 96)
    output = model(x)
    logits = output if heads else [output]
    assert isinstance(output, list) == bool(heads)
    assert [tuple(y.shape) for y in logits] == [(2, 1, 64, 96)] * max(1, heads)
    torch.stack([y.square().mean() for y in logits]).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.forward_heads(x)[0], rtol=0, atol=0)


def test_a_small_image_is_padded_and_its_logits_cropped(tiny):
    x = torch.randn(1, 3, 20, 40)
    with torch.no_grad():
        whole = tiny(nn.functional.pad(x, (0, 0, 0, 12)))
        torch.testing.assert_close(tiny(x), whole[:, :, :20], rtol=0, atol=0)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compiles_to_a_single_graph(tiny, dynamic):
    compiled = torch.compile(tiny, fullgraph=True, dynamic=dynamic, backend="eager")
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), tiny(x))


def test_exports_strictly(tiny):
    x = torch.randn(1, 3, 64, 96)
    program = torch.export.export(tiny, (x,), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), tiny(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_trains_under_autocast(tiny, dtype):
    model = copy.deepcopy(tiny).train()
    with torch.autocast("cpu", dtype):
        logits = model(torch.randn(2, 3, 64, 64))
    loss = torch.stack([y.float().square().mean() for y in logits]).sum()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_channels_last_gives_the_same_logits(tiny):
    x = torch.randn(2, 3, 64, 40)
    with torch.no_grad():
        exact = copy.deepcopy(tiny).double()(x.double())
        plain = tiny(x)
        last = copy.deepcopy(tiny).to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert (last - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_survives_pickling_and_deepcopy(tiny):
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for twin in (pickle.loads(pickle.dumps(tiny)), copy.deepcopy(tiny)):
            torch.testing.assert_close(twin(x), tiny(x), rtol=0, atol=0)


def test_trains_with_deterministic_algorithms(tiny):
    torch.use_deterministic_algorithms(True)
    try:
        gradients = []
        for _ in range(2):
            torch.manual_seed(1)
            model = copy.deepcopy(tiny).train()
            torch.stack([y.mean() for y in model(torch.randn(2, 3, 64, 64))]).sum().backward()
            gradients.append([p.grad for p in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning")  # torch on timm's depthwise weights
def test_distributed_data_parallel_finds_no_unused_parameter(tiny, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(copy.deepcopy(tiny).train())
        for _ in range(2):  # the second forward raises if the first left a parameter out
            torch.stack([y.mean() for y in model(torch.randn(2, 3, 64, 64))]).sum().backward()
    finally:
        dist.destroy_process_group()


def test_checkpointing_saves_memory_and_changes_no_gradient():
    x, state, gradients, sizes = torch.randn(2, 3, 64, 64), None, [], {}
    for parts in ((), ("encoder",), ("decoder",), ("encoder", "decoder")):
        model = UNetV2("pvt_v2_b0", channels=16, drop_path=0, norm="layer")
        state = state or model.state_dict()
        model.load_state_dict(state)
        if "encoder" in parts:
            model.encoder.set_grad_checkpointing()
        if "decoder" in parts:
            model.decoder.set_grad_checkpointing()
        y, sizes[parts] = saved_bytes(lambda model=model: model(x))
        y.square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=0, atol=0)
    assert sizes["encoder", "decoder"] < min(sizes["encoder",], sizes["decoder",])
    assert max(sizes["encoder",], sizes["decoder",]) < sizes[()]


def test_checkpointing_is_an_argument_and_compiles_to_a_single_graph():
    model = UNetV2("pvt_v2_b0", channels=4, drop_path=0, checkpointing=True)
    assert model.decoder.get_submodule("skip.sdi.0").checkpointing
    assert any(getattr(module, "grad_checkpointing", False) for module in model.encoder.modules())
    compiled = torch.compile(model.decoder, fullgraph=True, backend="aot_eager")
    ys = compiled([torch.randn(2, c, 16 >> i, 16 >> i) for i, c in enumerate(model.encoder.out_channels)])
    model.decoder.heads[0](ys[0]).sum().backward()
    assert all(p.grad is not None for p in model.decoder.parameters())


def test_stochastic_depth_is_the_papers():
    rates = [float(module.drop_prob or 0) for module in UNetV2("pvt_v2_b0").modules() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 64, 64), r"expected images \(B, 3, H, W\), got \(2, 1, 64, 64\)"),
        ((3, 64, 64), r"expected images \(B, 3, H, W\), got \(3, 64, 64\)"),
        ((1, 3, 32, 32), "expected more than one value per channel for batch norm in training"),
    ],
    ids=["channels", "no-batch", "one-pixel-at-the-coarsest"],
)
def test_bad_images_are_named(tiny, shape, message):
    with pytest.raises(ValueError, match=message):
        copy.deepcopy(tiny).train()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes >= 1"),
        ({"in_channels": 0}, "in_channels and classes >= 1"),
        ({"encoder": "pvt_v9"}, "name of a model of timm, got 'pvt_v9'. Did you mean pvt_v2_b"),
        ({"freeze": 5}, "UNetV2: expected freeze True or from 0 to 4 .*got 5"),
        ({"deep_supervision": 5}, "UNetV2: expected deep_supervision from 0 to 4 .*got 5"),
        ({"deep_supervision": -1}, "UNetV2: expected deep_supervision from 0 to 4 .*got -1"),
        ({"init": "he"}, 'expected init "paper" or "unit", got \'he\''),
    ],
    ids=["classes", "in-channels", "encoder", "freeze", "heads", "negative-heads", "init"],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNetV2(**{"encoder": "pvt_v2_b0", **arguments})


def test_the_signature_that_other_code_relies_on():
    model = sdi_plugin.UNetV2("pvt_v2_b0", 1, 4, 16, None, 3).eval()
    with torch.no_grad():
        assert tuple(model(torch.zeros(1, 1, 40, 40)).shape) == (1, 4, 40, 40)
    assert len(model.decoder.heads) == 3
