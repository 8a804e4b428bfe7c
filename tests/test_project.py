"""The project's files agree with each other: versions, pins, and what ships."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import sdi_plugin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HASHES = (ROOT / ".ci" / "hashes.txt").read_text()
EXTRAS = PROJECT["project"]["optional-dependencies"]


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == sdi_plugin.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["authors"] == PROJECT["project"]["authors"]
    assert citation["references"][0]["doi"].endswith("arXiv.2311.17791")


def test_the_package_ships_its_types():
    assert Path(sdi_plugin.__file__).with_name("py.typed").is_file()
    assert PROJECT["tool"]["setuptools"]["package-data"]["sdi_plugin"] == ["py.typed"]


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_everything_that_an_extra_installs_is_pinned(extra):
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    needed = {re.split(r"[\[<>=;~! ]", requirement)[0].lower() for requirement in EXTRAS[extra]}
    assert needed - pinned - {"sdi-plugin", "setuptools"} == set()


def test_the_archives_with_hashes_are_those_of_the_pinned_versions():
    constraints = (ROOT / "constraints.txt").read_text()
    pinned = dict(re.findall(r'^([\w.-]+)==([\w.+]+)(?:; python_version >= "3.11")?$', constraints, re.MULTILINE))
    hashed = dict(re.findall(r"^([\w.-]+)==([\w.+]+) --hash=sha256:[0-9a-f]{64}$", HASHES, re.MULTILINE))
    assert len(hashed) == len(HASHES.splitlines()) - 1
    assert {name: hashed[name] for name in hashed.keys() & pinned.keys()}.items() <= pinned.items()
    needed = {re.split(r"[\[<>=;~! ]", requirement)[0].lower() for requirement in EXTRAS["test"]}
    assert needed - {"sdi-plugin"} <= hashed.keys()


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/**/*.yml")), ids=lambda path: path.stem)
def test_the_forge_can_read_its_files(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_hosted_workflow_only_starts_the_one_script():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step] == [".ci/run"]
