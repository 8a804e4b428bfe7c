"""Runs: resumed, repeated, shared out and copied."""

import json
from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp
import torch

from benchmarks.study import compare, plan, release, splits, train, work
from benchmarks.study.plan import Contest
from benchmarks.study.settings import Run, Setting


class KilledError(Exception):
    pass


def killed_after(epochs):
    said = []

    def say(line):
        said.append(line)
        if len(said) > epochs:
            raise KilledError

    return say


def quiet(line):
    pass


@pytest.fixture
def run(protocol):
    return Run(protocol, setting=Setting(init="unit"))


def weights(place, run):
    return torch.load(place.folder(run) / train.WEIGHTS, weights_only=True)


def test_a_killed_run_goes_on_to_equal_results(data, place, tmp_path, run):
    whole = work.make(run, place, say=quiet)
    other = work.Place(data, tmp_path / "other")
    with pytest.raises(KilledError):
        work.make(run, other, say=killed_after(1))  # the second epoch is trained, and lost
    assert (other.folder(run) / train.CHECKPOINT).exists()
    assert other.store.read(run) is None
    resumed = work.make(run, other, say=quiet)
    for key in ("losses", "validation", "train", "run", "id"):
        assert resumed[key] == whole[key]
    torch.testing.assert_close(weights(other, run), weights(place, run), rtol=0, atol=0)
    assert not (other.folder(run) / train.CHECKPOINT).exists()


def test_seeds_differ(place, run):
    first, second = (work.make(replace(run, seed=seed), place, say=quiet) for seed in (0, 1))
    assert first["losses"] != second["losses"]


def test_a_checkpoint_of_another_run_is_an_error_and_stays(place, run):
    with pytest.raises(KilledError):
        work.make(run, place, say=killed_after(1))
    other = replace(run, seed=1)
    place.folder(other).parent.mkdir(parents=True, exist_ok=True)
    place.folder(run).rename(place.folder(other))
    with pytest.raises(ValueError, match="is of the run"):
        work.make(other, place, say=quiet)
    assert (place.folder(other) / train.CHECKPOINT).exists()


def test_a_run_that_diverges_is_stored_as_that(place, run, monkeypatch):
    monkeypatch.setattr(train, "loss_of", lambda outputs, masks, run: outputs[0].sum() * float("nan"))
    document = work.make(run, place, say=quiet)
    assert (document["diverged"], document["losses"]) == (1, [])
    assert "validation" not in document


def test_workers_make_what_is_missing_and_leave_each_others_runs(place, protocol, monkeypatch):
    monkeypatch.setattr(plan, "SEQUENCE", (Contest(("paper", "fpn"), seeds=1, protocol=protocol),))
    ours, theirs = Run(protocol), Run(protocol, "fpn")
    made = []
    monkeypatch.setattr(
        work, "make", lambda run, place, say: made.append(run) or place.store.write(run, {"run": run.to_json()})
    )
    with work._taken(place, ours) as free:
        assert free
        assert work.work(place) == 1
    assert made == [theirs]
    assert work.work(place) == 1
    assert made == [theirs, ours]
    assert work.work(place) == 0


def test_the_same_training_under_another_budget_is_copied(place, protocol, run, monkeypatch):
    done = work.make(run, place, say=quiet)
    monkeypatch.setattr(work, "train", None)
    timed = replace(run, protocol=replace(protocol, budget="time", epochs=7), own_epochs=2)
    copy = work.make(timed, place)
    assert copy["copy_of"] == run.id
    assert copy["validation"] == done["validation"]
    assert Run.from_json(copy["run"]) == timed


def test_the_stored_run_says_what_it_is_of(place, run):
    document = work.make(run, place, say=quiet)
    stored = json.loads((place.out / "results" / f"{run.id}.json").read_text())
    assert stored == json.loads(json.dumps(document))
    assert Run.from_json(stored["run"]) == run
    assert stored["start"] == "random weights"
    listed, validation = splits.training("isic2018", place.data)
    assert stored["train"] == {"images": splits.fingerprint(listed), "count": 2, "seen": 4}
    assert set(stored["validation"]) == set(validation)
    found = stored["validation"]["isic2018"]
    assert all(len(found[metric]) == 1 for metric in ("dice", "iou", "mae"))


def test_the_best_run_is_released_as_smp_loads_it(place, protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "ISIC", protocol)
    runs = [Run(protocol, setting=setting) for setting in (Setting(init="unit"), Setting(init="unit", cbam=False))]
    for run in runs:
        work.make(run, place, say=quiet)
    said = []
    release.write(place, tmp_path / "release", said.append)
    (folder,) = (tmp_path / "release").iterdir()
    assert said == [
        f"{folder}: {runs[0].id}, mean Dice {compare.score(place.store.read(runs[0]) or {}):.4f} on validation images"
    ]
    loaded = smp.from_pretrained(str(folder)).state_dict()
    torch.testing.assert_close(dict(loaded), dict(weights(place, runs[0])), rtol=0, atol=0)
    card = (folder / "README.md").read_text()
    assert "Init unit, seed 0" in card
    assert "| validation | isic2018 | 1 | " in card


def test_without_a_run_nothing_is_released(place, tmp_path):
    with pytest.raises(ValueError, match="no run of U-Net v2"):
        release.write(place, tmp_path / "release")
