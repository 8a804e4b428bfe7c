"""The wheel, as `mim` uses it: search, train, test and resuming after a kill, in processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from tests.adapters.mmsegmentation import process as mmseg_process
from tests.adapters.mmsegmentation import samples as given

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The unpacked wheel: first on the path of every process here, it acts as the installed package."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("sdi_plugin", "adapters", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), "."]
    subprocess.run(build, cwd=source, check=True)
    (file,) = folder.glob("*.whl")
    zipfile.ZipFile(file).extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    given.write_dataset(folder / "data" / "isic2018", [f"ISIC_{i}" for i in range(6)])
    return folder


def mim(wheel: Path, folder: Path, *arguments: str, **options):
    return mmseg_process.mim(sys.executable, folder, *arguments, PYTHONPATH=str(wheel), **options)


def train(wheel: Path, folder: Path, work_dir: str, *more: str, **options):
    arguments = ("unetv2_pvt_b0_isic.py", "--work-dir", work_dir, *more, "--cfg-options", *mmseg_process.SMALL)
    return mim(wheel, folder, "train", "sdi-plugin", *arguments, **options)


def scores(folder: Path) -> list[float]:
    """The DSC of every validation, by iteration."""
    files = sorted(folder.rglob("scalars.json"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line["DSC"] for line in lines if "DSC" in line]


def test_search_lists_every_config_that_the_wheel_holds(wheel, folder):
    listed = mim(wheel, folder, "search", "sdi-plugin", "--valid-config")
    names = sorted(path.stem for path in (wheel / "sdi_plugin" / ".mim" / "configs").glob("*.py"))
    assert names == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    assert all(f"'{name}'" in listed for name in names)
    assert "sdi-plugin" in mim(wheel, folder, "list")


def test_trains_tests_and_resumes_after_a_kill(wheel, folder):
    train(wheel, folder, "unbroken")
    process = train(wheel, folder, "killed", background=True)
    while not list((folder / "killed").glob("iter_2?.pth")):
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "killed" / "iter_40.pth").exists()
    train(wheel, folder, "killed", "--resume")
    expected, found = (torch.load(folder / name / "iter_40.pth")["state_dict"] for name in ("unbroken", "killed"))
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert scores(folder / "killed")[-1] == scores(folder / "unbroken")[-1]

    options = (
        "--checkpoint",
        "unbroken/iter_40.pth",
        "--work-dir",
        "tested",
        "--show-dir",
        "tested/show",
        "--out",
        "out",
    )
    for more in ((), ("--tta",)):
        arguments = ("unetv2_pvt_b0_isic.py", *options, *more, "--cfg-options", *mmseg_process.SMALL)
        assert "DSC" in mim(wheel, folder, "test", "sdi-plugin", *arguments)
    assert len(list((folder / "tested").rglob("*.png"))) >= 6
    assert sorted(path.stem for path in (folder / "out").iterdir()) == [f"ISIC_{i}" for i in range(6)]


def test_runs_mmsegs_scripts(wheel, folder):
    config = str(wheel / "sdi_plugin" / ".mim" / "configs" / "unetv2_pvt_b0_isic.py")
    assert "Params: 3.636M" in mim(wheel, folder, "run", "sdi-plugin", "get_flops", config, "--shape", "64")
    assert "elsewhere" in mim(
        wheel, folder, "run", "sdi-plugin", "print_config", config, "--cfg-options", "data_root=elsewhere"
    )
