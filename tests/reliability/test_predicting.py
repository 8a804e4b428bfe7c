"""`predict` killed at random moments, small; `python -m tests.reliability.predicting` has the full size."""

import pytest

from tests.reliability import predicting


@pytest.mark.slow
def test_killed_runs_do_every_good_image_once(tmp_path):
    figures = predicting.run(tmp_path / "work", 39, 4, 2)
    assert figures["done"] == 35
