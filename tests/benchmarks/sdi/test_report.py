"""Tables, the page and the plots, from a result made by hand."""

import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from benchmarks import environment
from benchmarks.sdi import cases, command, excerpts, plots, report, stored
from benchmarks.sdi.result import to_json
from tests.benchmarks.sdi import made


def test_the_goals_are_shown_with_what_was_measured():
    lines = report.goals_table(made.result("--quick --no-compile")).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["goal", "case", "bound", "measured", "met"]
    assert ["2-D stage, 352, forward, against eager", "2d-stage-352-b1", ">= 2.50x", "2.000", "NO"] in cells
    assert ["bytes saved for backward, 2-D stage", "2d-stage-352-b1", "<= 1/8", "0.500", "NO"] in cells
    assert ["worst error against float64", "2d-stage-352-b1", "<= 2x", "0.500", "yes"] in cells
    assert ["2-D stage, 352, forward, against torch.compile", "2d-stage-352-b1", ">= 2.00x", "-", "-"] in cells


def test_what_falls_short_is_shown_beside_the_floors():
    found = report.shortfalls(made.result("--decoder"))
    assert found in report.tables(made.result("--decoder"))
    assert re.search(
        r"- 2-D decoder, 352, forward, against eager, 2d-decoder-352-b1: 2.000x of 2.50x; ours takes 2.00 ms, its "
        r"products alone \d+.\d\d ms \(sgemm 75.0 GFLOP/s, stream 20.0 GB/s\).",
        found,
    )
    assert report.shortfalls(made.result("--decoder", eager=80.0)) == "Every goal for times is met."


def test_the_page_shows_every_case_and_names_what_is_lost_or_left_out():
    page = report.page([made.result(eager=1.0, ours=2.0)])
    for name in (*cases.QUICK, *cases.SCALING):
        assert page.count(f"| {name} ") >= 3
    assert "2d-stage-352-b1 forward on 2 threads (against eager: 0.50x)" in page
    assert "Not measured in this run: 3d-stage-96-l6, 2d-level1-352-b1, " in page
    assert "not slower in any of the cases" in report.page([made.result()])
    assert "This run measured every case." in report.page([made.result("")])


def test_the_page_has_a_part_for_every_stored_result():
    first = made.result()
    second = replace(first, machine=replace(first.machine, cpu="Another"))
    assert re.findall(r"^## (.+)$", report.page([first, second]), re.MULTILINE) == [
        "A processor, 2 cores",
        "Another, 2 cores",
    ]
    assert "No result is stored" in report.page([])


def test_rendering_writes_the_page_and_the_plots_that_it_shows_with_their_data(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_DOCS", tmp_path / "docs")
    monkeypatch.setattr(stored, "FOLDER", tmp_path)
    front = tmp_path / "README.md"
    front.write_text("Before.\n<!-- measured: times -->\nOld.\n<!-- end -->\nAfter.\n")
    monkeypatch.setattr(excerpts, "DOCUMENTS", (front, tmp_path / "none.md"))
    monkeypatch.setattr(environment, "restart_with_settings", lambda: None)
    (tmp_path / "docs").mkdir()
    result = made.result()
    (tmp_path / "a-processor-2-cores.json").write_text(to_json(result))
    assert command.main(["--render"]) == 0
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert page == report.page([result])
    assert front.read_text() == excerpts.fill(front.read_text(), [result])
    assert re.fullmatch(
        r"Before\.\n<!-- measured: times -->\n\n\|.*\n\n<!-- end -->\nAfter\.\n", front.read_text(), re.DOTALL
    )
    shown = re.findall(r"!\[.+\]\((.+)\)", page)
    assert shown == ["images/a-processor-2-cores-size.png", "images/a-processor-2-cores-levels.png"]
    for (_, path, data), name in zip(plots.images(result), shown, strict=True):
        assert path == name
        with Image.open(tmp_path / "docs" / path) as image:
            assert image.width > 1000
            assert json.loads(image.info[plots.DATA]) == data


def test_a_plotted_line_has_a_point_for_each_case_in_order():
    by_size, by_levels = (data for _, _, data in plots.images(made.result(eager=6.0, ours=3.0)))
    assert by_size["points"] == [128, 256, 512, 768, 1024]
    assert by_levels["points"] == [2, 3, 4, 5, 6]
    assert by_levels["panels"]["forward, ms"] == {"eager": [6.0] * 5, "ours": [3.0] * 5}
    assert by_size["panels"]["saved for backward, MiB"] == {"eager": [2.0] * 5, "ours": [1.0] * 5}


def test_a_line_of_points_that_were_not_timed_in_turn_is_refused():
    result = made.result()
    apart = [replace(row, group=row.name) if row.name == "2d-stage-768-b1" else row for row in result.cases]
    with pytest.raises(ValueError, match="expected the forward rows of one line from one group"):
        plots.images(replace(result, cases=tuple(apart)))


def test_a_result_without_the_series_draws_nothing(tmp_path):
    result = made.result("--cases 2d-stage-352-b1")
    plots.write(result, tmp_path)
    assert not any(tmp_path.iterdir())
    assert "### Scaling" not in report.page([result])


@pytest.mark.parametrize("ratio", [0.999, 1.001])
def test_a_tie_is_distinguished_from_a_loss(ratio):
    assert ("not slower in any of the cases" in report.losses(made.result(eager=ratio, ours=1.0))) == (ratio > 1)


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_front_page_shows_times_and_bytes():
    shown = cells(excerpts.times(made.result("--quick", eager=1694.2, ours=2.17)))
    assert shown[0] == ["", "sdi-plugin", "eager PyTorch", "torch.compile"]
    assert ["SDI, 2-D 352, batch 1: forward", "2.2 ms", "1694 ms", "1694 ms"] in shown
    assert ["SDI, 3-D 64^3, five levels: kept for backward", "1.0 MiB", "2.0 MiB", "2.0 MiB"] in shown
    assert len(shown) == 2 + 3 * 3


def test_the_gains_are_those_of_the_largest_number_of_threads():
    result = made.result("")
    slow = [replace(row, ratio_vs_eager=0.5) if row.threads == 1 else row for row in result.cases]
    shown = cells(excerpts.gains(replace(result, cases=tuple(slow))))
    assert ["eager PyTorch, forward + backward", "2.0", "2.0", "2.0"] in shown
    assert ["peak memory of a training forward", "0.50", "0.50", "0.50"] in shown


@pytest.mark.parametrize(
    ("name", "results", "expected"),
    [
        ("speed", [], "expected one of times, gains, got speed"),
        ("gains", [made.result("--cases 2d-stage-64")], r"a-processor-2-cores\.json: expected 2d-stage-352-b1"),
    ],
    ids=["unknown", "not-measured"],
)
def test_a_part_that_cannot_be_written_is_an_error(name, results, expected):
    with pytest.raises(ValueError, match=expected):
        excerpts.fill(f"<!-- measured: {name} -->\n<!-- end -->\n", results)


def test_without_a_result_a_document_says_so():
    assert "No result is stored" in excerpts.fill("<!-- measured: gains -->\n| 9.9 |\n<!-- end -->\n", [])
