import subprocess
import sys

import pytest

from sdi_plugin.cli import build_parser, info, main
from sdi_plugin.cli.errors import CommandError

COMMANDS = [["info"], ["demo"], ["data", "list"], ["data", "prepare"], ["convert"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text
    assert "--debug" in text


@pytest.mark.parametrize(
    "argv", [[], ["data"], ["nonsense"], ["demo", "--size", "0"], ["demo", "--epochs", "x"]], ids=" ".join
)
def test_bad_usage_exits_with_2(argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CommandError("expected\na b,  got c"), "expected a b, got c"),
        (FileNotFoundError(2, "No such file", "x.pth"), "x.pth: no such file"),
        (PermissionError(13, "Permission denied", "out"), "out: permission denied"),
        (ImportError("needs timm"), "needs timm"),
        (ValueError("SDI: expected"), "SDI: expected"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_one_line_without_a_traceback(error, line, monkeypatch, capsys):
    def fail(arguments):
        raise error

    monkeypatch.setattr(info, "run", fail)
    assert main(["info"]) == 2
    assert capsys.readouterr().err == f"sdi-plugin: error: {line}\n"
    with pytest.raises(type(error)):
        main(["info", "--debug"])


def test_an_interruption_prints_no_traceback(monkeypatch, capsys):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "run", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "sdi-plugin: interrupted\n"


def test_help_does_not_wait_for_torch_to_be_imported_twice():
    """The parser imports no framework: --help stays instant however many adapters there are."""
    code = (
        "import sys, torch, sdi_plugin.cli as c; c.build_parser(); "
        "heavy = {'timm', 'segmentation_models_pytorch', 'matplotlib', 'scipy', 'PIL', 'numpy.testing'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_version_is_shown(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--version"])
    assert capsys.readouterr().out.startswith("sdi-plugin ")
