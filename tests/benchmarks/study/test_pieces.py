"""Images, batches, metrics and costs."""

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import nn

from benchmarks.study import batches, cost, evaluate, images, splits
from benchmarks.study.encoders import ENCODERS
from benchmarks.study.images import Images
from benchmarks.study.plan import Choice, Contest
from benchmarks.study.settings import PAPER, RECIPES, Protocol, Recipe, Run, Setting
from benchmarks.study.splits import Image
from benchmarks.study.store import Store
from tests.benchmarks.study.made import validated

NAMED = [Image("isic2018", "i0"), Image("colondb", "c1")]


def test_images_come_from_the_cache_as_they_were_decoded(data, tmp_path):
    first = images.load(data, NAMED, 32, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    second = images.load(tmp_path / "no data", NAMED, 32, tmp_path)
    assert torch.equal(first.pixels, second.pixels)
    assert torch.equal(first.masks, second.masks)
    assert first.pixels.shape == (2, 3, 32, 32)
    assert first.pixels.dtype == torch.uint8
    for image, a, b in zip(NAMED, first.truths, second.truths, strict=True):
        suffix = "_segmentation" if image.folder == "isic2018" else ""
        mask = np.asarray(Picture.open(data / image.folder / "masks" / f"{image.id}{suffix}.png")) > 127
        assert np.array_equal(a[0].numpy(), mask)
        assert torch.equal(a, b)


def test_a_missing_image_is_named(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="no image of the id i9"):
        images.load(data, [Image("isic2018", "i9")], 32, tmp_path)


def drawn(count, size=32):
    masks = torch.zeros(count, 1, size, size, dtype=torch.bool)
    masks[:, :, 8:20, 10:22] = True
    pixels = torch.where(masks, 200, 50).expand(-1, 3, -1, -1).to(torch.uint8)
    return Images([Image("kvasir", str(i)) for i in range(count)], pixels, masks, list(masks))


def test_processes_share_every_batch_out_and_draw_alike():
    recipe, whole = Recipe(batch=4), []
    for part in (slice(None), slice(0, None, 2), slice(1, None, 2)):
        torch.manual_seed(0)
        whole.append(list(batches.epoch(drawn(10), recipe, part)))
    assert len(whole[0]) == 2
    for (pixels, masks), (even, _), (odd, odd_masks) in zip(*whole, strict=True):
        assert torch.equal(pixels[0::2], even)
        assert torch.equal(pixels[1::2], odd)
        assert torch.equal(masks[1::2], odd_masks)


def test_masks_move_with_their_images():
    torch.manual_seed(0)
    pixels, masks = next(batches.epoch(drawn(8), Recipe(batch=8)))
    assert not torch.equal(masks, drawn(8).masks.float())
    bright = pixels.mean(1, keepdim=True) > 125
    overlap = (bright & masks.bool()).sum() / (bright | masks.bool()).sum()
    assert overlap > 0.85
    assert 0 <= pixels.min() <= pixels.max() <= 255


def test_the_rate_warms_up_and_falls_to_zero():
    recipe = RECIPES["study"]
    rates = [batches.rate(recipe, step / 100) for step in range(101)]
    assert max(rates) == pytest.approx(recipe.rate)
    assert rates.index(max(rates)) == 5
    assert rates[0] < recipe.rate / 10
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert {batches.rate(RECIPES["official"], p) for p in (0, 0.5, 1)} == {1e-4}


@pytest.mark.parametrize(("scale", "size"), [(0.75, 256), (1.0, 352), (1.25, 448)])
def test_scales_are_those_of_the_published_training(scale, size):
    pixels, masks = batches.at_scale(torch.zeros(1, 3, 352, 352), torch.zeros(1, 1, 352, 352), scale)
    assert pixels.shape[-2:] == masks.shape[-2:] == (size, size)


class Bright(nn.Module):
    """Says yes where a pixel is bright."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(50.0))

    def forward(self, x):
        return self.weight * x[:, :1]


def test_a_perfect_prediction_has_perfect_scores():
    found = evaluate.evaluate(Bright(), drawn(3), ENCODERS["lite0"])
    assert found["dice"] == found["iou"] == [1.0] * 3
    assert set(found) == set(evaluate.QUICK)


def test_an_infinite_distance_is_none(monkeypatch):
    monkeypatch.setattr(evaluate, "_Saliency", lambda: None)
    model = Bright()
    with torch.no_grad():
        nn.init.constant_(model.weight, -50.0)
    without = drawn(1)
    without.pixels.fill_(255)  # predicted to be background everywhere
    assert evaluate.evaluate(model, without, ENCODERS["lite0"], full=True)["hd95"] == [None]


def test_saliency_metrics_of_a_perfect_prediction():
    pytest.importorskip("py_sod_metrics", reason="pysodmetrics is not installed")
    found = evaluate.evaluate(Bright(), drawn(2), ENCODERS["lite0"], full=True)
    for name in evaluate.SALIENCY:
        assert found[name] == pytest.approx([1.0, 1.0], abs=0.02)


def test_costs_are_measured_where_there_are_results_and_again_for_a_new_best(tmp_path, monkeypatch):
    small, large = Protocol(size=32), Protocol(size=64)
    monkeypatch.setattr(cost.plan, "SEQUENCE", [Contest(("recommended", "unet"), protocol=p) for p in (small, large)])
    measured = []

    def of(protocol, networks, best, **options):
        measured.append((protocol.size, best.title(), networks))
        return {"networks": {Run(protocol, setting=best).contender: {}}}

    monkeypatch.setattr(cost, "of", of)
    store = Store(tmp_path)
    store.write(Run(small), validated(Run(small), 0.8))
    for best in (PAPER, PAPER, Setting(init="unit")):
        monkeypatch.setattr(cost.plan, "chosen", lambda store, best=best: Choice(best))
        cost.measure(store)
    names = ["recommended", "unet"]
    assert measured == [(32, "paper's setting", names), (32, "init unit", names)]


@pytest.mark.slow
def test_costs_are_measured_for_every_network_once(tmp_path, monkeypatch):
    protocol = Protocol(size=32)
    contest = Contest(("recommended", "paper", "unet"), protocol=protocol)
    monkeypatch.setattr(cost.plan, "SEQUENCE", (contest,))
    monkeypatch.setattr(cost.plan, "_PART_1", ())
    monkeypatch.setattr(cost.plan, "PAPER", PAPER)
    store, said = Store(tmp_path), []
    store.write(Run(protocol), validated(Run(protocol), 0.8))
    cost.measure(store, rounds=2, seconds=0, say=said.append)
    cost.measure(store, rounds=2, seconds=0, say=said.append)
    assert said == ["cost: 32-lite0-cost.json"]
    document = store.cost(protocol)
    assert document is not None
    found = document["networks"]
    assert set(found) == {"unetv2", "unet"}
    ours, unet = found["unetv2"], found["unet"]
    assert 3.2e6 < ours["parameters"] < 3.4e6 < unet["parameters"]
    assert 0 < ours["gmac"] < unet["gmac"]
    assert all(row[key]["median"] > 0 for row in found.values() for key in ("step_ms", "inference_ms"))


def test_settings_have_titles():
    assert PAPER.title() == "paper's setting"
    assert Setting(init="unit", channels=64).title() == "init unit, channels 64"
    assert splits.fingerprint(NAMED) != splits.fingerprint(NAMED[::-1])
