"""`sdi-plugin nnunet`, and the files by which Python tells nnU-Net where the trainers are."""

import csv
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sdi_plugin.cli import main
from sdi_plugin.cli.nnunet import command, startup

FOLDER = str(startup.trainers_folder())
PRINT = "import os, sys; print(os.environ.get('nnUNet_extTrainer', '')); print('torch' in sys.modules)"


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A site-packages of its own, with the RECORD that pip would have written."""
    record = tmp_path / "sdi_plugin-0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text('"a, b.py",sha256=x,1\nsdi_plugin-0.dist-info/RECORD,,\n')
    monkeypatch.setattr(startup, "_site_packages", lambda: (tmp_path, record))
    monkeypatch.setattr(startup, "_new_process", lambda code: [sys.executable, "-S", "-c", with_site(tmp_path, code)])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    monkeypatch.delenv("SDI_PLUGIN_NNUNET", raising=False)
    return tmp_path


def output_of(site: Path, code: str, environment: dict[str, str]) -> str:
    """What a Python process prints whose only site-packages is that folder; nothing on stderr."""
    return python("-S", "-c", with_site(site, code), environment=environment, folder=site)


def with_site(site: Path, code: str) -> str:
    return f"import site; site.addsitedir({str(site)!r})\n{code}"


def python(*arguments: str, environment: dict[str, str], folder: Path | None = None) -> str:
    """What Python prints, and that it prints nothing on stderr."""
    found = subprocess.run([sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


def started(site: Path, **variables: str) -> str:
    """nnUNet_extTrainer in such a process, which must not import torch."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **variables}
    value, torch = output_of(site, PRINT, environment).split("\n")[:2]
    assert torch == "False"
    return value


def test_enable_appends_after_what_is_there_and_disable_removes_it(site):
    startup.enable()
    assert started(site) == FOLDER
    assert started(site, nnUNet_extTrainer="/mine") == f"/mine{os.pathsep}{FOLDER}"
    assert started(site, nnUNet_extTrainer=f"{FOLDER}{os.pathsep}/mine") == f"{FOLDER}{os.pathsep}/mine"
    startup.disable()
    assert started(site) == ""
    assert sorted(path.name for path in site.iterdir()) == ["sdi_plugin-0.dist-info"]


@pytest.mark.parametrize("value", ["0", "false", "OFF"])
def test_the_variable_turns_it_off(site, value):
    startup.enable()
    assert started(site, SDI_PLUGIN_NNUNET=value) == ""


def test_files_left_behind_by_an_uninstall_are_silent(site):
    startup.enable()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    assert output_of(site, PRINT, environment) == "\nFalse\n"
    (site / "_sdi_plugin_nnunet.py").unlink()
    assert output_of(site, PRINT, environment) == "\nFalse\n"


def test_pip_uninstalls_the_files(site):
    record = site / "sdi_plugin-0.dist-info" / "RECORD"
    before = record.read_text()
    startup.enable()
    startup.enable()
    with record.open(newline="") as file:
        names = [row[0] for row in csv.reader(file)]
    assert names == ["a, b.py", "sdi_plugin-0.dist-info/RECORD", *startup.FILES]
    startup.disable()
    assert record.read_text() == before


def test_the_start_file_names_a_function_that_works(site, monkeypatch):
    """Python 3.15 and later read the .start file: an entry point, resolved and called."""
    entry = (startup.trainers_folder().parent / "startup" / "sdi_plugin_nnunet.start").read_text().strip()
    startup.enable()
    monkeypatch.syspath_prepend(site)
    import pkgutil

    pkgutil.resolve_name(entry)()
    assert FOLDER in os.environ["nnUNet_extTrainer"].split(os.pathsep)  # noqa: SIM112
    monkeypatch.setenv("nnUNet_extTrainer", "")  # so that it is undone after the test


