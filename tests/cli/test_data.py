"""`sdi-plugin data`: what it takes and what it prints; tests/data has the library under it."""

import json

import pytest

from sdi_plugin.cli import main
from sdi_plugin.data import DATASETS
from tests.data.layouts import CASES, encode, one_zip, write_folder


def test_list_names_every_data_set(capsys):
    assert main(["data", "list"]) == 0
    text = capsys.readouterr().out
    for dataset in DATASETS.values():
        for fact in (dataset.name, dataset.licence, str(dataset.images), dataset.url, dataset.citation):
            assert fact in text
    assert main(["data", "list", "--json"]) == 0
    assert {entry["name"]: entry["citation"] for entry in json.loads(capsys.readouterr().out)} == {
        dataset.name: dataset.citation for dataset in DATASETS.values()
    }


def prepare(name, source, out, *options):
    return main(["data", "prepare", name, "--source", str(source), "--out", str(out), *options])


def test_prepare_prints_what_it_wrote(tmp_path, capsys):
    source = one_zip(CASES["kvasir-official"][1], tmp_path)
    assert prepare("kvasir", source, tmp_path / "out", "--size", "8") == 0
    printed = capsys.readouterr()
    assert printed.out == f"kvasir: 2 of 1000 images (train 1, val 1) in {tmp_path / 'out'}\n"
    assert "left out" not in printed.err


def broken(folder, count):
    """The plain layout with one good pair, and images without a mask."""
    files = {"images/a.png": encode("image", "a", ".png"), "masks/a.png": encode("mask", "a", ".png")}
    return write_folder(files | {f"images/b{i:02}.png": encode("image", "b", ".png") for i in range(count)}, folder)


@pytest.mark.parametrize(("count", "shown"), [(3, 3), (70, 50)], ids=["few", "many"])
def test_the_first_problems_are_listed_before_the_error(tmp_path, capsys, count, shown):
    assert prepare("etis", broken(tmp_path / "in", count), tmp_path / "out") == 2
    *problems, error = [line for line in capsys.readouterr().err.splitlines() if "check:" not in line]
    assert [line.partition(":")[0] for line in problems[:shown]] == [f"b{i:02}" for i in range(shown)]
    assert problems[shown:] == (["... and 20 more"] if count > shown else [])
    assert error.startswith(f"sdi-plugin: error: {count} problem(s) in {tmp_path / 'in'}; nothing was written.")
    assert "--skip-bad" in error


def test_what_is_left_out_is_reported_completely(tmp_path, capsys):
    assert prepare("etis", broken(tmp_path / "in", 70), tmp_path / "out", "--skip-bad") == 0
    printed = capsys.readouterr()
    assert sum(line.startswith("left out: b") for line in printed.err.splitlines()) == 70
    assert printed.out.startswith("etis: 1 of 196 images (all 1)")


def test_notes_are_reported(tmp_path, capsys):
    assert prepare("etis", broken(tmp_path / "in", 0), tmp_path / "Dataset001_A", "--layout", "nnunet") == 0
    assert "no training and test split: all images become training cases\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--size", "0"], "size of at least 1", id="size"),
        pytest.param(["--splits", "pranet"], "layout nnunet only", id="splits"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(tmp_path, capsys, options, said):
    assert prepare("etis", tmp_path, tmp_path / "out", *options) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("sdi-plugin: error: ")
    assert printed.count("\n") == 1
    assert said in printed
