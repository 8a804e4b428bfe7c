"""Check a command line of a document without running it: the program exists, and its own parser takes the arguments."""

import argparse
import importlib
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest

from sdi_plugin.cli import build_parser
from tests.docs.pages import ROOT

_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)


class _Started(Exception):  # noqa: N818
    """Raised where a program would begin its work."""


def split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The variables set before a command, and the command."""
    variables = {}
    rest = list(words)
    while rest and (match := _ASSIGNMENT.fullmatch(rest[0])):
        variables[match[1]] = match[2]
        rest = rest[1:]
    return variables, rest


def check(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise AssertionError, KeyError or SystemExit where the command is wrong; skip where its framework is missing."""
    _, (program, *arguments) = split(words)
    if program.startswith("nnUNetv2_"):
        _nnunet(program, arguments, monkeypatch)
    elif program.startswith(".ci/"):
        assert (ROOT / program).is_file()
    else:
        _PROGRAMS[program](arguments, monkeypatch)


def _pip(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert arguments[0] == "install"
    known = set(metadata.metadata("sdi-plugin").get_all("Provides-Extra") or ())
    for requirement in arguments[1:]:
        if requirement == "-e":
            continue
        match = re.fullmatch(r"(sdi-plugin|\.)(?:\[([\w,]+)\])?", requirement)
        assert match, requirement
        assert set((match[2] or "").split(",")) <= known | {""}


def _make(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    makefile = (ROOT / "Makefile").read_text()
    variables, targets = split(arguments)
    named, targets = split([*targets[1:], *targets[:1]]) if targets else ({}, [])  # make TARGET NAME=VALUE
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for variable in variables | named:
        assert f"$({variable})" in makefile, variable


def _sdi_plugin(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    build_parser().parse_args(arguments)
    if arguments[:2] == ["nnunet", "run"]:
        _nnunet(arguments[2], arguments[3:], monkeypatch)


def _nnunet(program: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nnunetv2")
    found = metadata.entry_points(group="console_scripts", name=program)
    assert found, program
    (entry,) = found
    _parse([program, *arguments], entry.load(), monkeypatch)


def _python(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if arguments[0] == "-c":
        compile(arguments[1], "-c", "exec")
    elif arguments[0] == "-m" and arguments[1] == "pytest":
        paths = [word for word in arguments[2:] if not word.startswith("-")]
        assert all((ROOT / path).exists() for path in paths), paths
    elif arguments[0] == "-m":
        assert util.find_spec(arguments[1])
        monkeypatch.delitem(sys.modules, arguments[1], raising=False)  # which another test may have imported
        _parse(arguments[1:], lambda: runpy.run_module(arguments[1], run_name="__main__"), monkeypatch)
    else:
        path = ROOT / arguments[0]
        assert path.is_file(), path
        _parse(arguments, lambda: runpy.run_path(str(path), run_name="__main__"), monkeypatch)


def _parse(words: Sequence[str], start: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a program up to where argparse has read its arguments; wrong ones end in SystemExit."""
    real = argparse.ArgumentParser.parse_known_args
    outer = True

    def parse(self: argparse.ArgumentParser, *given: Any, **named: Any) -> Any:
        nonlocal outer
        if not outer:  # a subcommand
            return real(self, *given, **named)
        outer = False
        _, unknown = real(self, *given, **named)
        assert not unknown, unknown
        raise _Started

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        patch.setattr(sys, "argv", list(words))
        with pytest.raises(_Started):
            start()


def _mim(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mim")
    command, *rest = arguments
    module = importlib.import_module(f"mim.commands.{command}")
    context = module.cli.make_context(command, list(rest), resilient_parsing=False)
    if command in ("train", "test"):
        config = _config(context.params["config"])
        others = [config, *context.params["other_args"]]
        (script,) = (
            path for path in metadata.files("mmsegmentation") or () if path.match(f"mmseg/.mim/tools/{command}.py")
        )
        arguments = [a for a in others if a != "CHECKPOINT"]
        if command == "test":
            arguments.insert(1, context.params["checkpoint"] or "CHECKPOINT")
        _parse(
            [str(script), *map(str, arguments)],
            lambda: runpy.run_path(str(script.locate()), run_name="__main__"),
            monkeypatch,
        )
        _check_options(config, context.params["other_args"])


def _config(name: str) -> Path:
    """A config of ours by its path in a clone, or by the name that `mim` knows it by."""
    path = ROOT / "configs" / Path(name).name
    assert path.is_file(), name
    return path


def _check_options(config: Path, arguments: Sequence[str]) -> None:
    """The places that --cfg-options names are in the config."""
    if "--cfg-options" not in arguments:
        return
    from mmengine.config import Config

    import sdi_plugin.adapters.mmsegmentation  # noqa: F401  before mmseg

    content = Config.fromfile(config)
    for word in arguments[arguments.index("--cfg-options") + 1 :]:
        if word.startswith("--"):
            break
        place = content
        for key in word.partition("=")[0].split("."):
            place = place[key]


def _only_words(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of the shell or of git, whose arguments are the reader's."""


_PROGRAMS: dict[str, Callable[[Sequence[str], pytest.MonkeyPatch], None]] = {
    "cp": _only_words,
    "export": _only_words,
    "make": _make,
    "mim": _mim,
    "pip": _pip,
    "pre-commit": _only_words,
    "python": _python,
    "sdi-plugin": _sdi_plugin,
}
