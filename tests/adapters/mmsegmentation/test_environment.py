"""Importing the adapter: mmcv-lite's missing ops, versions, what is not installed."""

import importlib
import subprocess
import sys

import mmcv
import mmengine
import pytest
from mmengine.utils.dl_utils import mmcv_full_available

import sdi_plugin.adapters.mmsegmentation as adapter
from sdi_plugin.adapters.mmsegmentation import environment

import mmseg


def run(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_importing_registers_every_class():
    from mmseg import registry

    known = {
        name: getattr(registry, found).get(name)
        for found in ("MODELS", "DATASETS", "METRICS", "TRANSFORMS", "HOOKS", "OPTIM_WRAPPER_CONSTRUCTORS")
        for name in adapter.__all__
        if getattr(registry, found).get(name) is not None
    }
    assert known == {name: getattr(adapter, name) for name in adapter.__all__}
    assert adapter.__all__ == sorted(adapter.__all__)


def test_mmcv_lite_is_told_apart_from_the_full_one_and_its_ops_say_what_they_need():
    from mmcv.ops import sigmoid_focal_loss  # what mmseg imports whether it is used or not

    ops = sys.modules["mmcv._ext"]
    if not isinstance(ops, environment._MissingOps):
        pytest.skip("the full mmcv is installed here: nothing stands in for its ops")
    assert not mmcv_full_available()
    assert callable(sigmoid_focal_loss)
    with pytest.raises(RuntimeError, match="op nms_forward needs the full mmcv.*mim install"):
        ops.nms_forward()
    with pytest.raises(AttributeError):
        _ = ops.__nothing__


def test_a_full_mmcv_stays_as_it_is():
    code = (
        "import sys; from importlib.machinery import ModuleSpec; from types import ModuleType\n"
        "class Ops(ModuleType):\n"
        "    def __getattr__(self, name):\n"
        "        if name.startswith('__'): raise AttributeError(name)\n"
        "        return lambda *a: None\n"
        "full = sys.modules['mmcv._ext'] = Ops('mmcv._ext'); full.__spec__ = ModuleSpec('mmcv._ext', object())\n"
        "import sdi_plugin.adapters.mmsegmentation, mmseg.apis\n"
        "from mmengine.utils.dl_utils import mmcv_full_available\n"
        "print(sys.modules['mmcv._ext'] is full, mmcv_full_available())"
    )
    assert run(code) == "True True"


@pytest.mark.parametrize(
    ("module", "version", "message"),
    [
        (mmengine, "0.9.1", "expected mmengine >=0.10.7,<0.11, got 0.9.1"),
        (mmcv, "2.0.1", "expected mmcv >=2.1,<2.2 or >=2.3,<2.4, got 2.0.1"),
        (mmseg, "1.3.0", "expected mmseg ==1.2.2 or >=1.4,<1.5, got 1.3.0"),
        (mmseg, "unknown", "got unknown"),
    ],
    ids=["mmengine", "mmcv", "mmseg", "nonsense"],
)
def test_another_version_is_an_error_with_the_range(monkeypatch, module, version, message):
    monkeypatch.setattr(module, "__version__", version)
    with pytest.raises(ImportError, match=f"{message}.*pip install 'sdi-plugin"):
        environment.prepare()


@pytest.mark.parametrize("missing", ["mmengine", "mmcv", "mmseg"])
def test_what_is_missing_is_named_with_the_extra(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"needs {missing} .*pip install 'sdi-plugin\[mmseg\]'"):
        environment.prepare()


def test_mmsegs_own_version_check_is_reported_with_the_cure(monkeypatch):
    def refuse(name):
        raise AssertionError("MMCV==2.2.0 is used but incompatible.")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ImportError, match="MMCV==2.2.0 is used but incompatible.*pip install"):
        environment._import("mmseg")
