"""--cfg-options: keys that reach every place, and names that nothing reads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from tests.adapters.mmsegmentation import samples as given

from mmseg.registry import DATASETS

CONFIGS = Path(__file__).parents[3] / "configs"
ISIC = sorted(path.name for path in CONFIGS.glob("*isic*.py"))
POLYP = sorted(path.name for path in CONFIGS.glob("*polyp*.py"))


def load(name: str = "unetv2_pvt_isic.py", **options: Any) -> Config:
    config = Config.fromfile(CONFIGS / name)
    config.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    return config


def found(node: Any, *keys: str) -> list[Any]:
    """All values under these keys, at any depth."""
    if isinstance(node, dict):
        return [v for k, v in node.items() if k in keys] + [x for v in node.values() for x in found(v, *keys)]
    return [x for v in node for x in found(v, *keys)] if isinstance(node, list | tuple) else []


@pytest.mark.parametrize("name", ISIC)
def test_data_root_reaches_every_data_set(name):
    config = load(name, data_root="data/isic2017")
    assert config.data_root == "data/isic2017"
    roots = [config[f"{part}_dataloader"].dataset.data_root for part in ("train", "val", "test")]
    assert roots == ["data/isic2017"] * 3


@pytest.mark.parametrize("name", ISIC + POLYP)
def test_image_size_reaches_pipelines_and_preprocessor_as_height_and_width(name):
    before, config = load(name).to_dict(), load(name, image_size=(320, 192)).to_dict()
    assert set(found(config, "scale")) == {(192, 320)}  # mmcv's order is width, height
    assert set(found(config, "size", "crop_size")) == {(320, 192)}
    for keys in (("scale",), ("size", "crop_size")):
        assert len(found(config, *keys)) == len(found(before, *keys))
    assert len(found(config["tta_pipeline"], "scale")) == 1


@pytest.mark.parametrize("given_as", [64, [64, 64], (64, 64)], ids=str)
def test_image_size_is_one_number_or_two(given_as):
    assert load(image_size=given_as).image_size == (64, 64)


@pytest.mark.parametrize("wrong", ["64x64", (64,), (0, 64), (64.0, 64), None, True], ids=str)
def test_a_wrong_image_size_is_an_error(wrong):
    with pytest.raises(ValueError, match="image_size of one or two whole numbers > 0, height and width, got"):
        load(image_size=wrong)


def test_an_explicitly_named_key_wins():
    config = load(
        data_root="a", val_dataloader__dataset__data_root="b", image_size=64, model__data_preprocessor__size=9
    )
    assert config.train_dataloader.dataset.data_root == "a"
    assert config.val_dataloader.dataset.data_root == "b"
    assert config.model.data_preprocessor.size == 9
    config = Config.fromfile(CONFIGS / "unetv2_pvt_isic.py")
    config.val_dataloader.dataset.data_root = "data/mine"
    config.merge_from_dict({"data_root": "data/isic2017"})
    assert config.val_dataloader.dataset.data_root == "data/mine"


def test_a_key_that_would_reach_nothing_is_an_error():
    config = Config.fromfile(CONFIGS / "unetv2_pvt_isic.py")
    for part in ("train", "val", "test"):
        config[f"{part}_dataloader"].dataset.data_root = "data/mine"
    with pytest.raises(ValueError, match=r"got data_root, but nothing in .*Set train_dataloader.dataset.data_root,"):
        config.merge_from_dict({"data_root": "data/isic2017"})


@pytest.mark.parametrize("part", ["train", "test", "tta"])
def test_images_and_masks_have_the_size_asked_for(tmp_path, part):
    root = given.write_dataset(tmp_path / "isic", ["a", "b"], size=(50, 70), foreground=255)
    config = load(data_root=str(root), image_size=(32, 64))
    dataset = config[f"{'train' if part == 'train' else 'test'}_dataloader"].dataset
    dataset.pipeline = config.tta_pipeline if part == "tta" else dataset.pipeline
    with DefaultScope.overwrite_default_scope("mmseg"):
        inputs = [item["inputs"] for item in DATASETS.build(dataset)]
    for x in [x for one in inputs for x in (one if isinstance(one, list) else [one])]:
        height, width = x.shape[1:]  # a random crop of an image made smaller is padded by the preprocessor
        assert (height, width) == (32, 64) if part != "train" else height <= 32 and width <= 64
        assert x.dtype == torch.uint8


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("imagesize", "got imagesize. Did you mean image_size?"),
        ("modle.backbone.init_cfg", "got modle. Did you mean model?"),
        ("train_dataloder.batch_size", "got train_dataloder. Did you mean train_dataloader"),
        ("batch_size", "got batch_size. It is in .*train_dataloader.batch_size, val_dataloader.batch_size"),
        ("max_iters", "got max_iters. It is in the config as train_cfg.max_iters"),
        ("data_preprocessor.size", "got data_preprocessor. It is in the config as model.data_preprocessor"),
        ("nonsense", "got nonsense."),
    ],
    ids=lambda value: value if "." not in value[:-1] else "",
)
def test_a_name_that_nothing_reads_is_an_error(option, message):
    with pytest.raises(
        ValueError, match=f"--cfg-options: expected names that the config has or mmengine reads, {message}"
    ):
        load(**{option: 1})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("train_pipeline.3.scale", "train_dataloader.dataset.pipeline"),
        ("dataset_type", "train_dataloader.dataset.type"),
        ("vis_backends", "visualizer.vis_backends"),
    ],
)
def test_a_variable_that_only_the_file_reads_is_an_error(option, place):
    with pytest.raises(ValueError, match=f"got {option.split('.')[0]}, a variable .*set {place}"):
        load(**{option: 1})  # pyright: ignore[reportArgumentType]


def test_for_other_polyp_folders_the_error_names_the_keys():
    with pytest.raises(ValueError, match="as train_dataloader.dataset.data_root, test_dataloader.dataset.data_root"):
        load("unetv2_pvt_polyp.py", data_root="data/mine")


def test_names_that_mmengine_reads_or_the_config_defines_are_accepted():
    options = {
        "work_dir": "w",
        "sync_bn": "torch",
        "find_unused_parameters": True,
        "randomness__seed": 3,
        "compile": True,
    }
    config = load(**options, auto_scale_lr__enable=True, test_pipeline__1__keep_ratio=True)
    assert (config.work_dir, config.sync_bn, config.randomness.seed) == ("w", "torch", 3)
    config = Config.fromfile(CONFIGS / "unetv2_pvt_isic.py")
    config.my_own = "something"
    config.merge_from_dict({"my_own": "else"})
    assert config.my_own == "else"


def test_configs_without_the_plugin_are_left_alone():
    config = Config({"data_root": "a", "train_dataloader": {"dataset": {"data_root": "a"}}})
    config.merge_from_dict({"data_root": "b", "anything": 1})
    assert config.to_dict() == {"data_root": "b", "train_dataloader": {"dataset": {"data_root": "a"}}, "anything": 1}
