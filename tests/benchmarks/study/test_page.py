"""The page and its plots come from the JSON alone, and a difference is found."""

import json
import re
from dataclasses import replace

import pytest

from benchmarks.environment import ROOT
from benchmarks.study import compare, page, plan
from benchmarks.study.__main__ import RESULTS, main
from benchmarks.study.plan import Contest
from benchmarks.study.settings import PAPER, Run
from benchmarks.study.store import LOG, Store, write
from tests.benchmarks.study.made import fill, metrics, seeded, timed

NAMES = ("recommended", "paper", "unet")


def score(run):
    unit, unet = run.setting.init == "unit", run.network == "unet"
    return 0.7 + seeded(run) + (0.05 if unit else 0.02 if unet else 0) - 0.1 * (100 - run.protocol.percent) / 100


@pytest.fixture
def store(tmp_path, monkeypatch):
    few = (replace(plan.POLYPS, percent=percent, epochs=9) for percent in (10, 50))
    sequence = (
        plan.START,
        Contest(NAMES),
        Contest(NAMES, protocol=plan.ISIC),
        *(Contest(NAMES, protocol=protocol) for protocol in few),
    )
    monkeypatch.setattr(plan, "SEQUENCE", sequence)
    monkeypatch.setattr(plan, "_PART_1", sequence[:1])
    monkeypatch.setattr(compare, "RESAMPLES", 100)
    store = Store(tmp_path / "results")
    fill(store, score)
    return store


@pytest.fixture
def undrawn(monkeypatch):
    for name in ("contest", "low_data", "cost"):
        monkeypatch.setattr(page.plots, name, lambda *data: b"")


def tables_of(text):
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    ]


def text_of(store):
    return page.files(store)[page.PAGE].decode()


def test_the_page_states_choice_scores_and_losses(store, undrawn):
    text = text_of(store)
    assert "The recommended setting, the best by this rule: **init unit**." in text
    first, polyps, *_ = tables_of(text)
    assert first[3][0] == "init unit (chosen)"
    assert first[3][6] == "+5.00 (+5.00 to +5.00), win"
    assert [row[0] for row in polyps[2:]] == [
        "U-Net v2, recommended (init unit)",
        "smp Unet",
        "U-Net v2, paper's setting",
    ]
    assert polyps[2][-2:] == ["+3.00 (+3.00 to +3.00), win", "+5.00 (+5.00 to +5.00), win"]
    assert "Losses: U-Net v2, paper's setting is below smp Unet: -2.00" in text


def test_the_page_begins_with_the_answer(store, undrawn):
    text = text_of(store)
    assert text.index("## In short") < text.index("## Settings")
    lines = text.split("## In short")[1].split("##")[0].strip().splitlines()
    assert len(lines) == 8  # two settings on four protocols
    polyps = (
        "- polyps, 128 pixels, lite0, ImageNet weights, 4 epochs: U-Net v2, paper's setting against smp Unet, 3 seeds"
    )
    assert f"{polyps}, validation images: **-2.00 (-2.00 to -2.00), loss**" in lines


def test_protocols_are_never_mixed(store, undrawn):
    for protocol, group in page.by_protocol(store).items():
        found = {Run.from_json(document["run"]).protocol for documents in group.values() for document in documents}
        assert found == {protocol}
    headings = [line for line in text_of(store).splitlines() if line.startswith("## ")]
    assert len(headings) == len(set(headings))


def test_test_results_stand_apart_once_they_are_read(store, undrawn):
    assert "On the test images" not in text_of(store)
    for document in store.all():
        run = Run.from_json(document["run"])
        found = metrics(0.5, {"kvasir": 9, "colondb": 8}, ("dice", "iou", "mae", "hd95", "s_measure"))
        found["colondb"]["hd95"][0] = None  # a prediction without a polyp
        store.write_test(run, {"id": run.id, "run": run.to_json(), "test": found})
    write(store.folder / LOG, {"begun": "2026-01-01T00:00:00Z", "finished": None})
    text = text_of(store)
    assert "### On the test images, read once, at 2026-01-01T00:00:00Z" in text
    header, _, *rows = next(table for table in tables_of(text) if "S-measure" in table[0])
    assert header == ["network", "set", "Dice", "IoU", "MAE", "HD95, pixels", "S-measure"]
    assert {row[1] for row in rows} == {"Kvasir", "ColonDB"}
    assert "nan" not in text


