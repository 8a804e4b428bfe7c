import subprocess
import sys

import pytest

import sdi_plugin
from sdi_plugin.cli import main


def test_hands_its_options_to_the_benchmarks_of_the_checkout(monkeypatch, tmp_path):
    calls = []

    def run(command, cwd):
        calls.append((command, cwd))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "--quick", "--json", "out.json"])
    assert stopped.value.code == 3
    ((command, root),) = calls
    assert command == [sys.executable, "-m", "benchmarks.sdi", "--quick", "--json", str(tmp_path / "out.json")]
    assert (root / "benchmarks" / "sdi" / "__main__.py").is_file()


def test_an_installed_package_says_where_the_benchmarks_are(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sdi_plugin, "__file__", str(tmp_path / "sdi_plugin" / "__init__.py"))
    assert main(["bench"]) == 2
    assert "benchmarks/ is not installed" in capsys.readouterr().err
