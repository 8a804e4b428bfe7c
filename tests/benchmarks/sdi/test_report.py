"""Tables, the page and the plots, from a result made by hand."""

import json
import re

import pytest

from benchmarks import environment
from benchmarks.sdi import cases, command, plots, report, suite
from benchmarks.sdi.cases import Case
from benchmarks.sdi.measure import Timing


def made(eager=4.0, ours=2.0):
    rows = []
    for name in ("2d-stage-352-b1", *cases.SCALING):
        for mode in suite.MODES:
            times = {"eager": Timing(eager, eager, eager), "ours": Timing(ours, ours, ours)}
            row = suite.entry(Case.parse(name), mode, 2, times) | suite.bytes_of({"eager": 2**21, "ours": 2**20}, {})
            rows.append({**row, "floor_ms": 1.0, "error_ratio": 0.5})
    return {
        "versions": {"torch": "2.14.1"},
        "machine": {"cpu": "a processor", "cores": 2, "flags": ["avx2"], "gpus": [], "load_before": 0.1},
        "command": "python -m benchmarks.sdi",
        "commit": "0123456789ab",
        "settings": {"threads": [1, 2], "compile": "Compiled so."},
        "floors": [{"threads": 2, "sgemm_gflops": 75.0, "stream_gbs": 20.0, "cache_gbs": 60.0}],
        "cases": rows,
    }


def test_the_goals_are_told_with_what_was_measured():
    lines = report.goals_table(made()).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["goal", "case", "bound", "measured", "met"]
    assert ["2-D stage, 352, forward, against eager", "2d-stage-352-b1", ">= 2.5x", "2.00", "NO"] in cells
    assert ["bytes saved for backward, 2-D stage", "2d-stage-352-b1", "<= 1/8", "0.500", "NO"] in cells
    assert ["worst error against float64", "2d-stage-352-b1", "<= 2x", "0.500", "yes"] in cells
    assert ["2-D stage, 352, forward, against torch.compile", "2d-stage-352-b1", ">= 2.0x", "-", "-"] in cells


def test_the_page_shows_every_case_and_names_what_is_lost():
    page = report.page(made(eager=1.0, ours=2.0), [("a plot", "images/plot.png")])
    for name in ("2d-stage-352-b1", *cases.SCALING):
        assert page.count(f"| {name} ") >= 3
    assert "2d-stage-352-b1 forward on 2 threads (against eager: 0.50x)" in page
    assert "![a plot](images/plot.png)" in page
    assert "slower in none of the cases" in report.page(made(), [])


def test_both_scaling_plots_are_drawn(tmp_path):
    written = plots.write(made(), tmp_path)
    assert [file.name for _, file in written] == ["scaling-size.png", "scaling-levels.png"]
    assert all(file.stat().st_size > 5000 for _, file in written)


def test_rendering_a_stored_result_writes_the_page_and_the_plots_that_it_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_DOCS", tmp_path / "docs")
    monkeypatch.setattr(environment, "restart_with_settings", lambda: None)
    file = tmp_path / "result.json"
    file.write_text(json.dumps(made()))
    assert command.main(["--render", str(file)]) == 0
    shown = re.findall(r"!\[.+\]\((.+)\)", (tmp_path / "docs" / "benchmarks.md").read_text())
    assert len(shown) == 2
    assert all((tmp_path / "docs" / name).exists() for name in shown)


def test_a_result_without_the_series_draws_nothing(tmp_path):
    result = made()
    result["cases"] = result["cases"][:2]
    assert plots.write(result, tmp_path) == []
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("ratio", [0.999, 1.001])
def test_a_tie_is_told_from_a_loss(ratio):
    assert ("none of the cases" in report.losses(made(eager=ratio, ours=1.0))) == (ratio > 1)
