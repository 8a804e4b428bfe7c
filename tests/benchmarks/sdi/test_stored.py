"""What benchmarks/results may hold, and the page that is made from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import environment
from benchmarks.sdi import excerpts, plots, report, stored
from benchmarks.sdi.result import from_json, to_json
from tests.benchmarks.sdi import made

DOCS = environment.ROOT / "docs"


def store(folder, result):
    file = folder / f"{result.machine.name}.json"
    file.write_text(to_json(result))
    return file


@pytest.mark.parametrize("options", ["--quick", "", "--cases 2d-stage-64-b2 2d-network-64 --threads 2 1 --no-compile"])
def test_a_result_is_read_as_it_was_written(options, tmp_path):
    result = made.result(options)
    assert stored.read(store(tmp_path, result)) == result


def joined(result):
    """Rows of a run with other threads added to it, as somebody might who wants one table."""
    other = made.result("--cases 2d-stage-352-b1 --threads 1 --no-compile")
    return replace(result, cases=result.cases + other.cases, floors=other.floors + result.floors)


def edited(**changes):
    return lambda result: replace(result, cases=(replace(result.cases[0], **changes), *result.cases[1:]))


def settings(**changes):
    return lambda result: replace(result, settings=replace(result.settings, **changes))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (joined, "floors are not those of settings.threads"),
        (lambda r: replace(r, cases=r.cases[1:]), r"cases are not those of the command, \[\('2d-stage-352-b1', 'forw"),
        (lambda r: replace(r, cases=r.cases[::-1]), "cases are not those of the command, in its order"),
        (lambda r: replace(r, command=f"{r.command}, then all others --threads 1"), "does not take the command's arg"),
        (lambda r: replace(r, command="by hand"), "the command is not python -m benchmarks.sdi"),
        (settings(channels_last=True), "settings are not those of the command"),
        (edited(ratio_vs_eager=3.0), "ratio_vs_eager is 3.0, but the other figures give 2.0"),
        (edited(floor_ms=1.0), "floor_ms is 1.0, but the other figures give"),
        (edited(saved_bytes={"ours": 1, "eager": 2}), "saved_bytes of ours, eager"),
        (edited(peak_bytes={"compile": 1}, peak_bytes_ratio=None), "peak_bytes of compile"),
        (edited(rounds=4), "forward on 2 threads: 4 rounds"),
        (edited(group="scaling"), "group is scaling, but the other figures give 2d-stage-352-b1"),
        (lambda r: replace(r, machine=replace(r.machine, cores=4)), "machine.name is a-processor-2-cores"),
        (lambda r: replace(r, environment={}), "environment records"),
    ],
    ids=lambda value: value.replace(" ", "-")[:40] if isinstance(value, str) else "",
)
def test_what_no_run_writes_is_refused(change, expected, tmp_path):
    with pytest.raises(ValueError, match=rf"a-processor-2-cores\.json: no run .*{expected}"):
        stored.read(store(tmp_path, change(made.result())))


def test_rows_of_one_group_took_their_turns_together(tmp_path):
    result = made.result()
    rows = [replace(row, rounds=9) if row.name == "2d-stage-768-b1" else row for row in result.cases]
    with pytest.raises(ValueError, match="cases of one group differ in rounds"):
        stored.read(store(tmp_path, replace(result, cases=tuple(rows))))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("commit",), "main"),
        (("settings", "rounds"), "4 with --quick, else 5"),
        (("settings", "modes"), ["backward"]),
        (("cases", 0, "ms", "eager", "median"), -1.0),
        (("cases", 0, "ms", "eager", "q25"), 1e9),
        (("cases", 0, "remark"), "run again"),
        (("machine", "cores"), "2"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_keys_and_types_are_those_of_the_program(keys, value):
    found = json.loads(to_json(made.result()))
    place = found
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(ValueError, match=r"1 errors, such as " + r"\.".join(map(str, keys[:4]))):
        from_json(json.dumps(found))


def test_a_file_is_named_after_its_machine(tmp_path):
    file = store(tmp_path, made.result()).rename(tmp_path / "mine.json")
    with pytest.raises(ValueError, match=r"mine\.json: .*not that of the machine, a-processor-2-cores"):
        stored.read(file)


def test_the_page_and_its_plots_are_those_of_the_stored_results():
    results = [stored.read(file) for file in stored.files()]
    # `python -m benchmarks.sdi --render` writes both.
    assert (DOCS / "benchmarks.md").read_text() == report.page(results)
    for found in results:
        for _, path, data in plots.images(found):
            with Image.open(DOCS / path) as image:
                assert json.loads(image.info[plots.DATA]) == data
    for document in filter(Path.exists, excerpts.DOCUMENTS):
        assert document.read_text() == excerpts.fill(document.read_text(), results)
