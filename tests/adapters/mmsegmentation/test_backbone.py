"""PVTv2: shapes, freezing, weights that load completely or not at all, layers for the optimiser."""

import time

import pytest
import safetensors.torch
import timm
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

import sdi_plugin.checkpoint
from sdi_plugin import hub
from sdi_plugin.adapters.mmsegmentation import LayerDecayConstructor, PVTv2
from sdi_plugin.checkpoint import CheckpointError, without_weights
from tests import official

from mmseg.registry import MODELS

B0 = (32, 64, 160, 256)


def backbone(**arguments) -> PVTv2:
    return MODELS.build({"type": "PVTv2", "name": "pvt_v2_b0", **arguments})


def pretrained(path, **arguments) -> PVTv2:
    return backbone(init_cfg={"type": "Pretrained", "checkpoint": str(path)}, **arguments)


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 3), (0,)], ids=str)
def test_shapes(out_indices):
    module = backbone(out_indices=out_indices, in_channels=1).eval()
    with torch.no_grad():
        maps = module(torch.randn(1, 1, 70, 97))
    sizes = [(18, 25), (9, 13), (5, 7), (3, 4)]
    assert isinstance(maps, tuple)
    assert [tuple(x.shape) for x in maps] == [(1, B0[i], *sizes[i]) for i in out_indices]
    assert module.out_channels == tuple(B0[i] for i in out_indices)


@pytest.mark.parametrize("name", ["pvt_v2_b1", "pvt_v2_b2", "pvt_v2_b2_li", "pvt_v2_b3", "pvt_v2_b4", "pvt_v2_b5"])
def test_every_size_has_the_channels_of_u_net_v2(name):
    assert without_weights(lambda: backbone(name=name)).out_channels == (64, 128, 320, 512)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet50"}, "^PVTv2: expected .*pvt_v2_b0, .*got 'resnet50'"),
        ({"out_indices": ()}, "out_indices from 0 to 3, increasing"),
        ({"out_indices": (1, 0)}, "increasing, got .1, 0."),
        ({"out_indices": (0, 4)}, "from 0 to 3"),
        ({"frozen_stages": 5}, "frozen_stages from -1 to 4, got 5"),
        ({"pretrained": "a.pth", "init_cfg": {"type": "Pretrained", "checkpoint": "b.pth"}}, "got both"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        backbone(**arguments)


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (1, 3, 31, 64), (3, 64, 64)], ids=str)
def test_bad_images(shape):
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\) of at least 32 pixels per axis"):
        backbone()(torch.randn(shape))


def test_frozen_stages_get_no_gradient_and_stay_in_evaluation():
    module = backbone(frozen_stages=2).train()
    maps = module(torch.randn(1, 3, 64, 64))
    torch.stack([x.mean() for x in maps]).sum().backward()
    frozen = {name for name, parameter in module.named_parameters() if parameter.grad is None}
    expected = ("model.patch_embed.", "model.stages_0.", "model.stages_1.")
    assert frozen == {name for name, _ in module.named_parameters() if name.startswith(expected)}
    training = {name for name, child in module.named_modules() if child.training}
    assert "model.stages_2" in training
    assert not any(name.startswith(("model.patch_embed", "model.stages_0", "model.stages_1")) for name in training)


def test_recomputing_maps_changes_no_gradient():
    plain, recomputing = backbone(drop_path_rate=0), backbone(drop_path_rate=0, with_cp=True)
    recomputing.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for module in (plain.train(), recomputing.train()):
        torch.stack([y.square().mean() for y in module(x)]).sum().backward()
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same weights in the forms that the authors, timm and U-Net v2's authors publish, and their features."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("weights")
    whole = official.state("pvt_v2_b0")
    prefix = next(key for key in whole if "patch_embed1.proj.weight" in key).removesuffix("patch_embed1.proj.weight")
    alone = {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)}
    torch.save(alone, folder / "official.pth")
    torch.save(whole, folder / "unetv2.pth")
    model = timm.create_model("pvt_v2_b0", features_only=True)
    sdi_plugin.checkpoint.load_encoder(model, folder / "official.pth", "pvt_v2_b0")
    safetensors.torch.save_file(
        {key.replace("stages_", "stages."): value for key, value in model.state_dict().items()},
        folder / "timm.safetensors",
    )
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        return folder, x, model.eval()(x)


@pytest.mark.parametrize("name", ["official.pth", "unetv2.pth", "timm.safetensors"])
def test_pretrained_files_really_load(files, name):
    folder, x, expected = files
    module = pretrained(folder / name).eval()
    module.init_weights()
    with torch.no_grad():
        torch.testing.assert_close(list(module(x)), expected, rtol=0, atol=0)


def test_the_segmentor_initialises_its_backbone(files):
    folder, x, expected = files
    model = MODELS.build(
        {
            "type": "EncoderDecoder",
            "backbone": ConfigDict(type="PVTv2", name="pvt_v2_b0"),
            "pretrained": str(folder / "official.pth"),
            "decode_head": {"type": "UNetV2Head", "in_channels": B0, "num_classes": 2, "channels": 8},
        }
    ).eval()
    before = model.decode_head.decoder.skip.sdi[0].convs[0].weight.clone()
    model.init_weights()
    with torch.no_grad():
        torch.testing.assert_close(list(model.backbone(x)), expected, rtol=0, atol=0)
    assert torch.equal(model.decode_head.decoder.skip.sdi[0].convs[0].weight, before)


