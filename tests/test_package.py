"""The package as a newcomer meets it: what it exports, what the documents say, how fast it imports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sdi_plugin
from sdi_plugin import checkpoint, data, losses, metrics, ops
from sdi_plugin.adapters import mmsegmentation, nnunet, smp

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MODULES = [sdi_plugin, ops, checkpoint, data, losses, metrics, mmsegmentation, nnunet, smp]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_api_document_lists_exactly_the_public_names(module):
    document = (ROOT / "docs" / "api.md").read_text()
    section = re.search(rf"^## `{re.escape(module.__name__)}`\n(.*?)(?=^## |\Z)", document, re.DOTALL | re.MULTILINE)
    assert section, f"docs/api.md has no section for {module.__name__}"
    assert sorted(re.findall(r"^\| `(\w+)", section[1], re.MULTILINE)) == sorted(module.__all__)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_names_exist_and_are_documented(module):
    for name in module.__all__:
        value = getattr(module, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[f"snippet-{i}" for i in range(len(SNIPPETS))])
def test_readme_snippet_runs(snippet):
    result = subprocess.run([sys.executable, "-W", "error", "-W", "ignore::FutureWarning", "-c", snippet], cwd=ROOT)
    assert result.returncode == 0


def test_readme_has_a_snippet_for_each_supported_way():
    text = "\n".join(SNIPPETS)
    assert 'smp.create_model(\n    "unetv2"' in text
    assert "from sdi_plugin import" in text


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


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
    """Also not in the code that a test hands to a process of its own: what tests share is in support modules."""
    pattern = re.compile(
        r"\bfrom\s+[\w.]*\btest_\w+\s+import|\bfrom\s+(?:tests|\.)[\w.]*\s+import[^;\n]*\btest_|\bimport\s+[\w.]*\btest_"
    )
    found = {
        f"{path.relative_to(ROOT)}: {line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in pattern.findall(path.read_text())
    }
    assert not found
