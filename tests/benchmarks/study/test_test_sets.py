"""The test sets are read once, at the end, by a list that was written down before."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.study import evaluate, plan, test_sets, work
from benchmarks.study.plan import Contest
from benchmarks.study.settings import Run
from benchmarks.study.store import LOG, read


class _NoSaliency:
    """In place of PySODMetrics, which tests do without: SALIENCY of nothing."""

    def update(self, probability, truth):
        pass

    def per_image(self):
        return {}


@pytest.fixture
def studied(place, protocol, monkeypatch):
    """A plan of two contests at equal epochs, made but for the last run, and its reader without PySODMetrics."""
    monkeypatch.setattr(plan, "SEQUENCE", (Contest(("recommended", "paper", "fpn"), seeds=1, protocol=protocol),))
    monkeypatch.setattr(plan, "_PART_1", ())
    monkeypatch.setattr(evaluate, "_Saliency", _NoSaliency)
    work.make(Run(protocol), place, say=lambda line: None)
    return place


def killed(line):
    if line.startswith("test sets:"):
        raise KeyboardInterrupt


def log_of(place) -> Any:
    return read(place.store.folder / LOG)


def test_nothing_is_read_before_every_run_is_there(studied):
    with pytest.raises(ValueError, match=r"1 runs of the plan are missing .*fpn-s0"):
        test_sets.read_once(studied)
    assert log_of(studied) is None


def test_the_sets_are_read_once_and_the_log_says_so(studied, protocol):
    work.work(studied, say=lambda line: None)
    said = []
    assert test_sets.read_once(studied, said.append) == 2
    assert said[0].startswith("reading the test sets, once: 2 runs, paper's setting recommended")
    log = log_of(studied)
    assert log["runs"] == [Run(protocol).id, Run(protocol, "fpn").id]
    assert log["begun"] <= log["finished"]
    found: Any = studied.store.read_test(Run(protocol, "fpn"))["test"]
    assert set(found) == {"isic2018"}
    assert {"dice", "iou", "mae", "hd95"} <= set(found["isic2018"])
    with pytest.raises(ValueError, match="were read at .*, and are read once"):
        test_sets.read_once(studied)


def test_a_reading_that_was_killed_goes_on_with_its_list(studied, protocol, monkeypatch):
    work.work(studied, say=lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        test_sets.read_once(studied, killed)
    begun = log_of(studied)
    assert begun["finished"] is None
    assert test_sets.read_once(studied, lambda line: None) == 1
    assert log_of(studied) | {"finished": None} == begun


def test_a_choice_that_changed_since_is_an_error(studied, protocol):
    work.work(studied, say=lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        test_sets.read_once(studied, killed)
    run = Run(protocol, "fpn")
    document = studied.store.read(run)
    document["validation"]["isic2018"]["dice"][0] = 1.0
    studied.store.write(run, document)
    with pytest.raises(ValueError, match="not those by which the settings were chosen"):
        test_sets.read_once(studied, lambda line: None)


def test_a_copied_run_is_tested_with_the_weights_of_its_twin(studied, protocol):
    timed = Run(replace(protocol, budget="time"), own_epochs=protocol.epochs)
    work.make(timed, studied)
    found, original = (test_sets._test(run, studied)["test"] for run in (timed, Run(protocol)))
    assert found == original
