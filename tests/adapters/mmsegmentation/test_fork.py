"""The same commands with the maintained fork of MMSegmentation, in an environment of its own."""

import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
import torch

from tests.adapters.mmsegmentation import process as mmseg_process
from tests.adapters.mmsegmentation import samples as given  # which lets this process read what mmengine writes

FORK = ["onedl-mmsegmentation==1.4.2", "onedl-mmcv==2.3.6", "onedl-mmengine==0.10.12", "onedl-mim==0.5.1"]
CONFIG = str(Path(__file__).parents[3] / "configs" / "unetv2_pvt_b0_isic.py")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """An interpreter with the fork; torch and everything else come from the environment of the tests, after the
    fork."""
    folder = tmp_path_factory.mktemp("fork")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps", *FORK]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"pip cannot install the fork here: {installed.stderr[-300:]}")
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "tests.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return python


def test_the_adapter_imports_without_a_stand_in_for_ops(python):
    code = (
        "import sys, sdi_plugin.adapters.mmsegmentation, mmseg.apis, mmcv, mmengine\n"
        "from mmengine.utils.dl_utils import mmcv_full_available\n"
        "print(mmseg.__version__, mmcv.__version__, mmengine.__version__, 'mmcv._ext' in sys.modules)"
    )
    found = subprocess.run([python, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "1.4.2 2.3.6 0.10.12 False"


def test_trains_resumes_and_tests(python, tmp_path):
    given.write_dataset(tmp_path / "data" / "isic2018", [f"ISIC_{i}" for i in range(6)])
    small = [*mmseg_process.SMALL, "train_cfg.val_interval=4"]

    def train(work_dir: str, iterations: int, *more: str) -> None:
        arguments = ("--work-dir", work_dir, *more, "--cfg-options", *small, f"train_cfg.max_iters={iterations}")
        mmseg_process.mim(python, tmp_path, "train", "mmseg", CONFIG, *arguments)

    train("work", 4)
    train("work", 8, "--resume")
    assert torch.load(tmp_path / "work" / "iter_8.pth")["meta"]["iter"] == 8
    arguments = ("--checkpoint", "work/iter_8.pth", "--work-dir", "tested", "--show-dir", "tested/show")
    printed = mmseg_process.mim(python, tmp_path, "test", "mmseg", CONFIG, *arguments, "--cfg-options", *small)
    assert "DSC" in printed
    assert len(list((tmp_path / "tested").rglob("*.png"))) >= 6
