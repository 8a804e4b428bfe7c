"""Every command of every document: its own parser takes the whole line, and the quick ones of ours run."""

import os
import shlex
from pathlib import Path

import pytest

from sdi_plugin.cli import main
from tests.docs import commands
from tests.docs.pages import PAGES, blocks, name
from tests.docs.stand_ins import provide

QUICK = {"info", "data", "convert"}  # commands of sdi-plugin: seconds, and nothing outside the folder


def _lines(page: Path) -> list[tuple[str, list[str]]]:
    """Each command with the place where it stands."""
    return [
        (f"{block.where}: {line}", words)
        for block in blocks(page)
        if block.language == "bash"
        for line in block.code.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))
    ]


LINES = {page: lines for page in PAGES if (lines := _lines(page))}


def _quick(page: Path) -> list[tuple[str, dict[str, str], list[str]]]:
    parts = [(where, *commands.split(words)) for where, words in LINES[page]]
    return [(where, variables, w[1:]) for where, variables, w in parts if w[:1] == ["sdi-plugin"] and w[1] in QUICK]


@pytest.mark.parametrize("page", LINES, ids=name)
def test_commands_take_their_arguments(page, monkeypatch, capsys):
    for where, words in LINES[page]:
        try:
            commands.check(words, monkeypatch)
        except (AssertionError, KeyError, SystemExit) as error:
            raise AssertionError(f"{where}: {error!r} {capsys.readouterr().err}") from error


@pytest.mark.parametrize("page", [page for page in LINES if _quick(page)], ids=name)
def test_quick_commands_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("nnUNet_raw", "raw")
    for where, variables, arguments in _quick(page):
        if arguments[0] == "convert":
            _skip_without_frameworks()
        arguments = [
            os.path.relpath(os.path.expanduser(a)) if a.startswith("~") else os.path.expandvars(a) for a in arguments
        ]
        provide(_input(arguments), tmp_path)
        with monkeypatch.context() as patch:
            for variable, value in variables.items():
                patch.setenv(variable, value)
            assert main(arguments) == 0, f"{where}: {capsys.readouterr().err}"


def _skip_without_frameworks() -> None:
    """A conversion builds the networks of both sides."""
    for framework in ("segmentation_models_pytorch", "mmengine", "nnunetv2"):
        pytest.importorskip(framework)


def _input(arguments: list[str]) -> str:
    """The file or folder that a command reads, which must be there before; not the one that it writes."""
    if arguments[0] == "convert":
        return arguments[1]
    return arguments[arguments.index("--source") + 1] if "--source" in arguments else ""
