"""The JSON: its keys, its ratios, and the goals read from it."""

import json
import re

import pytest
import torch

from benchmarks.environment import ROOT
from benchmarks.sdi import goals, suite
from benchmarks.sdi.cases import Case
from benchmarks.sdi.measure import Timing

SETTINGS = suite.Settings(threads=[1, 2], rounds=2, seconds=0.0, compiled=(), peaks=())


@pytest.fixture(scope="module")
def result():
    threads = torch.get_num_threads()
    found = suite.run(["2d-stage-32-b2"], SETTINGS)
    assert torch.get_num_threads() == threads
    return json.loads(json.dumps(found))


def test_the_json_has_the_keys_of_the_contract(result):
    document = (ROOT / "benchmarks" / "README.md").read_text().partition("## The JSON")[2]
    table, text = re.findall(r"^\| (`.*?) \|", document, re.MULTILINE), document.partition("| key")[0]
    promised = [name for cell in table for name in re.findall(r"`(\w+)`", cell)]
    assert "saved_bytes_ratio" in promised
    assert set(result) == set(re.findall(r"`(\w+)`", text))
    for row in result["cases"]:
        assert set(row) == set(promised)


def test_a_row_for_each_mode_and_the_numbers_of_threads_asked_for(result):
    # Beyond the quick cases, the largest number of threads alone.
    assert [(row["name"], row["mode"], row["threads"], row["batch"]) for row in result["cases"]] == [
        ("2d-stage-32-b2", "forward", 2, 2),
        ("2d-stage-32-b2", "forward+backward", 2, 2),
    ]
    assert [floor["threads"] for floor in result["floors"]] == [1, 2]
    assert all(rate > 0 for floor in result["floors"] for rate in floor.values())


def test_ratios_are_of_medians_and_of_bytes(result):
    for row in result["cases"]:
        assert row["ratio_vs_eager"] == pytest.approx(row["ms"]["eager"]["median"] / row["ms"]["ours"]["median"])
        assert row["ratio_vs_compile"] is None
        assert row["saved_bytes_ratio"] == pytest.approx(row["saved_bytes"]["ours"] / row["saved_bytes"]["eager"])
        assert row["peak_bytes_ratio"] is None
        assert 0 < row["error_ratio"] <= 2


def test_an_unknown_case_is_an_error_before_anything_is_measured():
    with pytest.raises(ValueError, match="unknown case 'stage'"):
        suite.run(["2d-stage-32", "stage"], SETTINGS)


def test_a_ratio_of_times_above_one_is_a_win_and_one_of_bytes_below():
    times = {"eager": Timing(6.0, 5.0, 7.0), "compile": Timing(3.0, 3.0, 3.0), "ours": Timing(2.0, 1.0, 9.0)}
    row = suite.entry(Case.parse("2d-stage-352-b4"), "forward", 2, times)
    assert (row["ratio_vs_eager"], row["ratio_vs_compile"], row["batch"]) == (3.0, 1.5, 4)
    assert row["ms"]["ours"] == {"median": 2.0, "q25": 1.0, "q75": 9.0}
    found = suite.bytes_of({"eager": 80, "ours": 10}, {"eager": 30, "ours": 15})
    assert (found["saved_bytes_ratio"], found["peak_bytes_ratio"]) == (0.125, 0.5)


def test_goals_are_met_missed_or_not_measured():
    times = {"eager": Timing(6.0, 6.0, 6.0), "ours": Timing(2.0, 2.0, 2.0)}
    case = Case.parse("2d-stage-352-b1")
    rows = [
        {**suite.entry(case, mode, 2, times), **suite.bytes_of({"eager": 8, "ours": 1}, {}), "error_ratio": 2.5}
        for mode in suite.MODES
    ]
    checks = {check["text"]: check["met"] for check in goals.check({"cases": rows})}
    assert checks == {
        "2-D stage, 352, forward, against eager": True,
        "2-D stage, 352, forward, against torch.compile": None,
        "2-D stage, 352, forward + backward, against eager": True,
        "bytes saved for backward, 2-D stage": True,
        "worst error against float64": False,
    }
