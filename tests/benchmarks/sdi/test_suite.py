"""The JSON: its keys, its ratios, what is timed in turn, and the goals read from it."""

import json
import re
from dataclasses import replace

import pytest
import torch

from benchmarks.environment import ROOT
from benchmarks.sdi import cases, goals, result, suite
from benchmarks.sdi.cases import Case
from benchmarks.sdi.measure import Timing
from benchmarks.sdi.result import Floor, Settings

SETTINGS = Settings(threads=(1, 2), rounds=2, seconds=0.0, compiled=(), peaks=())


@pytest.fixture(scope="module")
def found():
    threads = torch.get_num_threads()
    measured = suite.run(["2d-stage-32-b2"], SETTINGS)
    assert torch.get_num_threads() == threads
    assert result.from_json(result.to_json(measured)) == measured
    return measured


def test_the_json_has_the_keys_of_the_contract(found):
    written = json.loads(result.to_json(found))
    document = (ROOT / "benchmarks" / "README.md").read_text().partition("## The JSON")[2]
    table, text = re.findall(r"^\| (`.*?) \|", document, re.MULTILINE), document.partition("| key")[0]
    promised = [name for cell in table for name in re.findall(r"`(\w+)`", cell)]
    assert "saved_bytes_ratio" in promised
    assert set(written) == set(re.findall(r"`(\w+)`", text))
    for row in written["cases"]:
        assert set(row) == set(promised)


def test_a_row_for_each_mode_and_the_numbers_of_threads_asked_for(found):
    # Beyond the quick cases, the largest number of threads alone.
    assert [(row.name, row.mode, row.threads, row.batch) for row in found.cases] == [
        ("2d-stage-32-b2", "forward", 2, 2),
        ("2d-stage-32-b2", "forward+backward", 2, 2),
    ]
    assert [floor.threads for floor in found.floors] == [1, 2]


def test_ratios_are_of_medians_and_of_bytes(found):
    for row in found.cases:
        assert row.ratio_vs_eager == pytest.approx(row.ms["eager"].median / row.ms["ours"].median)
        assert row.ratio_vs_compile is None
        assert row.saved_bytes_ratio == pytest.approx(row.saved_bytes["ours"] / row.saved_bytes["eager"])
        assert row.peak_bytes_ratio is None
        assert 0 < row.error_ratio <= 2


def test_an_unknown_case_is_an_error_before_anything_is_measured():
    with pytest.raises(ValueError, match="unknown case 'stage'"):
        suite.run(["2d-stage-32", "stage"], SETTINGS)


def test_the_points_of_a_plotted_line_are_timed_in_turn(monkeypatch):
    line = ("2d-stage-16-b1", "2d-stage-32-b1")
    monkeypatch.setattr(cases, "SCALING", line)
    turns = []

    def interleave(functions, **settings):
        turns.append([(case.name, name) for case, name in functions])
        return {key: Timing(1.0, 1.0, 1.0) for key in functions}, 2

    monkeypatch.setattr(suite, "interleave", interleave)
    measured = suite.run([line[0], "2d-level2-16", line[1]], Settings(threads=(1,), compiled=(), peaks=()))
    together = [(name, who) for name in line for who in ("eager", "eager-channels-last", "ours")]
    alone = [("2d-level2-16", who) for who in ("eager", "eager-channels-last", "ours")]
    assert turns == [together, together, alone, alone]
    assert [(row.name, row.group) for row in measured.cases[::2]] == [
        (line[0], "scaling"),
        (line[0], "scaling"),
        ("2d-level2-16", "2d-level2-16"),
    ]
    assert all(row.saved_bytes["ours"] < row.saved_bytes["eager"] for row in measured.cases)


def row(times, saved, peaks, *, mode: result.Mode = "forward", name="2d-stage-352-b4", error=None):
    floor = Floor(threads=2, sgemm_gflops=1.0, stream_gbs=1.0, cache_gbs=1.0)
    timed = result.timed(Case.parse(name), name, mode, 2, times, 5, floor)
    return result.weighed(timed, saved, peaks, error)


def test_a_ratio_of_times_above_one_is_a_win_and_one_of_bytes_below():
    times = {"eager": Timing(6.0, 5.0, 7.0), "compile": Timing(3.0, 3.0, 3.0), "ours": Timing(2.0, 1.0, 9.0)}
    found = row(times, {"eager": 80, "ours": 10}, {"eager": 30, "ours": 15})
    assert (found.ratio_vs_eager, found.ratio_vs_compile, found.batch) == (3.0, 1.5, 4)
    assert (found.saved_bytes_ratio, found.peak_bytes_ratio) == (0.125, 0.5)


def test_goals_are_met_missed_or_not_measured(found):
    times = {"eager": Timing(6.0, 6.0, 6.0), "ours": Timing(2.0, 2.0, 2.0)}
    rows = [
        row(
            times,
            {"eager": 8, "ours": 1},
            {},
            mode=mode,
            name="2d-stage-352-b1",
            error={"x": {"eager": 1e-6, "ours": 2.5e-6}},
        )
        for mode in result.MODES
    ]
    checks = {check.goal.text: check.met for check in goals.check(replace(found, cases=tuple(rows)))}
    assert checks == {
        "2-D stage, 352, forward, against eager": True,
        "2-D stage, 352, forward, against torch.compile": None,
        "2-D stage, 352, forward + backward, against eager": True,
        "bytes saved for backward, 2-D stage": True,
        "worst error against float64": False,
    }
