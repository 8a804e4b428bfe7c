"""The tables of a result made by hand, and those of docs/gpu.md."""

import json
import re

import pytest

from benchmarks import markdown
from benchmarks.environment import ROOT
from benchmarks.gpu import command, results, tables

PAGE = ROOT / "docs" / "gpu.md"
NAMES = tables.parts({"phases": {}})


def item(us, **more):
    more = {"flops": 4 * 10**9, "least_bytes": 3 * 10**6, **more}
    return {"status": "ok", "graph_us": us, "wall_us": 3 * us, "host_us": 2 * us, **more}


def phase(**items):
    return {"status": "ok", "seconds": 1.0, "items": items}


def made():
    """A run in which ours is fast in forward and slow in backward, and one item of each other kind failed."""
    stage = "2d-stage-352-b1/bf16/forward"
    speed = {f"{stage}/ours": item(20.0), f"{stage}/eager": item(50.0), f"{stage}/eager-channels-last": item(40.0)}
    speed |= {f"{stage}+backward/ours": item(90.0), f"{stage}+backward/eager": item(60.0)}
    speed["start"] = {"status": "failed", "error": "its process ended with -9: log.txt"}
    kernels = {"launches": 3, "us": 9.0, "top": [["grouped_forward", 1, 6.5]]}
    found = {
        "preflight": phase(
            machine={"status": "ok", "gpu": "A GPU", "driver": "1.2", "torch": "2.11.0"},
            copy={"status": "ok", "gb_per_s": 3000.0},
            launches={"status": "ok", "torch_launch_us": 4.0, "torch_node_us": 1.5},
            **{"matmul-bf16": {"status": "ok", "tflop_per_s": 800.0}},
        ),
        "correctness": phase(
            **{"correctness.py::test_error[paper-bf16]": {"status": "ok", "x_ratio": 0.9, "bias_ratio": 1.25}},
            **{f"test_{i}": {"status": "failed", "error": f"error\nnumber {i}"} for i in range(10)},
        ),
        "speed": phase(**speed),
        "memory": phase(
            **{
                "peak/2d-stage-352-b16/bf16/ours": {
                    "status": "ok",
                    "forward_bytes": 2e6,
                    "forward+backward_bytes": 5e6,
                },
                "kernels/2d-stage-352-b16/bf16/ours": {"status": "ok", "forward": kernels},
            }
        ),
        "network": phase(
            **{"2d/bf16": {"ms": 60.0, "images_per_s": 266.7, "step_bytes": 9e9, "losses": [2.0, *[1.0] * 20]}}
        ),
        "network-reference": phase(**{"2d/bf16": {"ms": 90.0, "step_bytes": 12e9, "losses": [2.0, *[1.1] * 20]}}),
    }
    found["network"]["items"]["2d/bf16"]["status"] = found["network-reference"]["items"]["2d/bf16"]["status"] = "ok"
    return {"command": "python -m benchmarks.gpu", "commit": "abc", "dry": False, "seconds": 300.0, "phases": found}


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_times_are_compared_with_the_faster_eager_and_with_the_ceiling():
    forward, both = cells(tables.times(made()))[2:]
    assert forward == ["2d-stage-352-b1", "bf16", "forward", "50.0", "40.0", "-", "-", "20.0", "2.00", "25"]
    assert both[-2:] == ["0.67", "6"]


def test_losses_are_named():
    text = tables.losses(made())
    assert "2d-stage-352-b1 bf16 forward+backward, replayed (eager: 1.50x as long)" in text
    assert "bf16 forward, " not in text


def test_the_summary_is_short_and_shows_the_first_failures():
    text = tables.summary(made())
    assert len(text.splitlines()) <= 60
    assert "correctness: test_0: error number 0" in text
    assert "and 3 more: see results.json" in text
    assert "speed: start: its process ended with -9" not in text  # among the three


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_the_page_has_its_figures(name):
    text = tables.parts(made())[name]()
    expected = {
        "gpu_machine": "A GPU, driver 1.2; torch 2.11.0.",
        "gpu_ceilings": "3000",
        "gpu_checks": "1.25",
        "gpu_times": "20.0",
        "gpu_host": "60 (40)",
        "gpu_losses": "Ours is slower in",
        "gpu_memory": "forward+backward",
        "gpu_kernels": "`grouped_forward`",
        "gpu_network": "266.7",
        "gpu_curves": "1.1000",
    }
    assert expected[name] in text
    assert tables.parts({"phases": {}})[name]()  # a result without the phase


def test_the_page_shows_the_stored_result():
    page = PAGE.read_text()
    assert set(re.findall(r"<!-- measured: (\w+) -->", page)) == set(NAMES)
    stored = results.files()
    if stored:  # `python -m benchmarks.gpu --render FILE` writes it
        assert page == markdown.fill(page, tables.parts(results.read(stored[0])))
    else:
        assert page == markdown.fill(page, {name: lambda: tables.NOTHING for name in NAMES})


def test_render_writes_the_page(tmp_path, monkeypatch):
    page, result = tmp_path / "gpu.md", tmp_path / "results.json"
    page.write_text("<!-- measured: gpu_times -->\n<!-- end -->\n")
    result.write_text(json.dumps(made()))
    monkeypatch.setattr(command, "_PAGE", page)
    assert command.main(["--render", str(result)]) == 0
    assert "2d-stage-352-b1" in page.read_text()


@pytest.mark.parametrize("text", ["", "[]"], ids=["empty", "list"])
def test_what_is_no_result_is_refused_in_one_line(text, tmp_path, capsys):
    (tmp_path / "results.json").write_text(text)
    assert command.main(["--render", str(tmp_path / "results.json")]) == 2
    assert "expected the results.json of a run" in capsys.readouterr().err
