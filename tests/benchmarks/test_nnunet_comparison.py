"""docs/nnunet.md has the tables of the stored comparisons, whose trainers had equal time."""

import pytest

from benchmarks import nnunet_comparison

STORED = nnunet_comparison.stored()


def test_the_page_has_the_tables_of_the_results():
    assert nnunet_comparison.render(STORED) == nnunet_comparison.PAGE.read_text()
    assert set(STORED) == set(nnunet_comparison.STUDIES)


@pytest.mark.parametrize("key", nnunet_comparison.STUDIES)
def test_each_trainer_had_the_steps_that_fit_the_budget(key):
    result, seen = STORED[key], set()
    for run in result["runs"]:
        assert run["trainer"] in nnunet_comparison.STUDIES[key].trainers
        spent = run["steps"] * result["step"][run["trainer"]]
        assert spent == pytest.approx(result["budget"], abs=nnunet_comparison.STEPS * result["step"][run["trainer"]])
        assert all(0 <= dice <= 1 for dice in run["dice"].values())
        seen.add((run["trainer"], run["seed"]))
    assert len(seen) == len(result["runs"])
