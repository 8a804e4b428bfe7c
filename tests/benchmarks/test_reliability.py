"""`benchmarks.reliability`: docs/reliability.md is that of the stored records, and of what is installed."""

import json

from benchmarks import markdown, reliability


def test_the_page_has_the_tables_of_the_stored_records():
    page = reliability.PAGE.read_text()
    assert markdown.fill(page, reliability.parts()) == page


def test_every_direct_dependency_has_its_licence():
    stored = json.loads(reliability.LICENCES.read_text())
    installed = {name: said for name in reliability.needed() if (said := reliability.licence(name))}
    assert "torch" in installed
    assert stored.keys() == reliability.needed().keys()
    assert {name: stored[name] for name in installed} == installed


def test_a_record_becomes_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(reliability, "RESULTS", tmp_path)
    on = {"machine": {"cpu": "a processor", "cores": 2}, "versions": {"python": "3.11", "torch": "2.14"}}
    case = {"refused": 1, "undocumented": 1, "slowest": 0.1, "seconds": 60}
    record = {**on, "commit": "abc", "command": "python", "rows": {"checkpoint": {"cases": 4, **case}}}
    (tmp_path / "fuzz.json").write_text(json.dumps(record))
    text = reliability.parts()["fuzz"]()
    assert "`make fuzz`, commit abc, a processor, 2 cores, Python 3.11, torch 2.14; 1.0 minutes of tests." in text
    assert "4 cases in all, 4 of them checkpoints" in text
    assert "| checkpoint | 4     | 1       | 2    | 1            | 0.1         |" in text
    assert reliability.parts()["soak"]() == "Not recorded yet: `make soak`."
