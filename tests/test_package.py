"""The package as a newcomer meets it: what it exports, what the documents say, how fast it imports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sdi_plugin
from sdi_plugin import checkpoint, data, deploy, losses, metrics, ops
from sdi_plugin.adapters import mmsegmentation, nnunet, smp

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MODULES = [sdi_plugin, ops, checkpoint, data, deploy, losses, metrics, mmsegmentation, nnunet, smp]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_reference_has_a_page_for_each_public_module(module):
    pages = [page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md")]
    assert len([page for page in pages if re.search(rf"^::: {re.escape(module.__name__)}$", page, re.MULTILINE)]) == 1


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_names_exist_and_are_documented(module):
    for name in module.__all__:
        value = getattr(module, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[f"snippet-{i}" for i in range(len(SNIPPETS))])
def test_readme_snippet_runs(snippet):
    result = subprocess.run([sys.executable, "-W", "error", "-W", "ignore::FutureWarning", "-c", snippet], cwd=ROOT)
    assert result.returncode == 0


def test_readme_is_a_landing_page():
    assert len(README.splitlines()) < 150
    for word in ('smp.create_model("unetv2"', "UNetV2Head", "-tr nnUNetTrainerUNetV2", "from sdi_plugin import"):
        assert word in README, word
    for command in ("make demo", "make test", "pip install 'sdi-plugin[smp]'", "pip install -e '.[smp]'"):
        assert f"\n{command}" in README, command


def test_importing_takes_under_50_ms_beyond_torch():
    code = "import time, torch; t = time.process_time(); import sdi_plugin; print(time.process_time() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.05


def test_the_core_imports_torch_and_nothing_else():
    code = (
        "import sys, torch; before = set(sys.modules); import sdi_plugin; "
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() in ("['sdi_plugin']", "['sdi_plugin', 'torch']")


def test_no_test_module_imports_another():
    """Nor does the code that a test passes to a process of its own: what tests share is in support modules."""
    pattern = re.compile(
        r"\bfrom\s+[\w.]*\btest_\w+\s+import|\bfrom\s+(?:tests|\.)[\w.]*\s+import[^;\n]*\btest_|\bimport\s+[\w.]*\btest_"
    )
    found = {
        f"{path.relative_to(ROOT)}: {line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in pattern.findall(path.read_text())
    }
    assert not found
