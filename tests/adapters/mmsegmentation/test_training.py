"""Training by mmengine's runner: an interrupted run that is resumed equals an uninterrupted one exactly."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader

from tests.adapters.mmsegmentation import samples as given

CONFIGS = Path(__file__).parents[3] / "configs"
NUMBER = itertools.count()
# mmengine's own, about file clients; torch's, about schedulers and about workers on few cores
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


class StopError(Exception):
    pass


class StopAt(Hook):
    """Like a kill in the middle of an iteration: nothing is saved after the last checkpoint."""

    def __init__(self, iteration: int):
        self.iteration = iteration

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.iteration:
            raise StopError


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return given.write_dataset(tmp_path_factory.mktemp("data") / "isic", [f"ISIC_{i}" for i in range(6)])


def configure(data: Path | list[str], work_dir: Path, name: str = "unetv2_pvt_b0_isic.py", side: int = 32) -> Config:
    """A config of the repository, cut down to small images and six iterations with two validations."""
    config = Config.fromfile(CONFIGS / name)
    config.merge_from_dict({"image_size": side})
    config.work_dir, config.launcher, config.log_level = str(work_dir), "none", "ERROR"
    config.experiment_name = f"test-{next(NUMBER)}"
    config.visualizer.name = config.experiment_name  # mmengine keeps visualizers by name
    config.model.backbone.init_cfg = None
    config.model.decode_head.channels = 8
    for part in ("train", "val", "test"):
        loader = config[f"{part}_dataloader"]
        if loader is None:
            continue
        loader.update(num_workers=0, persistent_workers=False, batch_size=2 if part == "train" else 1)
        loader.dataset.update(data_root=data if isinstance(data, list) else str(data), ann_file=f"splits/{part}.txt")
    config.train_cfg.update(max_iters=6, val_interval=3)
    config.default_hooks.checkpoint.interval = 2
    config.default_hooks.logger.interval = 1
    return config


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return CheckpointLoader.load_checkpoint(str(folder / "iter_6.pth"), "cpu")["state_dict"]


def train(config: Config, stop: int | None = None) -> dict[str, float]:
    runner = Runner.from_cfg(config)
    if stop is not None:
        runner.register_hook(StopAt(stop))
    runner.train()
    return runner.test()


def interrupt_and_resume(config: Config) -> dict[str, float]:
    with pytest.raises(StopError):
        train(config, stop=5)
    config = config.copy()
    config.update(resume=True, experiment_name=f"test-{next(NUMBER)}")
    return train(config)


def test_a_resumed_run_equals_an_uninterrupted_one(data, tmp_path):
    unbroken = train(configure(data, tmp_path / "a"))
    resumed = interrupt_and_resume(configure(data, tmp_path / "b"))
    assert resumed == pytest.approx(unbroken, rel=0, abs=0, nan_ok=True)
    expected, found = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert (tmp_path / "a" / "last_checkpoint").read_text().endswith("iter_6.pth")
    assert len(list((tmp_path / "a").glob("best_DSC_iter_*.pth"))) == 1


@pytest.mark.slow
def test_without_the_hook_it_does_not(data, tmp_path):
    """What the test above would miss if it compared nothing random."""
    for name, run in (("a", train), ("b", interrupt_and_resume)):
        config = configure(data, tmp_path / name)
        config.custom_hooks = []
        run(config)
    expected, found = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert not all(torch.equal(value, found[key]) for key, value in expected.items())


def test_predictions_are_drawn_as_pictures(data, tmp_path):
    config = configure(data, tmp_path)
    config.default_hooks.visualization.update(draw=True, interval=1)
    config.visualizer.save_dir = str(tmp_path / "show")
    config.train_cfg.update(max_iters=1)
    config.default_hooks.checkpoint.interval = 1
    train(config)
    assert len(list((tmp_path / "show").rglob("*.png"))) >= 6


def test_polyps_train_at_several_scales_and_are_reported_by_data_set(tmp_path):
    roots = [given.write_dataset(tmp_path / name, [f"{name}{i}" for i in range(2)]) for name in ("kvasir", "etis")]
    config = configure([str(root) for root in roots], tmp_path / "work", "unetv2_pvt_b0_polyp.py", side=64)
    config.train_cfg.max_iters = 2
    assert {"DSC", "kvasir/DSC", "etis/DSC", "etis/MAE"} <= train(config).keys()