def test_starting_python_imports_one_module_for_it(site, tmp_path):
    """importlib.util, which would find the package too, costs 4 ms with what it imports."""
    startup.enable()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "plain.pth").write_text("import sys\n")
    code = (
        f"import sys, site; site.addsitedir({str(tmp_path / 'plain')!r}); before = set(sys.modules); "
        f"site.addsitedir({str(site)!r}); print(*sorted(set(sys.modules) - before))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert python("-S", "-c", code, environment=environment) == "_sdi_plugin_nnunet\n"


def not_read(monkeypatch):
    """Like pip install --target: the files are there, and Python does not read them."""
    startup.enable()
    monkeypatch.setattr(startup, "_new_process", lambda code: [sys.executable, "-S", "-c", code])


def broken(monkeypatch):
    startup.enable()
    file = startup._site_packages()[0] / "_sdi_plugin_nnunet.py"
    file.write_text("def append():\n    raise OSError('no disk')")


def without_nnunet(monkeypatch):
    startup.enable()

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


def unsupported(monkeypatch):
    startup.enable()

    def load(name):
        raise ImportError("expected nnunetv2 <2.9, got 3.0")

    monkeypatch.setattr(startup.importlib, "import_module", load)


@pytest.mark.parametrize(
    ("prepare", "switch", "said"),
    [
        (lambda monkeypatch: None, "1", "off: run `sdi-plugin nnunet enable`. By hand: export nnUNet_extTrainer="),
        (lambda monkeypatch: startup.enable(), "no", "off: SDI_PLUGIN_NNUNET=no turns it off. By hand: "),
        (
            lambda monkeypatch: monkeypatch.setattr(metadata, "version", lambda _: "2.6.2"),
            "1",
            "off: nnunetv2 before 2.8",
        ),
        (not_read, "1", "off: Python reads no start-up files in"),
        (broken, "1", "off: the start-up file failed: OSError: no disk. By hand: "),
        (without_nnunet, "1", "off: nnU-Net is not installed: pip install"),
        (unsupported, "1", "off: expected nnunetv2 <2.9, got 3.0"),
    ],
    ids=["not enabled", "turned off", "nnunetv2 2.6", "--target", "broken", "without nnU-Net", "unsupported nnU-Net"],
)
def test_status_says_why_it_is_off(site, monkeypatch, capsys, prepare, switch, said):
    monkeypatch.setenv("SDI_PLUGIN_NNUNET", switch)
    prepare(monkeypatch)
    assert main(["nnunet", "status"]) == 1
    assert f"\n{said}" in capsys.readouterr().out


@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "enabled"])
def test_status_says_that_it_is_on(site, monkeypatch, capsys, by_hand):
    if by_hand:
        monkeypatch.setenv("nnUNet_extTrainer", FOLDER)
    else:
        startup.enable()
    assert main(["nnunet", "status"]) == 0
    assert "\non: nnUNetv2_train" in capsys.readouterr().out


def test_enable_leaves_nothing_where_python_reads_no_startup_files(site, monkeypatch, capsys):
    """The folder of pip install --target is on the path, and none of site-packages."""
    monkeypatch.setattr(startup, "_new_process", lambda code: [sys.executable, "-S", "-c", code])
    assert main(["nnunet", "enable"]) == 2
    assert "Python reads no start-up files in" in capsys.readouterr().err
    assert sorted(path.name for path in site.iterdir()) == ["sdi_plugin-0.dist-info"]


def test_a_folder_that_cannot_be_written_is_an_error_with_the_way_out(site, monkeypatch, capsys):
    monkeypatch.setattr(startup, "_site_packages", lambda: (site / "missing", None))
    assert main(["nnunet", "enable"]) == 2
    assert f"By hand: export nnUNet_extTrainer={FOLDER}" in capsys.readouterr().err


def test_the_folder_for_nnunet_holds_one_module():
    assert [path.name for path in Path(FOLDER).iterdir() if path.suffix == ".py"] == ["sdi_plugin_trainers.py"]


def test_run_knows_the_trainers_and_planners(monkeypatch, capsys):
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.utilities import find_objects

    from sdi_plugin.adapters.nnunet import nnUNetPlannerUNetV2ResEncM

    for module in (api, find_objects):
        monkeypatch.setattr(module, "recursive_find_python_class", module.recursive_find_python_class)
    command.register()
    trainer = find_objects.recursive_find_trainer_class_by_name("nnUNetTrainerUNetV2_5epochs")
    assert trainer.__module__ == "sdi_plugin.adapters.nnunet.variants"
    planner = api.recursive_find_python_class("", "nnUNetPlannerUNetV2ResEncM", current_module="")
    assert planner is nnUNetPlannerUNetV2ResEncM
    with pytest.raises(SystemExit, match="0"):
        main(["nnunet", "run", "nnUNetv2_plan_experiment", "-h"])
    assert "-gpu_memory_target" in capsys.readouterr().out


def test_run_lists_the_existing_commands(capsys):
    assert main(["nnunet", "run", "nnUNetv2_trian"]) == 2
    assert "nnUNetv2_train," in capsys.readouterr().err
