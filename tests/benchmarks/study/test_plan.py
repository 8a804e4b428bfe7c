"""The plan grows by what validation says, and comparisons know a tie."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.study import compare, plan
from benchmarks.study.plan import Contest
from benchmarks.study.settings import PAPER, Run, Setting
from benchmarks.study.store import Store, write
from tests.benchmarks.study.made import fill, seeded, timed, validated

UNIT, BATCH = {"init": "unit"}, {"norm": "batch"}


def better(changes):
    """The score of each change that a run's setting has, added up."""

    def score(run):
        found = run.setting.changes().items()
        return 0.7 + seeded(run) + sum(gain for change, gain in changes if change.items() <= dict(found).items())

    return score


@pytest.fixture
def short(monkeypatch):
    sequence = (plan.START, plan.NORM, Contest(("recommended", "paper", "unet"), seeds=2))
    monkeypatch.setattr(plan, "SEQUENCE", sequence)
    monkeypatch.setattr(plan, "_PART_1", sequence[:2])


def test_what_beats_the_best_so_far_is_the_base_of_the_next_factor(tmp_path, short):
    store = Store(tmp_path)
    fill(store, better([(UNIT, 0.02), (BATCH, 0.01), ({"norm": "layer"}, 0.03)]))
    choice = plan.chosen(store)
    assert choice.setting == Setting(init="unit", norm="layer")
    assert [(base, won) for _, base, won in choice.steps] == [
        (PAPER, UNIT),
        (Setting(init="unit"), {"norm": "layer"}),
    ]
    assert {run.setting for run in plan.runs(store)} == {
        PAPER,
        Setting(init="unit"),
        Setting(init="unit", norm="batch"),
        Setting(init="unit", norm="layer"),
    }


def test_a_gain_below_the_spread_over_seeds_changes_nothing(tmp_path, short):
    store = Store(tmp_path)
    fill(store, better([(UNIT, 0.003)]))
    assert plan.chosen(store).setting == PAPER


def test_a_factor_waits_for_the_one_before_and_contenders_do_not(tmp_path, short):
    store = Store(tmp_path)
    runs = list(plan.runs(store))
    assert {run.network for run in runs} == {"unetv2", "unet"}
    assert {run.setting for run in runs} == {PAPER, Setting(init="unit")}
    assert not plan.chosen(store).complete


def test_the_whole_plan_can_be_named_and_no_two_runs_share_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "RESAMPLES", 50)
    store = Store(tmp_path)
    runs = fill(store, better([(UNIT, 0.02)]))
    assert len({run.id for run in runs}) == len({str(run) for run in runs})
    protocols = {run.protocol for run in runs}
    assert {"polyps", "isic2018"} == {p.data for p in protocols}
    assert {"imagenet", "random"} == {p.start for p in protocols}
    assert not any(p.budget == "time" for p in protocols)  # step times were not measured
    assert plan.chosen(store).setting == Setting(init="unit")


def test_at_equal_time_a_faster_network_has_more_epochs(tmp_path):
    store, protocol = Store(tmp_path), replace(plan.POLYPS, budget="time")
    ours = Run(protocol)
    assert plan.epochs_at_equal_time(ours, store) is None
    networks = {"unet": {"step_ms": timed(150)}, ours.contender: {"step_ms": timed(100)}}
    file = store.cost_file(protocol)
    write(file, {"networks": networks})
    assert plan.epochs_at_equal_time(ours, store) == round(protocol.epochs * 1.5)
    assert plan.epochs_at_equal_time(Run(protocol, "unet"), store) == protocol.epochs


def runs_of(scores, network="unetv2"):
    return [validated(Run(plan.POLYPS, network, seed=i), score) for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ((0.80, 0.81), (0.70, 0.71), "win"),
        ((0.70, 0.71), (0.80, 0.81), "loss"),
        ((0.80, 0.81), (0.80, 0.80), "tie"),
        ((0.80, 0.92), (0.75, 0.75), "tie"),  # a range of 0.12 over the seeds
        ((0.80,), (0.70,), "one seed"),
    ],
)
def test_a_difference_below_the_spread_is_a_tie(ours, theirs, verdict):
    found = compare.difference(runs_of(ours), runs_of(theirs, "unet"))
    assert found is not None
    assert found.verdict == verdict
    assert found.mean == pytest.approx(np.mean(ours) - np.mean(theirs[: len(ours)]))
    assert found.low <= found.mean <= found.high


def test_only_seeds_that_both_have_are_compared():
    found = compare.difference(runs_of((0.8, 0.8, 0.1)), runs_of((0.7, 0.7), "unet"))
    assert found is not None
    assert (found.seeds, found.mean) == (2, pytest.approx(0.1))
    assert compare.difference(runs_of((0.8,)), []) is None


def test_runs_of_other_images_are_not_compared():
    other = validated(Run(plan.POLYPS, "unet"), 0.7, {"kvasir": 31, "clinicdb": 20})
    with pytest.raises(ValueError, match="not of the same kvasir images"):
        compare.difference(runs_of((0.8,)), [other])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_the_interval_lies_within_the_values_and_around_their_mean(values):
    low, high = compare.interval([np.array(values)])
    assert min(values) - 1e-12 <= low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= high <= max(values) + 1e-12


def test_the_interval_of_a_known_sample_is_that_of_its_mean():
    values = np.random.default_rng(0).normal(0, 1, 400)
    low, high = compare.interval([values])
    assert (high - low) == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_part_1_comes_before_what_depends_on_it():
    kinds = [isinstance(entry, plan.Factor) for entry in plan.SEQUENCE]
    assert kinds[:2] == [True, True]
    first_with = next(i for i, e in enumerate(plan.SEQUENCE) if isinstance(e, Contest) and "recommended" in e.networks)
    assert not any(itertools.islice(kinds, first_with, None))
