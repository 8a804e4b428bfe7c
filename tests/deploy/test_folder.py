"""Many files: what is written, what is skipped, what a stop in the middle leaves."""

import csv
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from sdi_plugin import SegmentationMetrics, UNetV2, checkpoint, deploy
from sdi_plugin.checkpoint import Card
from sdi_plugin.cli import main
from sdi_plugin.deploy import predictor as predictors
from sdi_plugin.deploy import results
from tests.deploy.backends import predictor


def bright(seed, size=(30, 40)):
    """An image with a bright rectangle, and its mask."""
    top, left = np.random.default_rng(seed).integers(0, 20, 2)
    mask = np.zeros(size, np.uint8)
    mask[top : top + 10, left : left + 15] = 255
    return Image.fromarray(mask // 2 + 64).convert("RGB"), Image.fromarray(mask)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for i in range(5):
        bright(i)[0].save(tmp_path / "in" / f"case{i}.png")
    bright(9)[0].save(tmp_path / "in" / "sub" / "case0.tif", save_all=True, append_images=[bright(10)[0]])
    return tmp_path


def contents(path):
    files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return {name: data for name, data in files.items() if not name.startswith(".")}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_page_has_its_results(folder):
    out = folder / "out"
    summary = deploy.predict(predictor(), [folder / "in"], out, overlays=True, probabilities=True, contours=True)
    assert (summary.done, summary.skipped, summary.failed) == (6, 0, {})
    names = [*(f"case{i}" for i in range(5)), "sub/case0_page1", "sub/case0_page2"]
    expected = {f"{kind}/{name}.png" for kind in ("masks", "overlays", "probabilities") for name in names}
    assert contents(out).keys() == expected | {f"contours/{name}.geojson" for name in names} | {"areas.csv"}
    image, mask = bright(3)
    predicted = Image.open(out / "masks" / "case3.png")
    assert (predicted.mode, predicted.size) == ("P", image.size)
    np.testing.assert_array_equal(np.asarray(predicted), np.asarray(mask) // 255)
    assert predicted.getpalette()[:6] == [0, 0, 0, 128, 0, 0]  # pyright: ignore
    probability = np.asarray(Image.open(out / "probabilities" / "case3.png"))
    assert probability.dtype == np.uint16
    assert ((probability > 32767) == np.asarray(predicted)).all()
    areas = rows(out / "areas.csv")
    assert [(row["label"], row["pixels"]) for row in areas[6:8]] == [("background", "1050"), ("bright", "150")]
    features = json.loads((out / "contours" / "case3.geojson").read_text())["features"]
    assert [feature["properties"]["pixels"] for feature in features] == [150]
    overlay = np.asarray(Image.open(out / "overlays" / "case3.png"))
    np.testing.assert_array_equal(overlay[np.asarray(mask) == 0], np.asarray(image)[np.asarray(mask) == 0])
    assert (overlay[np.asarray(mask) > 0] != np.asarray(image)[np.asarray(mask) > 0]).any(-1).all()


def test_a_stopped_run_goes_on_and_ends_in_the_same_files(folder):
    deploy.predict(predictor(), [folder / "in"], folder / "unbroken")
    seen = []

    def stop(file, error):
        seen.append(file)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy.predict(predictor(), [folder / "in"], folder / "out", on_file=stop)
    summary = deploy.predict(predictor(), [folder / "in"], folder / "out")
    assert (summary.done, summary.skipped) == (3, 3)
    assert contents(folder / "out") == contents(folder / "unbroken")


def test_a_file_is_predicted_again_where_it_or_the_settings_changed(folder):
    inputs, out = [folder / "in" / "case*.png"], folder / "out"
    assert deploy.predict(predictor(), inputs, out).done == 5
    assert deploy.predict(predictor(threshold=0.9), inputs, out).done == 5
    bright(77)[0].save(folder / "in" / "case1.png")
    summary = deploy.predict(predictor(threshold=0.9), inputs, out)
    assert (summary.done, summary.skipped) == (1, 4)
    np.testing.assert_array_equal(
        np.asarray(Image.open(out / "masks" / "case1.png")) > 0, np.asarray(bright(77)[1]) > 0
    )


def test_files_that_would_share_a_result_keep_their_suffix(folder):
    bright(1)[0].save(folder / "in" / "case1.jpg")
    deploy.predict(predictor(), [folder / "in", folder / "in" / "case2.png"], folder / "out")
    names = {os.path.basename(name) for name in contents(folder / "out")}
    assert {"case1.jpg.png", "case1.png.png", "case2.png"} <= names


def test_files_that_are_resized_go_through_the_network_together(folder):
    predict = predictor(Card((127.5,), (10,), size=(32, 32)), batch=4)
    deploy.predict(predict, [folder / "in"], folder / "out")
    assert predict.backend.shapes == [(4, 3, 32, 32), (1, 3, 32, 32), (1, 3, 32, 32), (1, 3, 32, 32)]  # pyright: ignore


def test_metrics_are_those_of_the_package(folder):
    (folder / "truth").mkdir()
    metrics = SegmentationMetrics(hd95=True)
    for i in range(4):
        mask = np.roll(np.asarray(bright(i)[1]), 4, 1)
        Image.fromarray(mask).save(folder / "truth" / f"case{i}_segmentation.png")
        probabilities = predictor()(bright(i)[0]).probabilities
        metrics.update(torch.from_numpy(probabilities), torch.from_numpy(mask > 0)[None])
    summary = deploy.predict(predictor(), [folder / "in" / "case?.png"], folder / "out", masks=folder / "truth")
    assert summary.metrics == pytest.approx(metrics.compute(), rel=1e-9)
    table = rows(folder / "out" / "metrics.csv")
    assert [row["file"][-9:] for row in table] == [f"case{i}.png" for i in range(4)]
    assert [float(row["hd95"]) for row in table] == pytest.approx(metrics.per_image()["hd95"].tolist(), abs=1e-6)
    page = (folder / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 8  # each image among some and among the worst
    assert f"{summary.metrics['mean_hd95']:.4f}" in page
    assert "case3: Dice " in page


@pytest.mark.parametrize("tile", [None, 48], ids=["whole", "tiles"])
def test_bands_leave_no_seam(folder, monkeypatch, tile):
    """Against everything at once: the maps, the overlay's borders, and the counts."""
    mask = np.zeros((150, 70), np.uint8)
    mask[20:131, 10:50] = 255
    Image.fromarray(mask).save(folder / "truth.png")
    Image.fromarray(mask // 2 + 64).save(folder / "tall.png")
    Image.fromarray((mask // 2 + 64).astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "masks").mkdir()
    for name in ("tall", "deep"):
        Image.fromarray(np.roll(mask, 3, 0)).save(folder / "masks" / f"{name}.png")
    written = []
    for rows_at_once in (7, 1000):
        monkeypatch.setattr(results, "_ROWS", rows_at_once)
        monkeypatch.setattr(predictors, "TILE", rows_at_once * 3)
        out = folder / f"out{rows_at_once}"
        inputs = [folder / "tall.png", folder / "deep.png"]
        deploy.predict(
            predictor(tile=tile, flips=True), inputs, out, overlays=True, probabilities=True, masks=folder / "masks"
        )
        pictures = [np.asarray(Image.open(file)) for file in sorted(out.rglob("*.png"))]
        written.append((pictures, rows(out / "metrics.csv")))
    assert len(written[0][0]) == 6
    assert all(np.array_equal(a, b) for a, b in zip(written[0][0], written[1][0], strict=True))
    assert written[0][1] == written[1][1]
    overlay = np.asarray(Image.open(folder / "out7" / "overlays" / "tall.png"))
    assert (overlay[[20, 130]][:, 12:48] == (128, 0, 0)).all()  # the region's border, in full colour
    assert (overlay[[21, 129]][:, 12:48] != (128, 0, 0)).any(-1).all()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "x.safetensors"
    checkpoint.save(path, UNetV2("pvt_v2_b0", channels=4).state_dict(), {"card": Card(size=(32, 32)).to_json()})
    return path


def test_the_command_lists_bad_files_and_exits_with_1(folder, model, capsys):
    (folder / "in" / "bad.png").write_bytes(b"no image")
    command = ["predict", str(model), str(folder / "in"), "--out", str(folder / "out")]
    assert main(command) == 1
    output = capsys.readouterr()
    assert output.out == f"6 files, 1 that cannot be used; see {folder / 'out'}\n"
    assert "does not say the normalisation (ImageNet's): assumed" in output.err
    assert f"skipped {folder / 'in' / 'bad.png'}: not an image file that Pillow knows" in output.err
    (folder / "in" / "bad.png").unlink()
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("0 files, 6 finished earlier; see")


def test_an_input_that_names_nothing_is_an_error(folder, model, capsys):
    assert main(["predict", str(model), str(folder / "no*.png"), "--out", str(folder / "out")]) == 2
    assert "found no image" in capsys.readouterr().err
