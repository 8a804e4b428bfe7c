"""The whole segmentor: its three modes, the core's logits, inference, and every config."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from sdi_plugin import UNetV2, checkpoint
from tests.adapters.mmsegmentation import samples as given

from mmseg.apis import MMSegInferencer, inference_model, init_model
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

CONFIGS = Path(__file__).parents[3] / "configs"
NAMES = sorted(path.name for path in CONFIGS.glob("*.py"))
B0 = [32, 64, 160, 256]


def small(out_channels: int = 1, **head) -> Any:
    """A segmentor on PVTv2-B0 that ends in out_channels."""
    classes = max(2, out_channels)
    return {
        "type": "EncoderDecoder",
        "data_preprocessor": {"type": "SegDataPreProcessor", "mean": [127.5] * 3, "std": [127.5] * 3, "size": (64, 64)},
        "backbone": {"type": "PVTv2", "name": "pvt_v2_b0"},
        "decode_head": {
            "type": "UNetV2Head",
            "in_channels": B0,
            "channels": 8,
            "num_classes": classes,
            "out_channels": out_channels,
            **head,
        },
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }


def build(config: Any) -> Any:
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(Config({"model": config}).model)


@pytest.fixture(scope="module", params=[1, 2, 4], ids=["sigmoid", "two classes", "four classes"])
def segmentor(request):
    torch.manual_seed(0)
    return build(small(request.param, deep_supervision=2))


def test_loss_mode(segmentor):
    data = segmentor.data_preprocessor(given.batch(classes=segmentor.num_classes), True)
    losses = segmentor.train()(**data, mode="loss")
    assert list(losses) == [f"decode.{p}{n}" for p in ("", "level1.") for n in ("loss_ce", "acc_seg")]
    segmentor.parse_losses(losses)[0].backward()
    assert [name for name, parameter in segmentor.named_parameters() if parameter.grad is None] == []


def test_predict_mode(segmentor):
    data = segmentor.data_preprocessor(given.batch((48, 70), segmentor.num_classes), False)
    with torch.no_grad():
        results: list[Any] = segmentor.eval()(**data, mode="predict")
    assert len(results) == 2
    for result in results:
        assert type(result) is SegDataSample
        maps: Any = result.seg_logits
        prediction: Any = result.pred_sem_seg
        assert maps.data.shape == (segmentor.out_channels, 48, 70)
        assert prediction.data.shape == (1, 48, 70)
        expected = (maps.data > 0.5).float() if segmentor.out_channels == 1 else maps.data.argmax(0, keepdim=True)
        assert torch.equal(prediction.data, expected)


def test_tensor_mode(segmentor):
    with torch.no_grad():
        logits = segmentor.eval()(torch.randn(2, 3, 48, 70), mode="tensor")
    assert logits.shape == (2, segmentor.out_channels, 12, 18)


@pytest.mark.parametrize("size", [(64, 64), (45, 83)], ids=str)
def test_logits_are_those_of_the_core(size):
    core = UNetV2("pvt_v2_b0", channels=8, deep_supervision=2).eval()
    model = build(small(deep_supervision=2)).eval()
    state, dropped = checkpoint.convert(core.state_dict(), "mmseg")
    model.load_state_dict(state)
    assert dropped == []
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = core(x)
        torch.testing.assert_close(resize(model(x), size, mode="bilinear"), expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(model.encode_decode(x, [{"img_shape": size}]), expected, rtol=1e-6, atol=0)


def test_sliding_windows_cover_an_image_larger_than_the_window():
    config = small()
    config["test_cfg"] = {"mode": "slide", "crop_size": (32, 32), "stride": (20, 20)}
    with torch.no_grad():
        (result,) = build(config).eval()(torch.randn(1, 3, 50, 70), mode="predict")
    assert result.pred_sem_seg.data.shape == (1, 50, 70)


@pytest.mark.parametrize("channels", [1, 2], ids=["sigmoid", "softmax"])
def test_time_augmentation_averages_probabilities(channels):
    model = build(small(channels)).eval()
    head: Any = torch.nn.Identity()
    head.threshold, head.align_corners = 0.5, False
    tta = build({"type": "MeanProbabilityTTA", "module": small(channels)})
    tta.module = model
    raw = [torch.tensor([0.2, 0.9, 0.6]), torch.tensor([0.4, 0.7, 0.1])]
    views = []
    for probability in raw:
        maps = probability[None, None] if channels == 1 else torch.stack([1 - probability, probability])[:, None].log()
        (sample,) = given.samples(torch.zeros(1, 1, 3))
        sample.set_data({"seg_logits": given.PixelData(data=maps), "pred_sem_seg": given.PixelData(data=maps[:1])})
        views.append(sample)
    (merged,) = tta.merge_preds([views])
    mean = torch.tensor([[[0.3, 0.8, 0.35]]])
    found = merged.seg_logits.data if channels == 1 else merged.seg_logits.data.softmax(0)[1:]
    torch.testing.assert_close(found, mean)
    assert merged.pred_sem_seg.data.tolist() == [[[0, 1, 0]]]


def test_training_at_several_scales_keeps_images_and_labels_together():
    module = build(
        {
            "type": "MultiScaleSegDataPreProcessor",
            "scales": (0.75, 1.0, 1.25),
            "mean": [0.0] * 3,
            "std": [255.0] * 3,
            "size_divisor": 32,
        }
    )
    sizes = set()
    for _ in range(20):
        data = given.batch((64, 128))
        labels = torch.zeros(2, 64, 128, dtype=torch.long)
        labels[:, :, 64:] = 1
        data["data_samples"] = given.samples(labels)
        data["inputs"] = [(255 * label.expand(3, -1, -1)).byte() for label in labels]
        found = module(data, True)
        sizes.add(tuple(found["inputs"].shape[2:]))
        for image, sample in zip(found["inputs"], found["data_samples"], strict=True):
            assert sample.gt_sem_seg.data.shape[1:] == image.shape[1:] == sample.img_shape
            assert ((image[:1] > 0.5) == sample.gt_sem_seg.data.bool()).float().mean() > 0.98
    assert sizes == {(64, 96), (64, 128), (64, 160)}  # 64 * 1.25 / 32 rounds to 2
    assert module(given.batch((64, 128)), False)["inputs"].shape == (2, 3, 64, 128)
    with pytest.raises(ValueError, match="scales > 0"):
        build({"type": "MultiScaleSegDataPreProcessor", "scales": (0.0,)})


@pytest.mark.parametrize("name", NAMES)
def test_configs_build_and_learn(name):
    config = Config.fromfile(CONFIGS / name)
    assert config.default_scope == "mmseg"
    assert config.custom_imports["imports"] == ["sdi_plugin.adapters.mmsegmentation"]
    config.model.backbone.init_cfg = None
    if config.model.backbone.type == "PVTv2":  # the smallest: what is tested is the config
        config.model.backbone.update(name="pvt_v2_b0")
        channels = config.model.decode_head.in_channels if "neck" not in config.model else config.model.neck.in_channels
        channels[:] = B0
        if "neck" in config.model and "out_channels" not in config.model.neck:
            config.model.decode_head.in_channels = B0
    config.model.data_preprocessor.size = (64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mmseg's advice about its own options
        model = build(config.model)
    data = model.data_preprocessor(given.batch((64, 64), model.num_classes), True)
    loss = model.parse_losses(model.train()(**data, mode="loss"))[0]
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_there_is_a_config_for_everything_that_is_promised():
    assert {
        "unetv2_pvt_isic.py",
        "unetv2_pvt_polyp.py",
        "unetv2_pvt_b0_isic.py",
        "unetv2_pvt_b0_polyp.py",
        "unetv2_resnet50_isic.py",
        "unetv2_pvt_cityscapes.py",
        "upernet_pvt_sdi_isic.py",
        "fpn_pvt_sdi_isic.py",
        "segformer_pvt_sdi_isic.py",
        "unetv2_pvt_isic_8gpu.py",
        "unetv2_pvt_isic_tensorboard.py",
        "unetv2_convnext_isic.py",
        "unetv2_dinov2_frozen_isic.py",
    } <= set(NAMES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Config, str, Path]:
    """The config of ISIC on PVTv2-B0 at 64 pixels, a checkpoint for it, and an image."""
    folder = tmp_path_factory.mktemp("inference")
    config = Config.fromfile(CONFIGS / "unetv2_pvt_b0_isic.py")
    config.test_dataloader.dataset.pipeline[1].scale = (64, 64)
    model = build(small(deep_supervision=4) | {"data_preprocessor": config.model.data_preprocessor})
    config.model.decode_head.channels = 8
    meta = {"dataset_meta": {"classes": ("background", "lesion"), "palette": [[0, 0, 0], [0, 192, 64]]}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, folder / "x.pth")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8)).save(folder / "image.png")
    return config, str(folder / "x.pth"), folder / "image.png"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # mmengine's and matplotlib's own
def test_inference_on_a_path_a_list_and_an_array(trained):
    config, weights, image = trained
    model = init_model(config.copy(), weights, device="cpu")
    array = np.array(Image.open(image))[..., ::-1].copy()  # mmseg's images are BGR
    infer: Any = inference_model
    one = infer(model, str(image))
    assert one.pred_sem_seg.data.shape == (1, 50, 80)
    several = infer(model, [str(image)] * 2)
    assert torch.equal(infer(model, array).seg_logits.data, one.seg_logits.data)  # from here mmseg expects arrays
    for found in (*several, *infer(model, [array] * 2)):  # in batches of two: different rounding
        torch.testing.assert_close(found.seg_logits.data, one.seg_logits.data)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # mmengine's and matplotlib's own
def test_inferencer_on_a_path_a_list_and_an_array(trained, tmp_path):
    config, weights, image = trained
    config.launcher = "none"
    inferencer = MMSegInferencer(model=config, weights=weights, device="cpu")
    array = np.array(Image.open(image))[..., ::-1].copy()
    one = inferencer(str(image), show=False, out_dir=str(tmp_path), img_out_dir="vis", pred_out_dir="pred")
    several = inferencer([str(image), array], show=False)["predictions"]
    other = inferencer(array, show=False)["predictions"]
    assert one["predictions"].shape == (50, 80)
    for found in (*several, other):
        assert np.array_equal(found, one["predictions"])
    assert (tmp_path / "vis" / "image.png").is_file()
    assert len(list((tmp_path / "pred").iterdir())) == 1
