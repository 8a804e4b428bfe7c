"""Supported versions: the table, pyproject.toml and constraints.txt say the same."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sdi_plugin import frameworks
from sdi_plugin.frameworks import FRAMEWORKS, LIBRARIES, Package

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = (*FRAMEWORKS, *LIBRARIES)
INSTALLED = [package for package in PACKAGES if not package.distribution.startswith("onedl-")]
packages = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.distribution)


def requirements(lines: list[str]) -> dict[str, SpecifierSet]:
    return {parsed.name: parsed.specifier for parsed in map(Requirement, lines)}


@pytest.mark.parametrize("package", INSTALLED, ids=lambda package: package.distribution)
def test_an_extra_installs_what_its_adapter_takes(package: Package):
    extra = requirements(PROJECT["optional-dependencies"][package.extra])
    assert extra[package.distribution] == SpecifierSet(package.versions)


def test_torch_is_required_in_the_versions_that_are_supported():
    assert requirements(PROJECT["dependencies"]) == {"torch": SpecifierSet(frameworks.TORCH)}


@pytest.mark.parametrize(("version", "taken"), [("2.3.1+cpu", False), ("1.13.1", False), ("2.4.0", True), ("", True)])
def test_an_older_torch_is_refused_on_import(tmp_path: Path, version: str, taken: bool):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemError('the package need not import torch')\n")
    (tmp_path / "torch" / "version.py").write_text(f"__all__ = ['__version__']\n__version__ = '{version}'\n")
    command = [sys.executable, "-c", "import sdi_plugin"]
    found = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    said = f"expected torch {frameworks.TORCH}, got {version}. Install a supported version: pip install 'torch>=2.4'"
    assert (found.returncode == 0) is taken, found.stderr
    assert taken or said in found.stderr


def test_the_tested_environment_is_supported():
    lines = (line.partition(";")[0] for line in (ROOT / "constraints.txt").read_text().splitlines())
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert pins["torch"] in SpecifierSet(frameworks.TORCH)
    unsupported = [p.distribution for p in INSTALLED if not p.supports(pins[p.distribution].strip())]
    assert unsupported == []


@pytest.mark.parametrize(
    ("name", "package"),
    list(
        zip(
            ("segmentation_models_pytorch|smp", "MMSegmentation", "onedl-mmsegmentation", "nnU-Net v2"),
            FRAMEWORKS,
            strict=True,
        )
    ),
    ids=("smp", "mmseg", "onedl", "nnunet"),
)
def test_documents_name_supported_versions(name: str, package: Package):
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = [found for page in pages for found in re.findall(rf"(?:{name})[ |`]+(\d+\.[\d.]*\d)", page.read_text())]
    assert named
    assert [version for version in named if not package.supports(version)] == []


@packages
def test_its_adapter_is_there(package: Package):
    assert importlib.util.find_spec(package.adapter)


@pytest.mark.parametrize(
    ("module", "taken", "refused", "ranges"),
    [
        ("segmentation_models_pytorch", ["0.5", "0.5.1", "0.6.0+x"], ["0.4.9", "0.7.0rc1", "0.10.0"], ">=0.5,<0.7"),
        ("mmseg", ["1.2.2", "1.4.0", "1.4.2"], ["1.1.0", "1.2.1", "1.3.0", "1.5.0"], "==1.2.2 or >=1.4,<1.5"),
        ("mmcv", ["2.1.0", "2.3.6"], ["2.0.1", "2.2.0", "2.4.0"], ">=2.1,<2.2 or >=2.3,<2.4"),
        ("mmengine", ["0.10.7", "0.10.12"], ["0.9.1", "0.10.6", "0.11.0"], ">=0.10.7,<0.11"),
        ("nnunetv2", ["2.6.2", "2.8.1"], ["2.5", "2.9.0", "2.60"], ">=2.6,<2.9"),
    ],
    ids=["smp", "mmseg", "mmcv", "mmengine", "nnunet"],
)
def test_a_version_is_taken_or_refused_with_the_range_and_the_cure(module, taken, refused, ranges):
    for version in taken:
        frameworks.check(module, version)
    for version in (*refused, "unknown"):
        with pytest.raises(ImportError) as caught:
            frameworks.check(module, version)
        assert f"expected {module} {ranges}, got {version}. Install a supported version: pip" in str(caught.value)
