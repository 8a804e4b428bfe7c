"""Every public name has an example in its docstring, as the reference shows it, and the example runs."""

import doctest
import importlib
import shutil

import pytest

from tests.docs.pages import ROOT
from tests.docs.stand_ins import provide

MODULES = {  # and what it needs
    "sdi_plugin": "timm",
    "sdi_plugin.checkpoint": "timm",
    "sdi_plugin.data": "PIL",
    "sdi_plugin.deploy": "timm",
    "sdi_plugin.losses": "torch",
    "sdi_plugin.metrics": "scipy",
    "sdi_plugin.ops": "torch",
    "sdi_plugin.adapters.mmsegmentation": "mmengine",
    "sdi_plugin.adapters.nnunet": "nnunetv2",
    "sdi_plugin.adapters.smp": "segmentation_models_pytorch",
}


@pytest.mark.parametrize("module", MODULES)
def test_the_example_of_every_public_name_runs(module, tmp_path, monkeypatch):
    pytest.importorskip(MODULES[module])
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    imported = importlib.import_module(module)
    for name in imported.__all__:
        value = getattr(imported, name)
        if callable(value):  # not __version__ and other constants
            _run_example(f"{module}.{name}", value.__doc__ or "", tmp_path)


def _run_example(name, docstring, folder):
    assert "\n    Examples:\n" in docstring, f"{name} has no Examples section"
    provide(docstring, folder)
    test = doctest.DocTestParser().get_doctest(docstring, {}, name, None, 0)
    assert test.examples, f"{name}: the section has no example"
    output = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)