def test_costs_are_relative_to_unet(store):
    counts = {"parameters": 3_000_000, "gmac": 0.5, "saved_bytes": 2**20, "inference_ms": timed(2)}
    runs = {run.contender: run for run in (Run(plan.POLYPS), Run(plan.POLYPS, "unet"))}
    networks = {
        name: {"run": run.to_json(), **counts, "step_ms": timed(50 * (1 + (name == "unet")))}
        for name, run in runs.items()
    }
    write(store.cost_file(plan.POLYPS), {"networks": networks, "batch": 16, "threads": 1, "machine": {"cpu": "a CPU"}})
    made = page.files(store)
    table = tables_of(made[page.PAGE].decode())[-1]
    assert [row[4] for row in table[2:]] == ["0.50", "1.00"]
    assert "images/study-128-lite0-cost.svg" in made


def test_a_run_that_diverged_is_shown_and_counts_as_nothing(store, undrawn):
    run = Run(plan.POLYPS, "unet", seed=1)
    document = store.read(run)
    del document["validation"]
    store.write(run, {**document, "diverged": 2})
    rows = tables_of(text_of(store))[1]
    assert next(row for row in rows if row[0] == "smp Unet")[1] == "3 (1 diverged)"


def test_the_best_so_far_competes_before_it_is_recommended(store, undrawn, monkeypatch):
    sequence = (plan.START, plan.WIDTH, *plan.SEQUENCE[1:])
    monkeypatch.setattr(plan, "SEQUENCE", sequence)
    monkeypatch.setattr(plan, "_PART_1", sequence[:2])
    text = text_of(store)
    assert "nothing is recommended so far" in text
    assert "U-Net v2, init unit against smp Unet, 3 seeds, validation images: **+3.00" in text
    assert "recommended (" not in text


def test_no_recommendation_before_part_1_is_through(store, undrawn):
    (store.folder / f"{Run(plan.POLYPS, setting=replace(PAPER, init='unit'), seed=2).id}.json").unlink()
    text = text_of(store)
    assert "nothing is recommended so far" in text
    assert "recommended (" not in text


@pytest.fixture
def written(store, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.environment.restart_with_settings", lambda: None)
    arguments = ["--results", str(store.folder), "--docs", str(tmp_path / "docs")]
    assert main(["--tables", *arguments]) == 0
    return arguments, tmp_path / "docs"


def test_what_tables_writes_verify_accepts(written, capsys):
    arguments, docs = written
    assert main(["--verify", *arguments]) == 0
    text = (docs / page.PAGE).read_text()
    shown = re.findall(r"!\[.+\]\((.+)\)", text)
    assert sorted(shown) == sorted(file.relative_to(docs).as_posix() for file in docs.glob("images/*"))
    assert "images/study-low-data.svg" in shown


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda docs, store: _replace(docs / page.PAGE, "+5.00", "+6.00"), "is not what the results give"),
        (lambda docs, store: next(docs.glob("images/*")).unlink(), "is missing"),
        (lambda docs, store: (docs / "images" / "study-old.svg").touch(), "is of no result"),
        (lambda docs, store: _replace(next(docs.glob("images/*")), "<use ", "<use  "), "is not what the results give"),
        (lambda docs, store: _change_a_value(store), "is not what the results give"),
    ],
    ids=["page", "missing", "old", "plot", "result"],
)
def test_verify_finds_a_difference(written, store, capsys, change, said):
    arguments, docs = written
    change(docs, store)
    assert main(["--verify", *arguments]) == 1
    assert said in capsys.readouterr().out


def test_a_plot_of_another_matplotlib_is_compared_by_its_texts(written):
    arguments, docs = written
    plot = next(docs.glob("images/*"))
    _replace(plot, "<dc:title>matplotlib ", "<dc:title>matplotlib 0.")
    assert main(["--verify", *arguments]) == 0
    _replace(plot, "mean Dice", "mean dice")
    assert main(["--verify", *arguments]) == 1


def test_no_results_and_a_misplaced_result_are_errors(tmp_path, store, capsys):
    with pytest.raises(ValueError, match="no results in"):
        page.files(Store(tmp_path / "none"))
    file = store.folder / f"{Run(plan.POLYPS).id}.json"
    file.rename(file.with_name("other-s0.json"))
    with pytest.raises(ValueError, match="Move it to its place"):
        page.files(store)


def _replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def _change_a_value(store):
    file = store.folder / f"{Run(plan.POLYPS, 'unet').id}.json"
    document = json.loads(file.read_text())
    document["validation"]["kvasir"]["dice"][0] -= 0.5
    write(file, document)


def test_the_committed_page_is_what_the_committed_results_give():
    if not RESULTS.is_dir():
        pytest.skip("no results of the study are committed yet")
    assert page.differing(Store(RESULTS), ROOT / "docs") == []