def test_some_of_the_stages_load_from_a_whole_file(files):
    folder, x, expected = files
    module = pretrained(folder / "official.pth", out_indices=(0, 2)).eval()
    module.init_weights()
    with torch.no_grad():
        torch.testing.assert_close(list(module(x)), [expected[0], expected[2]], rtol=0, atol=0)


@pytest.mark.parametrize("case", ["missing key", "other size", "other architecture", "no file"])
def test_a_file_that_does_not_fit_is_an_error_that_names_the_keys(files, tmp_path, case):
    state = torch.load(files[0] / "official.pth")
    if case == "missing key":
        del state["block1.0.norm1.weight"]
    if case == "other architecture":
        state = {"layer1.0.conv1.weight": torch.zeros(1)}
    module = pretrained(tmp_path / "x.pth", **({"name": "pvt_v2_b1"} if case == "other size" else {}))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    messages = {
        "missing key": "x.pth.*Missing: stages_0.blocks.0.norm1.weight",
        "other size": "x.pth.*Different shapes: patch_embed.proj.weight",
        "other architecture": "another architecture, with layer1.0.conv1.weight",
        "no file": "PVTv2: expected init_cfg's checkpoint, found no such file: .*x.pth.*None",
    }
    if case != "no file":
        torch.save(state, tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError if case == "no file" else CheckpointError, match=messages[case]):
        module.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_a_random_start_asks_for_nothing(monkeypatch):
    monkeypatch.setattr(hub, "unreachable", lambda url: pytest.fail("asked for the network"))
    module = backbone(init_cfg=None)
    module.init_weights()
    assert isinstance(module, BaseModule)


def test_zero_padding_does_not_blow_up_the_gradient_of_a_random_start():
    norms = []
    for size in (64, 40):  # the rest is zero, as mmseg pads images after it has normalised them
        torch.manual_seed(0)
        module = backbone(drop_path_rate=0)
        module.init_weights()
        x = torch.zeros(2, 3, 64, 64)
        x[..., :size] = torch.randn(2, 3, 64, size)
        torch.stack([y.square().mean() for y in module(x)]).sum().backward()
        norms.append(float(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm()))
    assert norms[1] < 10 * norms[0]


def test_an_unreachable_hub_is_an_error_within_ten_seconds(monkeypatch):
    def never_answers(*_, **__):
        time.sleep(12)
        raise OSError("too late")

    monkeypatch.setattr("urllib.request.urlopen", never_answers)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    module = backbone(pretrained=True)
    start = time.monotonic()
    with pytest.raises(
        RuntimeError,
        match="^PVTv2: could not get .*no answer within 5 s.*Download .* elsewhere, and pass init_cfg=.*None",
    ):
        module.init_weights()
    assert time.monotonic() - start < 10


def test_pretrained_true_takes_the_hubs_weights(files, monkeypatch):
    folder, x, expected = files
    create = timm.create_model

    def from_hub(name, pretrained=False, **arguments):
        model = create(name, **arguments)
        if pretrained:
            sdi_plugin.checkpoint.load_encoder(model, folder / "official.pth", name)
        return model

    monkeypatch.setattr(timm, "create_model", from_hub)
    monkeypatch.setattr(hub, "unreachable", lambda url: None)
    module = backbone(pretrained=True).eval()
    module.init_weights()
    with torch.no_grad():
        torch.testing.assert_close(list(module(x)), expected, rtol=0, atol=0)


def test_layers_are_counted_from_the_image():
    module = backbone()
    depths = {name: module.layer_depth(name)[0] for name, _ in module.named_parameters()}
    assert {module.layer_depth(name)[1] for name in depths} == {9}  # of 1 + 2 + 2 + 2 + 2 layers and the rest
    assert depths["model.patch_embed.proj.weight"] == 0
    assert depths["model.stages_0.blocks.0.norm1.weight"] == 1
    assert depths["model.stages_0.norm.weight"] == depths["model.stages_0.blocks.1.attn.q.weight"] == 2
    assert depths["model.stages_1.downsample.proj.weight"] == depths["model.stages_1.blocks.0.attn.q.weight"] == 3
    assert depths["model.stages_3.norm.bias"] == 8


def test_optimiser_groups_follow_the_layers():
    constructor = {
        "type": "OptimWrapper",
        "optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.1},
        "constructor": "LayerDecayConstructor",
        "paramwise_cfg": {"layer_decay_rate": 0.5},
    }
    model = torch.nn.Module()
    model.backbone = backbone(frozen_stages=1)
    model.decode_head = torch.nn.Conv2d(2, 2, 1)
    with DefaultScope.overwrite_default_scope("mmseg"):
        groups = build_optim_wrapper(model, constructor).optimizer.param_groups
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    named = {name: rates.get(id(p)) for name, p in model.named_parameters()}
    assert named["decode_head.weight"] == (1.0, 0.1)
    assert named["decode_head.bias"] == (1.0, 0.0)
    assert named["backbone.model.stages_3.blocks.1.attn.q.weight"] == (0.5, 0.1)
    assert named["backbone.model.stages_1.blocks.0.norm1.weight"] == (0.5**6, 0.0)
    assert {name for name, rate in named.items() if rate is None} == {
        name for name, p in model.named_parameters() if not p.requires_grad
    }


@pytest.mark.parametrize("options", [{}, {"layer_decay_rate": 0}, {"layer_decay_rate": 0.9, "norm_decay_mult": 0}])
def test_layer_decay_takes_only_its_rate(options):
    with pytest.raises(ValueError, match=r"paramwise_cfg=dict\(layer_decay_rate=R\)"):
        LayerDecayConstructor(
            {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 1, "weight_decay": 0}}, options
        )
