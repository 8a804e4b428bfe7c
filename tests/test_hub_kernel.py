"""sdi_plugin.ops as a kernel of the Hugging Face hub, by that library's own reading of it."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdi_plugin.ops import cpu, reference

ROOT = Path(__file__).parents[1]
LIBRARIES = {"torch", "triton"}  # triton comes with torch where there is a GPU


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    out = tmp_path_factory.mktemp("hub")
    kernel = [] if cpu.reason() else [cpu.library._name]
    subprocess.run([sys.executable, str(ROOT / ".ci" / "hub.py"), str(out), *kernel], check=True)
    return out


def variants(repository):
    return sorted((repository / "build").iterdir())


def test_it_imports_torch_the_standard_library_and_itself(repository):
    for file in repository.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            roots = {str(name).partition(".")[0] for name in names}
            assert roots <= LIBRARIES | sys.stdlib_module_names, (file, roots)


def test_the_metadata_and_the_hashes_are_right(repository):
    rust = pytest.importorskip("kernels._rust")
    for variant in variants(repository):
        metadata = rust.Metadata.read_from_file(variant / "metadata.json")
        assert metadata.id.startswith("_sdi_")
        metadata.digest.validate(rust.Digest.hash_variant(rust.DigestAlgorithm.SHA256, variant))
    rust.Build.open(repository)


def load(name, file):
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_variant_computes_beside_the_package(repository):
    """In one process: no op is registered twice. Loaded as the library does, which asks the hub for nothing here."""
    xs = [torch.randn(1, 8, 17, 12), torch.randn(1, 8, 9, 6)]
    weights, biases = list(torch.randn(4, 8, 8, 3, 3) / 8), [torch.ones(8)] * 4
    expected = reference.resize_smooth_multiply_stage(xs, weights, biases, [0, 1])
    for number, variant in enumerate(variants(repository)):
        module = load(f"_sdi_test_{number}", variant / "__init__.py")
        assert module.backends()["cpu"]["available"] == ("-cpu-" in variant.name)
        torch.testing.assert_close(module.resize_smooth_multiply_stage(xs, weights, biases, [0, 1]), expected)
        compiled = torch.ops.__getattr__(module.library._NAME.partition("::")[0])
        assert hasattr(compiled, "resize_smooth_multiply_stage")


def test_older_versions_find_the_folder_of_its_name(repository):
    module = load("_sdi_older", variants(repository)[-1] / "sdi" / "__init__.py")
    assert "resize_smooth_multiply_stage" in module.__all__
    assert module.backends()["reference"]["available"]
