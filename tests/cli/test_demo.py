import json
import re

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

from sdi_plugin.cli import main
from sdi_plugin.cli.demo import dataset, network, report, train
from sdi_plugin.cli.demo.images import lesion_image
from sdi_plugin.cli.errors import CommandError
from sdi_plugin.data import DataError
from sdi_plugin.deploy import page
from tests.cli.images import write_images


def run(data, out, *more, epochs=2):
    arguments = ["demo", "--data", str(data), "--out", str(out), "--size", "32", "--epochs", str(epochs), *more]
    return main([*arguments, "--encoder", "tu-tf_efficientnet_lite0"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    assert run(write_images(folder / "data"), folder / "out") == 0
    return folder


def test_drawn_images_are_the_same_for_the_same_seed_and_hold_a_lesion():
    for i in range(12):
        image, mask = lesion_image((3, i), 48)
        again, _ = lesion_image((3, i), 48)
        assert image.tobytes() == again.tobytes()
        assert image.size == mask.size == (48, 48)
        share = np.mean(np.array(mask) > 0)
        assert 0.005 < share < 0.7
    assert image.tobytes() != lesion_image((3, 0), 48)[0].tobytes()


def test_a_drawn_image_is_the_same_picture_at_any_size():
    small, large = (lesion_image((1, 2), size)[1] for size in (64, 128))
    difference = np.array(small) != np.array(large.resize((64, 64), Image.Resampling.NEAREST))
    assert difference.mean() < 0.05


def test_drawn_training_and_held_out_images_differ(monkeypatch):
    monkeypatch.setattr(dataset, "DRAWN_TRAIN", 3)
    monkeypatch.setattr(dataset, "DRAWN_TEST", 3)
    data = dataset.draw(32, seed=0)
    assert not torch.equal(data.train.images, data.test.images)
    assert data.fingerprint() == dataset.draw(32, seed=0).fingerprint() != dataset.draw(32, seed=1).fingerprint()


def test_metrics_json_has_the_promised_keys(finished):
    metrics = json.loads((finished / "out" / "metrics.json").read_text())
    assert {"mean_dice", "mean_iou", "mae", "images", "seconds", "versions"} <= metrics.keys()
    assert metrics["images"] == 2
    assert 0 <= metrics["mean_dice"] <= 1
    assert metrics["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_the_report_is_one_file_with_curves_overlays_and_metrics(finished):
    page = (finished / "out" / "report.html").read_text()
    sources = re.findall(r'<img [^>]*src="([^"]{0,30})', page)
    assert len(sources) == 4  # two held-out images, shown among some and among the worst
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<svg" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    metrics = json.loads((finished / "out" / "metrics.json").read_text())
    assert f"{metrics['mean_dice']:.4f}" in page


def test_the_saved_model_is_the_one_that_was_measured(finished):
    model = smp.from_pretrained(finished / "out" / "model").eval()
    data = dataset.load(finished / "data", 32, None)
    measured = train.evaluate(model, data.test, batch=16).compute()
    metrics = json.loads((finished / "out" / "metrics.json").read_text())
    assert metrics["mae"] > 0
    assert measured["mae"] == pytest.approx(metrics["mae"], rel=1e-6)


def test_a_second_run_needs_resume_and_then_changes_nothing(finished, capsys):
    before = json.loads((finished / "out" / "metrics.json").read_text())
    assert run(finished / "data", finished / "out") == 2
    assert "Pass --resume" in capsys.readouterr().err
    assert run(finished / "data", finished / "out", "--resume") == 0
    assert json.loads((finished / "out" / "metrics.json").read_text()) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--seed", "1"], "seed 0 -> 1"), (["--size", "64"], "size 32 -> 64"), (["--epochs", "3"], "epochs 2 -> 3")],
    ids=["seed", "size", "epochs"],
)
def test_resuming_another_run_is_refused_and_loses_nothing(finished, more, message, capsys):
    checkpoint = (finished / "out" / "checkpoint.pt").read_bytes()
    assert run(finished / "data", finished / "out", "--resume", *more) == 2
    assert message in capsys.readouterr().err
    assert (finished / "out" / "checkpoint.pt").read_bytes() == checkpoint


def test_an_interrupted_run_resumes_to_the_same_result(finished, tmp_path, monkeypatch):
    """Stopped after epoch 1, in the middle of epoch 2: the slow test kills a real process."""
    original = train._augment
    calls = []

    def interrupt(*arguments):
        calls.append(1)
        if len(calls) == 2:  # one batch per epoch
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(train, "_augment", interrupt)
    assert run(finished / "data", tmp_path / "out") == 130
    monkeypatch.setattr(train, "_augment", original)
    assert run(finished / "data", tmp_path / "out", "--resume") == 0
    resumed, unbroken = (json.loads((f / "out" / "metrics.json").read_text()) for f in (tmp_path, finished))
    assert resumed | {"seconds": 0} == unbroken | {"seconds": 0}


def test_a_damaged_checkpoint_is_an_error(tmp_path, capsys):
    data = write_images(tmp_path / "data")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"half a file")
    assert run(data, tmp_path / "out", "--resume") == 2
    assert "not a checkpoint of the demo" in capsys.readouterr().err


def test_an_unknown_encoder_is_an_error(tmp_path, capsys):
    data = write_images(tmp_path / "data")
    assert main(["demo", "--data", str(data), "--out", str(tmp_path / "out"), "--encoder", "resnet3"]) == 2
    assert "expected an encoder of segmentation_models_pytorch, got 'resnet3'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def spoil_mask(folder):
    (folder / "masks" / "case3.png").unlink()


def spoil_split(folder):
    (folder / "splits" / "test.txt").write_text("case99\n")


def spoil_image(folder):
    (folder / "images" / "case3.png").write_bytes(b"not an image")


def spoil_size(folder):
    Image.new("L", (5, 6)).save(folder / "masks" / "case3.png")


def spoil_values(folder):
    for path in folder.glob("masks/*"):
        Image.open(path).point([value // 3 for value in range(256)]).save(path)


def spoil_all(folder):
    for path in folder.glob("images/*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_mask, "1 images of .* have no mask: case3"),
        (spoil_split, "1 ids of the splits have no image and mask in .*: case99"),
        (spoil_image, "1 of 10 pairs in .* case3: unreadable image: not an image file"),
        (spoil_size, "case3: size differs: image 40 x 40, mask 5 x 6"),
        (spoil_values, "10 of 10 pairs .* case0: mask with values up to 85, .* 0 and 255"),
        (spoil_all, "found no images there"),
    ],
    ids=["no-mask", "unknown-id", "unreadable", "sizes", "values", "empty"],
)
def test_bad_data_is_named(tmp_path, spoil, message):
    folder = write_images(tmp_path / "data")
    spoil(folder)
    with pytest.raises((CommandError, DataError), match=message):
        dataset.load(folder, 32, None)


def test_without_splits_every_fifth_image_is_held_out(tmp_path):
    data = dataset.load(write_images(tmp_path / "data", splits=False), 32, None)
    assert data.test.names == ["case0", "case5"]
    assert len(data.train.names) == 8
    assert "every fifth image was held out" in data.note


def test_an_unknown_family_is_an_error_even_without_splits(tmp_path):
    with pytest.raises(DataError, match="expected the splits of 'pranet'"):
        dataset.load(write_images(tmp_path / "data", splits=False), 32, "pranet")


def test_the_splits_that_were_used_are_reported(tmp_path):
    folder = write_images(tmp_path / "data")
    for name in ("train", "test"):
        (folder / "splits" / f"{name}.txt").rename(folder / "splits" / f"pranet_{name}.txt")
    assert dataset.load(folder, 32, None).note.endswith("Splits: pranet.")


def test_a_list_of_all_images_is_not_a_split(tmp_path):
    folder = write_images(tmp_path / "data", splits=False)
    (folder / "splits" / "all.txt").write_text("".join(f"case{i}\n" for i in range(10)))
    assert dataset.load(folder, 32, None).test.names == ["case0", "case5"]


def test_results_without_their_checkpoint_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("precious")
    assert run(write_images(tmp_path / "data"), tmp_path / "out", "--resume") == 2
    assert "pass another --out" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").read_text() == "precious"


def test_one_image_is_too_few(tmp_path):
    with pytest.raises(CommandError, match="at least two images in .*, got 1"):
        dataset.load(write_images(tmp_path / "data", count=1, splits=False), 32, None)


def test_the_encoder_starts_from_the_packaged_weights():
    torch.manual_seed(5)
    model, source = network.build(train.Recipe("tu-tf_efficientnet_lite0", 32, 1, 0, ""))
    twin, _ = network.build(train.Recipe("tu-tf_efficientnet_lite0", 32, 1, 0, ""))
    assert source.startswith("ImageNet weights")
    for a, b in zip(model.encoder.parameters(), twin.encoder.parameters(), strict=True):
        assert torch.equal(a, b)


def test_held_out_masks_keep_their_own_size(tmp_path):
    data = dataset.load(write_images(tmp_path / "data"), 32, None)
    assert {tuple(mask.shape) for mask in data.test.masks} == {(1, 40, 40)}
    assert {tuple(mask.shape) for mask in data.train.masks} == {(1, 32, 32)}


def test_overlays_outline_truth_and_prediction(finished):
    data = dataset.load(finished / "data", 32, None)

    class Everything(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return torch.ones_like(x[:, :1]) * self.bias

    recipe = train.Recipe("tu-x", 32, 1, 0, "")
    run = train.Run(recipe, Everything(), [], "", 0.0)  # pyright: ignore[reportArgumentType]
    (picture,) = report.overlays(run, data, [0])
    pixels = np.array(picture)
    assert pixels.shape == (32, 64, 3)
    assert (pixels[0, 32:] == page.PREDICTION).all()  # the prediction covers all: its outline is the border
    assert (pixels[:, 32:] == page.TRUTH).all(-1).any()


def test_learning_rate_warms_up_and_falls_to_zero():
    recipe = train.Recipe("tu-x", 32, 1, 0, "")
    rates = [train._learning_rate(recipe, step / 1000) for step in range(1001)]
    assert max(rates) == pytest.approx(recipe.learning_rate, rel=0.02)
    assert rates[0] < 0.05 * recipe.learning_rate
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_augmentation_moves_image_and_mask_together():
    torch.manual_seed(0)
    masks = torch.zeros(4, 1, 32, 32)
    masks[:, :, 8:20, 10:26] = 1
    images, moved = train._augment(masks.repeat(1, 3, 1, 1) * 2 - 1, masks)
    inside = torch.stack([image.mean(0) > image.mean() for image in images])[:, None]
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    assert (inside == moved.bool()).float().mean() > 0.95
    assert not torch.equal(moved, masks)
